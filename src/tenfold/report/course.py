"""`CoursePoint`: how the losses of a network went while it was recovered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Protocol, TypeVar

from tenfold.protocols import Progress

POINTS = 60  # of one part that are kept, besides those with a score


@dataclass(frozen=True)
class CoursePoint:
    """One point on the way.

    Attributes:
        part: of the recovery: `blocks`, `epochs`, or what it is called.
        step: 1 to steps, of this part.
        loss: mean over the steps since the point before.
        score: on the validation batches, where it was taken.
    """

    part: str
    step: int
    loss: float
    score: float | None = None


class Lossy(Progress, Protocol):
    """A step of a recovery."""

    @property
    def loss(self) -> float: ...


S = TypeVar("S", bound=Lossy)


def noted(steps: Iterator[S], course: list[CoursePoint], part: Callable[[S], str]) -> Iterator[S]:
    """The same steps, with points of their course appended to a list as they go by; what is not finite is no point."""
    losses: list[float] = []
    for step in steps:
        losses.append(step.loss)
        score = getattr(step, "score", None)
        score = score if score is not None and isfinite(score) else None
        if score is not None or step.step == step.steps or len(losses) * POINTS >= step.steps:
            if isfinite(loss := sum(losses) / len(losses)):  # a report holds no other numbers
                course.append(CoursePoint(part(step), step.step, loss, score))
            losses.clear()
        yield step
