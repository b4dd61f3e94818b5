"""NaN and infinity: found before they spoil what they touch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tenfold.inputs import tensors_in
from tenfold.surgery.finite import wrong


def spoiled(value: Any) -> bool:
    """Whether a tensor in lists, tuples and mappings holds NaN or infinity; minus infinity is a mask's, and allowed."""
    return any(
        wrong(tensor.detach(), mask=True) > 0
        for tensor in tensors_in(value)
        if tensor.layout == torch.strided and (tensor.is_floating_point() or tensor.is_complex())
    )


def because(inputs: Any, otherwise: str) -> str:
    """The end of a sentence on a batch that spoils what it touches: its inputs do, or otherwise."""
    return (
        ": its inputs hold NaN or infinity; leave it out, or mend the data." if spoiled(inputs) else f", {otherwise}."
    )


def finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether every number is finite: a truth value on their device, which is not waited for."""
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    return torch.cat(flat).isfinite().all() if flat else torch.tensor(True)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number is finite."""
    return bool(finite(tensors))
