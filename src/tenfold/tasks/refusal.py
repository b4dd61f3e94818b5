"""Outputs and targets that a task does not take, and what would work instead."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tenfold.protocols import TenfoldError
from tenfold.tasks.base import Task
from tenfold.tasks.classes import is_whole
from tenfold.tasks.registry import TASKS

MENDS: dict[str, Callable[[Tensor], Tensor | None]] = {  # what could be done to targets; None: not to these
    "targets.squeeze(1)": lambda t: t.squeeze(1) if t.ndim > 1 and t.shape[1] == 1 else None,
    "targets.unsqueeze(1)": lambda t: t.unsqueeze(1) if t.ndim else None,
    "targets.argmax(1)": lambda t: t.argmax(1) if t.ndim > 1 and is_one_hot(t, 1) else None,
    "targets.argmax(-1)": lambda t: t.argmax(-1) if t.ndim > 2 and is_one_hot(t, -1) else None,
    "targets.long()": lambda t: t.long() if not t.is_complex() and (t == t.long()).all() else None,
    "targets.float()": lambda t: t.float() if is_whole(t) else None,
}


def expect(task: Task, outputs: Any, targets: Any) -> None:
    """Raise a TenfoldError unless the task takes these outputs and targets."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor) and task.suits(outputs, targets)):
        raise TenfoldError(
            f"task '{task.name}' takes floating outputs {task.outputs} with targets {task.targets}, not outputs "
            f"{said(outputs)} with targets {said(targets)}; {way_out(task, outputs, targets)}."
        )
    if objection := task.objection(outputs, targets):
        raise TenfoldError(f"task '{task.name}': {objection}")


def way_out(task: Task, outputs: Any, targets: Any) -> str:
    """Targets that would fit, tasks that take what was given, or tasks that take targets which were mended."""
    own = "give Data a loss and a score of your own"
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return own
    mended = {name: those for name, mend in MENDS.items() if (those := mend(targets)) is not None}
    others = [other for other in TASKS.values() if other.name != task.name]
    ways = [f"give {name}" for name, those in mended.items() if takes(task, outputs, those)]
    ways += [f"choose task='{other.name}'" for other in others if takes(other, outputs, targets)]
    ways = ways or [
        f"choose task='{other.name}' with {name}"
        for other in others
        for name, those in mended.items()
        if takes(other, outputs, those)
    ]
    return " or ".join(ways) or own


def takes(task: Task, outputs: Tensor, targets: Tensor) -> bool:
    """Whether shapes, types and values are those of the task."""
    return task.suits(outputs, targets) and not task.objection(outputs, targets)


def is_one_hot(targets: Tensor, axis: int) -> bool:
    """Whether one entry along an axis is 1 and all others are 0."""
    return bool(((targets == 0) | (targets == 1)).all() & (targets.sum(dim=axis) == 1).all())


def said(value: Any) -> str:
    """`(2, 3) float32`, or the type of what is no tensor."""
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
