"""The smallest, or fastest, network that loses at most so much: a search over calibrated networks."""

import itertools
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from tenfold.api.run import Networks, Run
from tenfold.api.samples import timed
from tenfold.measure import output_errors, outputs
from tenfold.measure.score import score
from tenfold.planning import Asked
from tenfold.protocols import TenfoldError, near_misses
from tenfold.recovery.checkpoint import ATTEMPT, attempt_folder
from tenfold.report import Measurement, compare
from tenfold.storage import write_text
from tenfold.surgery import Plan
from tenfold.tasks import Objective

FIRST, GROWTH = 2.0, 1.6  # the first ratio, and from one to the next until one loses too much
NEAR = 1.06  # how near the last that holds and the first that does not are in the end
LARGEST = 1000.0
JUDGES = 8  # batches on which networks are judged where there are no labels
MARKS = "budget", "ratio", "loss", "gain"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gain:
    """What can be asked for: the budget that is walked, and what is gained."""

    budget: str
    of: Callable[[Measurement, Measurement], float | None]  # dense, compressed


def over(dense: float | None, small: float | None) -> float | None:
    """A ratio, where both sides are known."""
    return None if dense is None or not small else dense / small


OBJECTIVES = {
    "params": Gain("params", lambda dense, small: over(dense.params, small.params)),
    "macs": Gain("macs", lambda dense, small: over(dense.macs, small.macs)),
    "time": Gain("macs", lambda _, small: None if small.speedup is None else small.speedup.median),
}


@dataclass(frozen=True)
class Goal:
    """Attributes: max_drop: what may be lost, in points of the score; objective: what is to be gained."""

    max_drop: float
    objective: str = "params"

    def check(self, asked: Asked, *, has_inputs: bool) -> None:
        """Raise a TenfoldError where this is no number above 0, or asks for what the other options ask for, too."""
        if not (self.max_drop > 0 and math.isfinite(self.max_drop)):
            raise TenfoldError(f"max_drop={self.max_drop} is no number of points above 0, such as 0.5.")
        if self.objective not in OBJECTIVES:
            raise TenfoldError(f"objective '{self.objective}' is unknown{near_misses(self.objective, OBJECTIVES)}")
        taken = [name for name in ("energy", "ranks", OBJECTIVES[self.objective].budget) if name in asked]
        if taken:
            raise TenfoldError(f"max_drop finds the ratio of {self.objective} itself; leave {taken[0]} out.")
        if not has_inputs:
            raise TenfoldError("max_drop judges networks on data; give --data, or inputs to calibrate on.")


@dataclass(frozen=True)
class Attempt:
    """One network of the search.

    Attributes:
        budget: of these attributes, that was set to `ratio`.
        loss: against the dense network, in points of what it was judged by.
        gain: of what was asked for, measured.
    """

    budget: str
    ratio: float
    loss: float
    gain: float


@dataclass(frozen=True)
class Found:
    """The network that gains most of those that lose little enough, and every attempt in the order of ratios."""

    plan: Plan
    networks: Networks
    attempts: tuple[Attempt, ...]
    best: Attempt
    judged_by: str

    @property
    def sentence(self) -> str:
        """What was tried, and what was taken."""
        tried = ", ".join(f"{each.ratio:.3g}x ({-each.loss:+.2f})" for each in self.attempts)
        return (
            f"Of networks with {self.best.budget} at {tried} points of {self.judged_by}, the one at "
            f"{self.best.ratio:.3g}x gains most and loses little enough."
        )


def smallest(run: Run, goal: Goal, asked: Asked) -> Found:
    """The network of the largest gain among those that lose at most so much against the dense one.

    Ratios grow until a network loses too much or is out of reach, and are halved in between. What each attempt came to
    is kept in the run's state.
    Raises: TenfoldError if even the smallest step loses more.
    """
    search = Search(run, goal, asked)
    holds, fails = 1.0, math.inf
    ratio = FIRST
    while fails / holds > NEAR and ratio <= LARGEST:
        if search.holds(ratio):
            holds = ratio
        else:
            fails = ratio
        ratio = holds * GROWTH if math.isinf(fails) else math.sqrt(holds * fails)
    return search.found()


