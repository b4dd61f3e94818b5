"""What a search for a network is to find: what may be lost, and what is to be gained."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tenfold.planning import Asked
from tenfold.protocols import TenfoldError, near_misses
from tenfold.report import Measurement
from tenfold.surgery.plan import EAGER

ROUNDING = 1e-9  # of what may be lost: a loss of just that is no more than that


@dataclass(frozen=True)
class Gain:
    """What can be asked for: the budget that is walked, and what is gained."""

    budget: str
    of: Callable[[Measurement, Measurement], float | None]  # dense, compressed


def over(dense: float | None, small: float | None) -> float | None:
    """A ratio, where both sides are known."""
    return None if dense is None or not small else dense / small


def faster(_: Measurement, small: Measurement) -> float | None:
    """How many times as long the dense network takes; 1 where that is within the noise of the clock."""
    if small.speedup is None:
        return None
    return small.speedup.median if small.speedup.is_clear else 1.0


OBJECTIVES = {
    "params": Gain("params", lambda dense, small: over(dense.params, small.params)),
    "macs": Gain("macs", lambda dense, small: over(dense.macs, small.macs)),
    "time": Gain("time", faster),
}


@dataclass(frozen=True)
class Attempt:
    """One ratio of the search.

    Attributes:
        loss: against the dense network; None where it cannot be judged.
        gain: of what was asked for, measured; None where the ratio is out of reach.
    """

    ratio: float
    loss: float | None = None
    gain: float | None = None


@dataclass(frozen=True)
class Goal:
    """Attributes: max_drop: what may be lost, in the unit of the score; objective: what is to be gained."""

    max_drop: float
    objective: str = "params"

    @classmethod
    def of(cls, max_drop: float | None, objective: str | None) -> "Goal | None":
        """None where nothing is searched for.

        Raises: TenfoldError for what is no number above 0, an unknown objective, and one without `max_drop`.
        """
        if max_drop is None and objective is None:
            return None
        if max_drop is None:
            raise TenfoldError(f"objective='{objective}' says what max_drop gains; give max_drop, too, such as 0.5.")
        if (
            isinstance(max_drop, bool)
            or not isinstance(max_drop, int | float)
            or not (max_drop > 0 and math.isfinite(max_drop))
        ):
            raise TenfoldError(f"max_drop={max_drop!r} is no number of points above 0, such as 0.5.")
        if objective is not None and objective not in OBJECTIVES:
            raise TenfoldError(f"objective '{objective}' is unknown{near_misses(str(objective), OBJECTIVES)}")
        return cls(float(max_drop), objective or "params")

    @property
    def gain(self) -> Gain:
        """What is gained."""
        return OBJECTIVES[self.objective]

    def check(self, asked: Asked, *, epochs: int, judged: bool) -> None:
        """Raise a TenfoldError where other options ask for the same, or there is nothing to judge networks by.

        Args: judged: whether there is validation data, or samples are calibrated on.
        """
        taken = [name for name in ("energy", "ranks", self.gain.budget) if name in asked]
        if taken:
            raise TenfoldError(f"max_drop finds the ratio of {self.objective} itself; leave {taken[0]} out.")
        runtime = asked.get("runtime") or EAGER
        if self.objective == "time" and runtime != EAGER:
            raise TenfoldError(f"objective 'time' is measured in {EAGER}; leave runtime='{runtime}' out.")
        if epochs:
            raise TenfoldError(
                f"max_drop compares networks that are not trained; leave epochs={epochs} out, and train the one that "
                "is found with tenfold recover."
            )
        if not judged:
            raise TenfoldError(
                "max_drop judges networks on data; give data with a validation split, or inputs and calibrate=1000."
            )

    def allows(self, attempt: Attempt) -> bool:
        """Whether it loses little enough."""
        return attempt.loss is not None and attempt.loss <= self.max_drop * (1 + ROUNDING)

    def reached_by(self, attempt: Attempt) -> bool:
        """Whether it gains something, too."""
        return self.allows(attempt) and attempt.gain is not None and attempt.gain > 1
