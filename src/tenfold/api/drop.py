"""The smallest, or fastest, network that loses at most so much: a search over calibrated networks."""

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tenfold.api.goal import Attempt, Goal
from tenfold.api.judge import judge_of
from tenfold.api.run import Networks, Run
from tenfold.api.samples import timed
from tenfold.measure.score import device_of
from tenfold.planning import BUDGETS, Asked
from tenfold.protocols import TenfoldError
from tenfold.recovery.checkpoint import ATTEMPT, attempt_folder
from tenfold.report import compare
from tenfold.statistics.gather import hash_of
from tenfold.storage import JSON, write_bytes
from tenfold.surgery import Plan

FIRST, GROWTH = 2.0, 1.6  # the first ratio, and from one to the next until one loses too much
NEAR = 1.065  # how near the last that holds and the first that does not are in the end: after three halvings
LARGEST = 1000.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The network that gains most of those that lose little enough.

    Attributes:
        attempts: all, in the order of ratios.
        sentence: what was tried, and what was taken.
    """

    plan: Plan
    networks: Networks
    attempts: tuple[Attempt, ...]
    sentence: str


def smallest(run: Run, goal: Goal, asked: Asked) -> Found:
    """The network of the largest gain among those that lose at most so much against the dense one.

    Ratios grow until a network loses too much or is out of reach, and are halved in between. What each attempt came to
    is kept in the run's state.
    Raises: TenfoldError if none can be made, even the smallest step loses more, or none gains anything.
    """
    search = Search(run, goal, asked)
    holds, fails = 1.0, math.inf
    ratio = FIRST
    while fails / holds > NEAR and ratio <= LARGEST:
        if goal.allows(search.attempt(ratio)):
            holds = ratio
        else:
            fails = ratio
        ratio = holds * GROWTH if math.isinf(fails) else math.sqrt(holds * fails)
    return search.found()


class Search:
    """Attempts at ratios, judged. Of the networks only the best so far are held."""

    def __init__(self, run: Run, goal: Goal, asked: Asked) -> None:
        self.run, self.goal, self.asked = run, goal, asked
        self.judge = judge_of(run.dense, run.data, run.known)
        self.attempts: dict[float, Attempt] = {}
        self.plans: dict[float, Plan] = {}
        self.held: tuple[Plan, tuple[Plan, Networks]] | None = None  # as planned, and as it was finished
        self.refusal: TenfoldError | None = None  # the last

    def attempt(self, ratio: float) -> Attempt:
        """What the network at a ratio comes to: as it was found for the same plan, or as it is judged now."""
        try:
            plan = self.run.planned(cast(Asked, {**self.asked, self.goal.gain.budget: ratio}))
        except TenfoldError as error:
            self.refusal = error
            found = Attempt(ratio)
        else:
            same = [self.attempts[other] for other, known in self.plans.items() if known == plan]
            found = replace(same[0], ratio=ratio) if same else self.kept(ratio, plan) or self.judged(ratio, plan)
            self.plans[ratio] = plan
        self.attempts[ratio] = found
        log.info("%s", self.told(found))
        return found

    def judged(self, ratio: float, plan: Plan) -> Attempt:
        """Made and measured; what it came to is kept, and the network, too, if it is the best so far."""
        made = self.run.finished(plan, self.state(ratio))
        small = list(made[1].values())[-1]
        attempt = Attempt(ratio, self.loss(small), self.gain(small))
        if attempt == self.best([*self.attempts.values(), attempt]):
            self.held = plan, made
        folder = self.state(ratio)
        if folder is not None:
            about = {**asdict(attempt), "of": self.depends(plan)}
            write_bytes(folder / ATTEMPT, json.dumps(about, indent=1, sort_keys=True).encode())
        return attempt

    def loss(self, small: nn.Module) -> float | None:
        """What a network loses; None where its outputs are not finite, so that it cannot be judged."""
        try:
            found = self.judge.loss(small)
        except TenfoldError as error:
            log.info("%s", error)
            return None
        return found if math.isfinite(found) else None

    def gain(self, small: nn.Module) -> float:
        """What a network gains. Raises: TenfoldError if that cannot be measured."""
        inputs = None if self.run.inputs is None else timed(self.run.inputs, self.run.profile.macs or 1)
        measured = compare({"dense": self.run.dense, "small": small}, inputs, reference="dense")
        found = self.goal.gain.of(measured["dense"], measured["small"])
        if found is None:
            raise TenfoldError(f"objective '{self.goal.objective}' cannot be measured on these inputs; give others.")
        return found

    def state(self, ratio: float) -> Path | None:
        """The folder of an attempt."""
        return None if self.run.state is None else attempt_folder(self.run.state, ratio)

    def kept(self, ratio: float, plan: Plan) -> Attempt | None:
        """What the same network came to before a search was stopped; None where nothing legible is kept."""
        folder = self.state(ratio)
        if folder is None:
            return None
        try:
            about = json.loads((folder / ATTEMPT).read_text(encoding="utf-8"))
            loss, gain = about["loss"], float(about["gain"])
            found = Attempt(ratio, None if loss is None else float(loss), gain)
            return found if about["of"] == self.depends(plan) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def depends(self, plan: Plan) -> dict[str, JSON]:
        """All that an attempt depends on."""
        run, known = self.run, self.run.known
        return {
            **run.about(plan),
            "seed": run.seed,
            "reconstruct": run.calibration.reconstruct,
            "distil": run.calibration.distil,
            "bn": run.training.bn,
            "samples": None if known is None else [hash_of(known.chunks), known.counted],
            "judged by": [self.judge.name, self.judge.mark],
            "objective": self.goal.objective,
            "measured on": None if run.inputs is None else [run.inputs.described, run.inputs.size],
            "machine": [str(device_of(run.dense)), torch.get_num_threads()],
        }

    def found(self) -> Found:
        """The best attempt, made again only where it was kept from a search that was stopped."""
        attempts = tuple(self.attempts[ratio] for ratio in sorted(self.attempts))
        best = self.best(attempts)
        if best is None:
            raise self.nothing(attempts)
        plan = self.plans[best.ratio]
        held = self.held is not None and self.held[0] == plan and self.held[1]
        finished, networks = held or self.run.finished(plan, self.state(best.ratio))
        sentence = (
            f"Of networks with {self.tried(attempts)}, the one at {best.ratio:.3g}x gains most of those that lose "
            f"{self.most}: {best.gain:.3g}x in {self.goal.objective}."
        )
        return Found(finished, networks, attempts, sentence)

    def best(self, attempts: Iterable[Attempt]) -> Attempt | None:
        """The one of the largest gain, of those that reach the goal; None where none does."""
        good = [each for each in attempts if self.goal.reached_by(each)]
        return max(good, key=lambda each: each.gain or 0.0, default=None)

    def nothing(self, attempts: tuple[Attempt, ...]) -> TenfoldError:
        """Why no network is found."""
        if self.refusal is not None and all(each.gain is None for each in attempts):
            return self.refusal
        allowed = [each.gain or 0.0 for each in attempts if self.goal.allows(each)]
        if allowed:
            return TenfoldError(
                f"no network that loses {self.most} gains in {self.goal.objective}, the best comes to "
                f"{max(allowed):.3g}x: {self.tried(attempts)}; allow more, or ask for another objective."
            )
        kept = "" if self.run.state is None else " (what was tried is kept, and not judged again)"
        return TenfoldError(
            f"no network loses {self.most}: {self.tried(attempts)}; allow more{kept}, or calibrate on more samples."
        )

    @property
    def most(self) -> str:
        """What may be lost, in words."""
        return self.judge.most(self.goal.max_drop)

    def tried(self, attempts: tuple[Attempt, ...]) -> str:
        """`bytes=4x and params at 2x (loses 0.29), 3.2x (out of reach)`."""
        given: Mapping[str, Any] = {**self.asked}
        beside = "".join(f"{name}={given[name]} and " for name in BUDGETS if name in given)
        return f"{beside}{self.goal.gain.budget} at {', '.join(map(self.told, attempts))}"

    def told(self, attempt: Attempt) -> str:
        """`2x (loses 0.29)`."""
        if attempt.gain is None:
            what = "out of reach"
        else:
            what = "cannot be judged" if attempt.loss is None else f"loses {self.judge.shown(attempt.loss)}"
        return f"{attempt.ratio:.3g}x ({what})"
