"""What the networks of a search are judged by: labelled validation data, or else the dense network's outputs."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from tenfold.api.border import sha256
from tenfold.api.calibrate import Calibrated
from tenfold.inputs import Inputs
from tenfold.measure import outputs
from tenfold.measure.outputs import entries
from tenfold.measure.score import score
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery import error
from tenfold.statistics.gather import digest
from tenfold.statistics.gradients import floating
from tenfold.tasks import Objective

BATCHES = 8  # on which networks are judged where there are no labels
PER_CENT = 100.0


@dataclass(frozen=True)
class Judge:
    """Of networks, against the dense one.

    Attributes:
        name: of what they lose, such as `top-1 on validation data`.
        in_points: whether that is in per cent.
        loss: what one loses; NaN, or a TenfoldError, where its outputs are not finite.
        mark: a hash of what it judges on.
    """

    name: str
    in_points: bool
    loss: Callable[[nn.Module], float]
    mark: str

    def most(self, loss: float) -> str:
        """`at most 0.5 points of top-1 on validation data`."""
        return f"at most {loss:g} {'points ' if self.in_points else ''}of {self.name}"

    def shown(self, loss: float) -> str:
        """`0.29`, in the score's own digits; `nothing` where the network is as good as the dense one, or better."""
        digits = f"{loss:.2f}" if self.in_points else f"{loss:.3g}"
        return digits if float(digits) > 0 else "nothing"


def labelled(data: Data | None) -> bool:
    """Whether there is validation data."""
    return data is not None and any(True for _ in data.validation)


def judge_of(dense: nn.Module, data: Data | None, known: Calibrated | None) -> Judge:
    """By the score on validation data; where there is none, by what the dense network gives on unlabelled samples.

    Raises: TenfoldError if the dense network itself has no score.
    """
    if data is not None and labelled(data):
        return by_score(dense, data)
    assert known is not None
    return by_outputs(dense, known, data)


def by_score(dense: nn.Module, data: Data) -> Judge:
    """In the unit of the score."""
    made, seen = Objective.of(data).score, []

    def noted() -> Iterator[Any]:
        for batch in data.validation:
            seen.append(digest(batch))
            yield batch

    best = score(dense, noted(), data)
    if best is None:
        raise TenfoldError(f"no target of the validation data counts for {made.name}, so that nothing can be judged.")
    sign = 1 if made.higher_is_better else -1

    def loss(small: nn.Module) -> float:
        found = score(small, data.validation, data)
        return math.nan if found is None else sign * (best - found)

    return Judge(f"{made.name} on validation data", made.scale == PER_CENT, loss, sha256(" ".join(seen)))


def by_outputs(dense: nn.Module, known: Calibrated, data: Data | None) -> Judge:
    """By how often the same class is the largest; by the relative error of the outputs where they have no classes.

    Both are in per cent, on batches that follow the samples of the calibration.
    """
    classes = lone_classes if data is None else Objective.of(data).classes
    first = next(iter(known.further))
    if classes(outputs(dense, first.value)) is None:
        name, loss = "relative error of the outputs", partial(apart, dense, known)
    else:
        name, loss = "agreement with the dense network", partial(disagreement, dense, known, classes)
    return Judge(name, True, loss, digest(first.value))


def lone_classes(found: Any) -> Tensor | None:
    """(m, classes, ...), where there is one output and a largest entry says something of it."""
    tensors = floating(found)
    axis = entries(tensors[0]) if len(tensors) == 1 else None
    return None if axis is None else tensors[0].movedim(axis, 1)


def may_have_classes(data: Data | None) -> bool:
    """Whether the largest entry of an output says something: unless the task of the data says that it does not."""
    return data is None or Objective.of(data).distils


def disagreement(
    dense: nn.Module, known: Calibrated, classes: Callable[[Any], Tensor | None], small: nn.Module
) -> float:
    """Places in a hundred at which another class is the largest."""
    each = []
    for batch in judging(known):
        a, b = (classes(outputs(model, batch.value)) for model in (dense, small))
        if a is None or b is None or b.isnan().any():
            return math.nan
        each.append(float((a.argmax(1) != b.argmax(1)).double().mean()))
    return PER_CENT * sum(each) / len(each)


def apart(dense: nn.Module, known: Calibrated, small: nn.Module) -> float:
    """The relative error of the outputs that count, in per cent."""
    return PER_CENT * math.sqrt(error(dense, small, judging(known), known.outputs))


def judging(known: Calibrated) -> list[Inputs]:
    """Batches on which networks are judged."""
    return list(itertools.islice(known.further, BATCHES))
