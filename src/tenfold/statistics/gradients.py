"""Gradients of random projections of a network's outputs: their second moment is the Gauss-Newton matrix of the squared
error of the outputs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold.inputs import tensors_in

Outputs = Callable[[Any], Sequence[Tensor]]  # what is compared of a network's outputs, samples first
ALL = "all that is floating"


def floating(outputs: Any) -> list[Tensor]:
    """All that is floating in a network's outputs."""
    return [tensor for tensor in tensors_in(outputs) if tensor.is_floating_point()]


def project(outputs: Sequence[Tensor], generator: torch.Generator) -> None:
    """One backward of a random projection of these outputs; what no gradient reaches is left out."""
    terms = [(y * torch.randn(y.shape, generator=generator).to(y)).sum() for y in outputs if y.requires_grad]
    if terms:
        torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]


def revealed(y: Tensor, see: Callable[[Tensor], None]) -> Tensor:
    """An output, of a module whose parameters may need no gradient, that shows the gradient which reaches it."""
    shown = y if y.requires_grad else y.detach().requires_grad_().clone()
    shown.register_hook(see)  # type: ignore[no-untyped-call]
    return shown
