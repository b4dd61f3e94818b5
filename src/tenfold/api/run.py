"""`Run`: what every step of compressing a network takes, and the steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from tenfold.api.border import bytes_asked, sha256
from tenfold.api.calibrate import Calibrated, Calibration
from tenfold.api.decompose import decompose
from tenfold.api.foretold import Foretold
from tenfold.api.reconstruct import reconstructed
from tenfold.api.recover import Training, recovered, recovers
from tenfold.api.samples import timed
from tenfold.api.settled import settled
from tenfold.inputs import Inputs
from tenfold.measure import Clock, Profile, check_calls, in_fastest_layout
from tenfold.measure.layouts import runs
from tenfold.planning import Asked, ErrorCurves
from tenfold.protocols import Data, Watch
from tenfold.report import CoursePoint, runnable
from tenfold.storage import JSON
from tenfold.surgery import Plan, copied, laid_out, stored
from tenfold.surgery.layout import CONTIGUOUS

Networks = dict[str, nn.Module]  # by what was done: "dense", "compressed", "recovered", in this order


@dataclass(frozen=True)
class Run:
    """A dense network, what is known of it, and how it is to be compressed.

    Attributes:
        dense: in eval mode, on its device; untouched.
        profile: what was measured on it.
        inputs: that it was measured on.
        calls: how often its modules are called on one of them.
        known: unlabelled samples, and what the network showed on them.
        curves: of errors, for all plans of the run; clock: of times, where networks are to be fast.
        calibration, training: settled options of these steps.
        machine: on what device and how is trained, as arguments of `tenfold.recovery.finetune`.
        kept: folder of profiles and error curves.
        state: folder by which a stopped run goes on.
        memory: that the run was foretold to take.
        whose: what tells this run from others that could use the folder.
        made: the network of the last plan, where it was carried out to choose it.
        courses: by recovered network, how its losses went.
    """

    dense: nn.Module
    profile: Profile
    data: Data | None
    inputs: Inputs | None
    calls: Any
    known: Calibrated | None
    curves: ErrorCurves
    clock: Clock | None
    calibration: Calibration
    training: Training
    machine: Mapping[str, Any]
    seed: int
    batch: int | None
    kept: str | Path | None
    state: Path | None
    whose: Mapping[str, JSON]
    watch: Watch
    memory: Foretold | None
    made: Networks = field(default_factory=dict)
    courses: WeakKeyDictionary[nn.Module, list[CoursePoint]] = field(default_factory=WeakKeyDictionary)

    def planned(self, asked: Asked) -> Plan:
        """A plan for what was asked."""
        plan, small = settled(
            self.dense, self.profile, self.known, profile=self.kept, inputs=self.inputs, batch=self.batch,
            seed=self.seed, curves=self.curves, clock=self.clock, times=self.kept or self.state,
            watch=self.watch, **asked,
        )  # fmt: skip
        self.made.clear()
        if small is not None:
            self.made[plan.to_yaml()] = small
        return plan

    def carried_out(self, plan: Plan, state: Path | None) -> Networks:
        """A plan on the trained weights; blocks reconstructed, where samples are known and that was asked for.

        Args: state: folder by which the reconstruction goes on.
        """
        statistics = None if self.known is None else self.known.statistics
        small = self.made.pop(plan.to_yaml(), None)
        if small is None:
            small = decompose(self.dense, plan, statistics=statistics, seed=self.seed, watch=self.watch)
        if self.inputs is not None and self.calls is not None:
            check_calls(small, self.calls, self.inputs.samples(1))
        networks = {"dense": self.dense, "compressed": small}
        if self.known is not None and self.calibration.reconstruct:
            refined = networks["recovered"] = copied(small)
            reconstructed(
                self.dense, refined, self.known, distil=self.calibration.distil, seed=self.seed, state=state,
                run=self.about(plan), memory=bytes_asked(self.calibration.memory), watch=self.watch,
                course=self.courses.setdefault(refined, []),
            )  # fmt: skip
        return networks

    def trained(self, networks: Networks, plan: Plan) -> Networks:
        """Batch norms estimated anew and epochs of training, where that was asked for."""
        small = networks["compressed"]
        if self.data is None or not recovers(small, self.training.bn, self.training.epochs):
            return networks
        further = networks.get("recovered") or copied(small)
        recovered(
            further, self.data, teacher=self.dense if self.training.distill else None, epochs=self.training.epochs,
            bn=self.training.bn, lr=self.training.lr, distill=self.training.distill, seed=self.seed, state=self.state,
            run=self.about(plan), watch=self.watch, course=self.courses.setdefault(further, []), **self.machine,
        )  # fmt: skip
        return {**networks, "recovered": further}

    def finished(self, plan: Plan, state: Path | None) -> tuple[Plan, Networks]:
        """A plan carried out, trained, laid out and rounded to what is stored; and the plan with its layout."""
        networks = self.trained(self.carried_out(plan, state), plan)
        laid = self.laid_out(networks, plan)
        for name, network in networks.items():
            if name != "dense":
                stored(network, plan.dtype)
        return laid, networks

    def laid_out(self, networks: Networks, plan: Plan) -> Plan:
        """The plan with its layout, in which the compressed networks now are.

        Where the plan says none and there are inputs, it is the one in which the last network runs fastest here.
        """
        *_, last = networks.values()
        if plan.layout is None and self.inputs is not None:
            batch = timed(self.inputs, self.profile.macs or 1)
            layout = in_fastest_layout(runnable(last, batch), batch)[1]
            plan = replace(plan, layout=layout if runs(last, layout, batch) else CONTIGUOUS)
        for name, network in networks.items():
            if name != "dense":
                laid_out(network, plan.layout)
        return plan

    def about(self, plan: Plan) -> dict[str, JSON]:
        """What tells the run with this plan from others."""
        return {"command": "compress", "weights": self.profile.weights_hash, "plan": sha256(plan.to_yaml()),
                **self.whose}  # fmt: skip
