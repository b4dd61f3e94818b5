"""A part of a network: the modules that patterns match, and all that is in them."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from tenfold.measure.profile import Profile
from tenfold.surgery import matching


def part(profile: Profile, model: nn.Module, of: Sequence[str]) -> Profile:
    """The profile of a part: its weights, all its parameters, the multiply-adds of its weights; no times, no memory.

    Args: of: modules by exact name, glob or `re:` pattern.
    Raises: TenfoldError for a pattern that matches no module.
    """
    names = modules_of(model, of)
    held = {p: None for name, p in model.named_parameters() if is_inside(name, names)}
    layers = {name: row for name, row in profile.layers.items() if is_inside(name, names)}
    return replace(
        profile,
        layers=layers,
        params=sum(p.numel() for p in held),
        bytes=sum(p.numel() * p.element_size() for p in held),
        macs=None if profile.macs is None else sum(row.macs or 0 for row in layers.values()),
        other_macs=None,
        seconds=None,
        peak_memory_bytes=None,
        untaken={name: other for name, other in profile.untaken.items() if is_inside(name, names)},
    )


def modules_of(model: nn.Module, of: Sequence[str]) -> list[str]:
    """The names of the modules that patterns match."""
    known = [name for name, _ in model.named_modules() if name]
    return [name for pattern in of for name in matching(pattern, known)]


def is_inside(name: str, modules: Sequence[str]) -> bool:
    """Whether a parameter, or a row, is one of these modules' or of a module in them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)
