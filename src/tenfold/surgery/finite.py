"""NaN and infinity in a network, refused before they reach anything that is computed from them."""

import math

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tenfold.protocols import TenfoldError


def check_finite(model: nn.Module) -> None:
    """Refuse a network with a number that is not one; minus infinity in a buffer is a mask's, and allowed.

    Raises: TenfoldError that names the first tensor, how many such numbers it has, and what to do; or one that has no
        numbers yet.
    """
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in tensors:
            if is_lazy(tensor) or tensor.is_meta:
                raise TenfoldError(
                    f"{kind} '{name}' has no numbers yet; run the network on an input, or give it weights, first."
                )
            if not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            count = wrong(tensor.detach(), mask=kind == "buffer")
            if count:
                raise TenfoldError(
                    f"{kind} '{name}' has {count} of {tensor.numel()} numbers that are NaN or infinite; "
                    "load weights from before they were lost."
                )


def wrong(tensor: Tensor, *, mask: bool) -> int:
    """How many numbers are NaN or infinite; minus infinity left out for a mask."""
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # (float8 has no tests of its own)
    bad = ~torch.isfinite(wide)
    if mask and not wide.is_complex():
        bad &= wide != -math.inf
    return int(bad.sum())
