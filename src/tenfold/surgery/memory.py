"""Tensors that look into the memory of a network's parameters, without being parameters of its modules."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tenfold.surgery.references import outside

Beside = Mapping[object, list[tuple[str, str, Tensor]]]  # (module, attribute, tensor) by the tensor's memory


def beside(model: nn.Module) -> Beside:
    """The buffers, and the tensors outside the tree, parameters among them."""
    found: dict[object, list[tuple[str, str, Tensor]]] = {}
    buffers = ((name, key, part) for name, module in model.named_modules() for key, part in module._buffers.items())
    for name, key, kept in chain(outside(model), buffers):
        value = tensor_on(kept) if isinstance(kept, np.ndarray) else kept
        if isinstance(value, Tensor):
            found.setdefault(memory(value), []).append((name, key, value))
    return found


def tensor_on(array: "np.ndarray[Any, Any]") -> Tensor | None:
    """A tensor on the memory of an array; None where torch has no such numbers."""
    if array.dtype.kind not in "fiubc" or not array.flags.writeable or not array.size:
        return None
    whole = array if array.base is None or not isinstance(array.base, np.ndarray) else array.base
    return torch.from_numpy(whole) if min(whole.strides, default=1) >= 0 else None


def looking_into(parameter: Tensor, kept: Beside) -> Iterator[tuple[str, str, Tensor]]:
    """Those that are a parameter, or have numbers in common with it: what replaces it must reach them, too."""
    for name, key, tensor in kept.get(memory(parameter), ()):
        if tensor is parameter or (tensor.data_ptr() < end(parameter) and parameter.data_ptr() < end(tensor)):
            yield name, key, tensor


def memory(tensor: Tensor) -> object:
    """Equal for tensors that have one memory; the tensor's own identity where it has none."""
    if tensor.is_meta or is_lazy(tensor) or tensor.layout is not torch.strided or not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.untyped_storage().data_ptr()


def end(tensor: Tensor) -> int:
    """The address behind a tensor's last number."""
    steps = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr() + (steps + 1) * tensor.element_size()


def views(parameter: Tensor, copy: Tensor, kept: Beside) -> dict[Tensor, Tensor]:
    """What looks into a copy as tensors beside a parameter look into it; without those that look further."""
    found = {}
    for _, _, tensor in looking_into(parameter, kept):
        inside = parameter.data_ptr() <= tensor.data_ptr() and end(tensor) <= end(parameter)
        if (
            tensor is not parameter
            and inside
            and (tensor.dtype, copy.stride()) == (parameter.dtype, parameter.stride())
        ):
            start = copy.storage_offset() + tensor.storage_offset() - parameter.storage_offset()
            found[tensor] = copy.detach().as_strided(tensor.shape, tensor.stride(), start)
    return found
