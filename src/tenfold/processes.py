"""The processes of `torch.distributed` that share one run, as `torchrun` starts them; mostly there is one."""

from typing import TypeVar, cast

from torch import distributed

Value = TypeVar("Value")


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def several() -> bool:
    """Whether there is more than one process."""
    return count() > 1


def rank() -> int:
    """The number of this process among them; the first, 0, is the one that writes and speaks."""
    return distributed.get_rank() if several() else 0


def gathered(value: Value) -> list[Value]:
    """The value that every process has, in the order of their ranks; all processes must call it."""
    if not several():
        return [value]
    found: list[Value | None] = [None] * count()
    distributed.all_gather_object(found, value)
    return cast("list[Value]", found)  # all are filled


def agreed(value: Value) -> Value:
    """The first process's value, where each has found one by itself (by its clock); all processes must call it."""
    return gathered(value)[0]
