"""What a plan will make of a network, known before any weight is decomposed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from tenfold.api.border import check_asked, check_one, given_only
from tenfold.api.calibrate import Calibration, calibrated
from tenfold.api.plan import profiled
from tenfold.api.samples import given_inputs
from tenfold.api.settled import settled
from tenfold.measure import Profile, part
from tenfold.network import Stages
from tenfold.planning import Asked
from tenfold.protocols import Data, Watch
from tenfold.report import Part
from tenfold.surgery import Plan, unwrapped
from tenfold.surgery.carry_out import networks


@dataclass(frozen=True)
class PlannedLayer:
    """A weight before and after: numbers stored, and multiply-adds of one sample (None where not measured)."""

    params_before: int
    params: int
    macs_before: int | None
    macs: int | None


@dataclass(frozen=True)
class PlannedRatios:
    """Dense over planned, of the whole network."""

    params: float
    bytes: float
    macs: float | None
    deployed_params: float


@dataclass(frozen=True)
class Predicted:
    """What a plan will make of a network; `layers` by name; `part`: of the part that was asked for, if one was."""

    layers: Mapping[str, PlannedLayer] = field(hash=False)
    ratio: PlannedRatios
    part: Part | None = None


def predicted(model: nn.Module, plan: Plan, profile: Profile, of: Sequence[str] = ()) -> Predicted:
    """Sizes and costs by the plan alone.

    Args: of: patterns of modules' names, to have their ratios, too.
    Raises: TenfoldError that names the layer where the plan is not this network's.
    """
    nets = networks(model, plan)
    layers = {}
    saved_bytes = saved_deployed = 0
    for name, measured in profile.layers.items():
        params, macs = measured.params, measured.macs
        if name in nets:
            site, net = nets[name]
            stages = Stages.of(net, site.partition(net, plan.rows[name].stages))
            params, macs = net.params, site.macs(stages, measured.positions, measured.macs, measured.calls)
            saved_deployed += measured.params - stages.params * len(site.places)
        layers[name] = PlannedLayer(measured.params, params, measured.macs, macs)
        saved_bytes += (measured.params - params) * measured.itemsize
    layers |= {name: PlannedLayer(other.params, other.params, None, None) for name, other in profile.untaken.items()}
    saved = sum(layer.params_before - layer.params for layer in layers.values())
    whole = profile.macs
    if whole is not None:
        whole = whole - sum((layer.macs_before or 0) - (layer.macs or 0) for layer in layers.values())
    ratio = PlannedRatios(
        params=profile.params / max(profile.params - saved, 1),
        bytes=profile.bytes / max(profile.bytes - saved_bytes, 1),
        macs=None if profile.macs is None or not whole else profile.macs / whole,
        deployed_params=profile.params / max(profile.params - saved_deployed, 1),
    )
    ratios = predicted(model, plan, part(profile, model, of)).ratio if of else None
    return Predicted(layers, ratio, None if ratios is None else Part(of=tuple(of), **asdict(ratios)))


def foreseen(
    model: nn.Module,
    data: Data | None = None,
    *,
    inputs: Any = None,
    plan: Plan | None = None,
    batch: int | None = None,
    seed: int = 0,
    profile: str | Path | None = None,
    calibrate: int | None = None,
    calibration: Iterable[Any] | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> tuple[Plan, Predicted]:
    """The plan that `compress` would carry out, and what it would make; arguments as there."""
    model = unwrapped(model)
    wanted = given_only(asked)
    samples = Calibration(calibrate).settled(has_inputs=data is not None or calibration is not None).calibrate
    check_one(plan, wanted, batch)
    if plan is None:
        check_asked(model, wanted, known_macs=any(each is not None for each in (inputs, data, profile)))
    given = given_inputs(model, data, inputs)
    measured = profiled(model, given, profile=profile)
    if plan is None:
        known = calibrated(model, data, calibration, samples, seed=seed, profile=profile, watch=watch)
        plan, _ = settled(model, measured, known, profile=profile, inputs=given, batch=batch, seed=seed, watch=watch,
                          **wanted)  # fmt: skip
    return plan, predicted(model, plan, measured, wanted.get("of", ()))
