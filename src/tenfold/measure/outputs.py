"""How far the outputs of one network went from those of another on the same inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import device_of, evaluating, run, to_device
from tenfold.inputs.containers import held


@dataclass(frozen=True)
class OutputError:
    """How far one output went.

    Attributes:
        relative_error: norm of the difference over the norm of what it was; None, as all of them, where the two have
            not the same shape, or nothing in the first is finite.
        cosine: of the angle between the two; 0 where one of them is zeros, 1 where both are.
        agreement: share of the positions at which the same entry along `axis` is the largest; None without one.
        axis: of the entries that are compared: the classes of (n, classes, ..), the last of (n, tokens, entries).
    """

    relative_error: float | None
    cosine: float | None
    agreement: float | None
    axis: int | None


def outputs(model: nn.Module, inputs: Any) -> Any:
    """What a network gives in eval mode without gradients; it is left as it was.

    Raises: TenfoldError if it cannot run on the inputs.
    """
    device = device_of(model)
    with evaluating(model):
        return run(model, inputs if device is None else to_device(inputs, device))


def output_errors(before: Any, after: Any, *, classes: bool = True) -> dict[str, OutputError]:
    """How far every floating tensor of a network's outputs went, by its name in them (`logits`, `1.0`; or `output`).

    Args:
        before, after: a tensor, or tensors in tuples, lists, mappings and dataclasses, however nested.
        classes: whether a largest entry may say something.
    """
    found = dict(named_tensors(after))
    return {
        name: output_error(tensor, found.get(name), classes=classes)
        for name, tensor in named_tensors(before)
        if tensor.is_floating_point() and tensor.numel()
    }


def output_error(before: Tensor, after: Tensor | None, *, classes: bool = True) -> OutputError:
    """How far one tensor went; NaN and infinity are left out in `before` (masked logits), and are zeros in `after`."""
    if after is None or after.shape != before.shape:
        return OutputError(None, None, None, None)
    a, b = (each.detach().cpu().double() for each in (before, after))
    kept = a.isfinite()
    if not kept.any():
        return OutputError(None, None, None, None)
    b = torch.where(kept, b.nan_to_num(0.0, 0.0, 0.0), a)  # where `a` is masked, so is `b`
    axis = entries(a) if classes else None
    same = None if axis is None else float((a.argmax(axis) == b.argmax(axis)).double().mean())
    return OutputError(relative_error(a[kept], b[kept]), cosine(a[kept], b[kept]), same, axis)


def entries(output: Tensor) -> int | None:
    """The axis along which an output's largest entry says something: classes, or what stands for each token."""
    axis = 2 if output.ndim == 3 else 1
    return axis if output.ndim > axis and output.shape[axis] > 1 else None


def cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two vectors (n,); 0 where one of them is zeros, 1 where both are."""
    lengths = a.norm(), b.norm()
    return float(a @ b / (lengths[0] * lengths[1])) if all(lengths) else float(not any(lengths))


def relative_error(before: Tensor, after: Tensor) -> float:
    """Norm of the difference over the norm, in float64; a tensor of zeros counts as one of norm 1."""
    exact = before.detach().cpu().double()
    distance = torch.dist(after.detach().cpu().double(), exact)
    return float(distance / (exact.norm() or 1.0))


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor by the names and places that lead to it."""
    if isinstance(value, Tensor):
        yield name or "output", value
    for key, part in (held(value) or {}).items():
        yield from named_tensors(part, f"{name}.{key}" if name else str(key))
