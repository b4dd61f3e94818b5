"""What scores are gathered in: means, and what torchmetrics has."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tenfold.protocols import Score, TenfoldError


class Mean:
    """A sum over a count, whatever the batches."""

    def __init__(
        self, part: Callable[[Any, Any], tuple[float, int]], then: Callable[[float], float] = lambda mean: mean
    ) -> None:
        """Args: part: (outputs, targets) of a batch -> (sum, count); then: what becomes of the mean."""
        self.part, self.then = part, then
        self.sum, self.count = 0.0, 0

    def update(self, outputs: Any, targets: Any) -> None:
        found, counted = self.part(outputs, targets)
        self.sum, self.count = self.sum + found, self.count + counted

    def compute(self) -> float | None:
        return self.then(self.sum / self.count) if self.count else None


def from_torchmetrics(score: str, metric: str) -> Score:
    """A score in per cent, more of which is better, that a class of `torchmetrics.classification` gathers.

    Args: metric: the class; it is made for the columns of the predictions (m, columns): classes, or labels.
    Raises: TenfoldError if torchmetrics is not installed.
    """
    if find_spec("torchmetrics") is None:
        raise TenfoldError(
            f"score '{score}' needs torchmetrics, which is not installed; pip install 'tenfold[metrics]', or name "
            "another score of the task in Data(score=...)."
        )
    kind = getattr(import_module("torchmetrics.classification"), metric)
    return Score(score, metric=lambda outputs: kind(outputs.shape[1]).to(outputs.device))
