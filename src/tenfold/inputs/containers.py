"""Containers that tensors come in: walked, and made anew of other parts."""

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Test = Callable[[Any], bool]


def held(value: Any) -> Mapping[Any, Any] | None:
    """What a mapping, a list, a tuple or a dataclass holds, by name or place; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "_asdict"):  # a named tuple
        return dict(value._asdict())
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    return None


def refilled(value: Any, parts: Mapping[Any, Any]) -> Any:
    """A container of the same kind, with these parts under its keys."""
    if isinstance(value, tuple | list):
        return type(value)(*parts.values()) if hasattr(value, "_fields") else type(value)(parts.values())
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return dict(parts)
    other = copy.copy(value)
    for key, part in parts.items():
        if isinstance(other, MutableMapping):
            other[key] = part
        else:
            object.__setattr__(other, key, part)  # of a frozen dataclass, too
    return other


def never(value: Any) -> bool:
    """No container is taken as a whole."""
    del value
    return False


def mapped(change: Callable[[Any], Any], value: Any, whole: Test = never) -> Any:
    """The value with all that is no container changed, in order; containers keep their kind.

    Args: whole: which containers are changed as they are, not walked.
    """
    parts = None if whole(value) else held(value)
    if parts is None:
        return change(value)
    return refilled(value, {key: mapped(change, part, whole) for key, part in parts.items()})


def leaves(value: Any, whole: Test = never) -> Iterator[Any]:
    """All that is no container, in order; `whole` as in `mapped`."""
    parts = None if whole(value) else held(value)
    if parts is None:
        yield value
        return
    for part in parts.values():
        yield from leaves(part, whole)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in whatever containers, in order."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, Tensor))


def to_device(value: Any, device: torch.device | str) -> Any:
    """The tensors of a value on a device, in whatever containers they come, and what moves as a whole (`to`)."""
    return mapped(
        lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf,
        value,
        whole=lambda container: isinstance(container, PackedSequence),  # whose sizes stay on the CPU
    )
