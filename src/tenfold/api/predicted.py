"""What a plan will make of a network, known before any weight is decomposed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from tenfold.api.border import check_asked, check_one, given_only
from tenfold.api.calibrate import Calibration, calibrated
from tenfold.api.plan import curves_of, profiled
from tenfold.api.samples import given_inputs
from tenfold.api.settled import settled
from tenfold.measure import Profile, part
from tenfold.network import Stages
from tenfold.planning import Asked
from tenfold.protocols import Data, Watch
from tenfold.report import Known, Part, PlannedRatios, Spectrum
from tenfold.report.layer_row import numbers, weight_at
from tenfold.surgery import Plan, sites, unwrapped
from tenfold.surgery.carry_out import networks
from tenfold.surgery.stored import stored_bytes


@dataclass(frozen=True)
class PlannedLayer:
    """A weight before and after: numbers stored, and multiply-adds of one sample (None where not measured)."""

    params_before: int
    params: int
    macs_before: int | None
    macs: int | None


@dataclass(frozen=True)
class Predicted:
    """What a plan will make of a network; `layers` by name; `part`: of the part that was asked for, if one was.

    `spectra`: by name, of the bonds that are cut, where the plan was found here.
    """

    layers: Mapping[str, PlannedLayer] = field(hash=False)
    ratio: PlannedRatios
    part: Part | None = None
    spectra: Mapping[str, tuple[Spectrum, ...]] = field(default_factory=dict, hash=False)


def predicted(model: nn.Module, plan: Plan, profile: Profile, of: Sequence[str] = ()) -> Predicted:
    """Sizes and costs by the plan alone.

    Args: of: patterns of modules' names, to have their ratios, too.
    Raises: TenfoldError that names the layer where the plan is not this network's.
    """
    nets = networks(model, plan)
    layers = {}
    saved_bytes = saved_deployed = few_params = few_bytes = 0
    for name, measured in profile.layers.items():
        params, macs = measured.params, measured.macs
        if name in nets:
            site, net = nets[name]
            stages = Stages.of(net, site.partition(net, plan.rows[name].stages))
            params, macs = net.params, site.macs(stages, measured.positions, measured.macs, measured.calls)
            saved_deployed += measured.params - stages.params * len(site.places)
        layers[name] = PlannedLayer(measured.params, params, measured.macs, macs)
        stored = params * measured.itemsize
        if name in nets and (schemes := plan.rows[name].schemes(len(nets[name][1].cores))):
            shapes = nets[name][1].shapes
            stored = sum(
                math.prod(shape) * measured.itemsize if scheme is None else scheme.stored_bytes(shape)
                for scheme, shape in zip(schemes, shapes, strict=True)
            )
            few_params, few_bytes = few_params + params, few_bytes + stored
        saved_bytes += measured.params * measured.itemsize - stored
    layers |= {name: PlannedLayer(other.params, other.params, None, None) for name, other in profile.untaken.items()}
    saved = sum(layer.params_before - layer.params for layer in layers.values())
    whole = profile.macs
    if whole is not None:
        whole = whole - sum((layer.macs_before or 0) - (layer.macs or 0) for layer in layers.values())
    others, bytes_of_others = profile.params - saved - few_params, profile.bytes - saved_bytes - few_bytes
    ratio = PlannedRatios(
        params=profile.params / max(profile.params - saved, 1),
        bytes=profile.bytes / max(few_bytes + stored_bytes(others, bytes_of_others, plan.dtype), 1),
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
    if plan is not None:
        return plan, predicted(model, plan, measured)
    known = calibrated(model, data, calibration, samples, seed=seed, profile=profile, watch=watch)
    statistics = None if known is None else known.statistics
    curves = curves_of(measured, statistics, profile)
    plan, _ = settled(model, measured, known, profile=profile, inputs=given, batch=batch, seed=seed, curves=curves,
                      watch=watch, **wanted)  # fmt: skip
    knowing = Known(curves, {} if statistics is None else statistics.metrics)
    found = predicted(model, plan, measured, wanted.get("of", ()))
    return plan, replace(found, spectra=spectra(model, plan, knowing))


def spectra(model: nn.Module, plan: Plan, knowing: Known) -> dict[str, tuple[Spectrum, ...]]:
    """Of every weight that a plan puts into cores, by name."""
    found = {}
    for name, site in sites(model).items():
        row = plan.rows[name]
        if not row.is_dense:
            weight = numbers(weight_at(site, model))
            found[name] = knowing.spectra(row, weight, site.axes)
    return found
