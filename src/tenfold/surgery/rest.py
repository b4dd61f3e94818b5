"""Biases, norms and other vectors of a network in 16 bits."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tenfold.layers import FactoredWeight
from tenfold.surgery.plan import Plan


def vectors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers of one dimension in float32, each once; cores aside."""
    inside = {id(part) for module in model.modules() if isinstance(module, FactoredWeight) for part in module.modules()}
    seen: set[int] = set()
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None or id(module) in inside or id(tensor) in seen:
                continue
            if tensor.ndim == 1 and tensor.dtype == torch.float32:
                seen.add(id(tensor))
                yield tensor


def spared(model: nn.Module, plan: Plan) -> int:
    """Bytes that 16 bits save of parameters, where the plan gives them to the rest of this dense network."""
    if plan.rest_bits is None:
        return 0
    return sum(vector.numel() * 2 for vector in vectors(model) if isinstance(vector, nn.Parameter))


@torch.no_grad()
def shortened(model: nn.Module, plan: Plan) -> nn.Module:
    """The network, changed in place: where the plan gives the rest 16 bits, vectors at the nearest numbers of float16.

    Of bfloat16 where one of them is too large for that. Training moves them away again, and they are then stored whole.
    """
    for vector in vectors(model) if plan.rest_bits == 16 else ():
        short = vector.half()
        vector.copy_(short if short.isfinite().all() else vector.bfloat16())
    return model