class Search:
    """Attempts at ratios, judged."""

    def __init__(self, run: Run, goal: Goal, asked: Asked) -> None:
        self.run, self.goal, self.asked = run, goal, asked
        self.attempts: dict[float, Attempt] = {}
        self.refusal: TenfoldError | None = None  # the last
        self.last: tuple[float, Plan, Networks] | None = None
        self.labelled = run.data is not None and any(True for _ in run.data.validation)

    @property
    def judged_by(self) -> str:
        """What points are lost of."""
        if self.labelled and self.run.data is not None:
            return f"{Objective.of(self.run.data).score.name} on validation data"
        return "agreement with the dense network"

    def holds(self, ratio: float) -> bool:
        """Whether the network at a ratio can be made, and loses little enough."""
        try:
            plan = self.plan(ratio)
        except TenfoldError as error:
            self.refusal = error
            log.info("%gx is out of reach: %s", ratio, error)
            return False
        attempt = self.kept(ratio, plan) or self.judged(ratio, plan)
        self.attempts[ratio] = attempt
        log.info("%s %.4gx: loses %.2f points", attempt.budget, ratio, attempt.loss)
        return attempt.loss <= self.goal.max_drop

    def plan(self, ratio: float) -> Plan:
        """At a ratio."""
        wanted: Asked = {**self.asked, self.budget: ratio}  # type: ignore[misc]
        return self.run.planned(wanted)

    @property
    def budget(self) -> str:
        """That is walked."""
        return OBJECTIVES[self.goal.objective].budget

    def state(self, ratio: float) -> Path | None:
        """The folder of an attempt."""
        return None if self.run.state is None else attempt_folder(self.run.state, ratio)

    def networks(self, ratio: float, plan: Plan) -> Networks:
        """Made, or the last ones made."""
        if self.last is None or self.last[0] != ratio:
            self.last = ratio, plan, self.run.carried_out(plan, self.state(ratio))
        return self.last[2]

    def judged(self, ratio: float, plan: Plan) -> Attempt:
        """What the network at a ratio loses and gains; kept."""
        networks = self.networks(ratio, plan)
        small = networks[list(networks)[-1]]
        inputs = None if self.run.inputs is None else timed(self.run.inputs, self.run.profile.macs or 1)
        measured = compare({"dense": self.run.dense, "small": small}, inputs, reference="dense")
        gain = OBJECTIVES[self.goal.objective].of(measured["dense"], measured["small"])
        if gain is None:
            raise TenfoldError(f"objective '{self.goal.objective}' cannot be measured on these inputs; give others.")
        attempt = Attempt(self.budget, ratio, self.loss(small), gain)
        folder = self.state(ratio)
        if folder is not None:
            about = {**asdict(attempt), "run": self.run.about(plan), "judged_by": self.judged_by}
            write_text(folder / ATTEMPT, json.dumps(about, indent=1, sort_keys=True), MARKS)
        return attempt

    def kept(self, ratio: float, plan: Plan) -> Attempt | None:
        """What the same run has found before it was stopped."""
        folder = self.state(ratio)
        if folder is None or not (folder / ATTEMPT).exists():
            return None
        about = json.loads((folder / ATTEMPT).read_text(encoding="utf-8"))
        if (about.pop("run"), about.pop("judged_by")) != (self.run.about(plan), self.judged_by):
            return None
        return Attempt(**about)

    def loss(self, small: nn.Module) -> float:
        """In points: of the score on validation data, else of the agreement on samples that were not calibrated on."""
        if self.labelled and self.run.data is not None:
            better = 1 if Objective.of(self.run.data).score.higher_is_better else -1
            dense, found = (score(model, self.run.data.validation, self.run.data) for model in (self.run.dense, small))
            return better * ((dense or 0.0) - (found or 0.0))
        assert self.run.known is not None
        same = []
        for batch in itertools.islice(self.run.known.further, JUDGES):
            errors = output_errors(outputs(self.run.dense, batch.value), outputs(small, batch.value))
            each = [error.agreement for error in errors.values()]
            same.append(min((value for value in each if value is not None), default=0.0))
        return 100 * (1 - sum(same) / len(same))

    def found(self) -> Found:
        """The best attempt, made again where it was not the last.

        Raises: TenfoldError if none loses little enough, or none can be made.
        """
        if not self.attempts and self.refusal is not None:
            raise self.refusal
        attempts = tuple(self.attempts[ratio] for ratio in sorted(self.attempts))
        good = [each for each in attempts if each.loss <= self.goal.max_drop]
        if not good:
            least = min(attempts, key=lambda each: each.loss)
            raise TenfoldError(
                f"no network loses at most {self.goal.max_drop:g} points of {self.judged_by}: {least.budget} at "
                f"{least.ratio:.3g}x loses {least.loss:.2f}; allow more, or calibrate on more samples."
            )
        best = max(good, key=lambda each: each.gain)
        plan = self.plan(best.ratio)
        return Found(plan, self.networks(best.ratio, plan), attempts, best, self.judged_by)
