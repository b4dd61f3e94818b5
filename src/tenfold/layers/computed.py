"""Weights that a module computes from other parameters: norms, masks, parametrisations."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

PARTS = ("{}_g", "{}_v", "{}_orig")  # what torch's hooks (weight_norm, spectral_norm, pruning) keep instead of a weight


def origins(module: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters by name that a module computes a weight from; the weight itself where it is one."""
    own = module._parameters.get(name)
    if own is not None:
        return {name: own}
    if parametrize.is_parametrized(module, name):
        place = f"parametrizations.{name}"
        return dict(module.get_submodule(place).named_parameters(prefix=place))
    parts = {pattern.format(name): module._parameters.get(pattern.format(name)) for pattern in PARTS}
    return {key: part for key, part in parts.items() if part is not None}


def effective(module: nn.Module, name: str) -> Tensor:
    """The weight as the module applies it, computed where it is; nothing that the module keeps changes.

    Raises: AttributeError if the module has no such weight.
    """
    own = module._parameters.get(name)
    if own is not None:
        return own.detach()
    with torch.no_grad():
        if parametrize.is_parametrized(module, name):
            weight: Tensor = evaluated(module.get_submodule(f"parametrizations.{name}"))
            return weight.detach()
        for hook in hooks(module, name):
            if hasattr(hook, "apply_mask"):  # pruning
                masked: Tensor = hook.apply_mask(module)
                return masked.detach()
            spectral = {"do_power_iteration": False} if hasattr(hook, "n_power_iterations") else {}
            normed: Tensor = hook.compute_weight(module, **spectral)
            return normed.detach()
    raise AttributeError(f"{type(module).__name__} has no weight '{name}'.")


def evaluated(part: nn.Module) -> Tensor:
    """A parametrisation's weight in eval mode: one that iterates (spectral norm) then leaves its buffers alone."""
    modes = [(module, module.training) for module in part.modules()]
    part.eval()
    try:
        weight: Tensor = part()
    finally:
        for module, mode in modes:
            module.training = mode
    return weight


def hooks(module: nn.Module, name: str | None = None) -> Iterator[Any]:
    """The forward pre-hooks of a module that compute one of its weights; of any where none is named."""
    for hook in module._forward_pre_hooks.values():
        target = getattr(hook, "_tensor_name", None) or getattr(hook, "name", None)
        computes = hasattr(hook, "compute_weight") or hasattr(hook, "apply_mask")
        if computes and (target == name or name is None):
            yield hook
