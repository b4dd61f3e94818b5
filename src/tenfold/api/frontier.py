"""What a network is foreseen to lose, on the way to the budgets asked for."""

from collections.abc import Iterable
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from tenfold import planning
from tenfold.api.border import check_asked, given_only
from tenfold.api.calibrate import Calibrated, Calibration, calibrated
from tenfold.api.plan import curves_of, kept_curves, profiled
from tenfold.api.predicted import predicted
from tenfold.api.samples import given_inputs
from tenfold.arguments import typed
from tenfold.inputs import evaluating, run
from tenfold.measure import part
from tenfold.planning import BUDGETS, RATIOS, Asked
from tenfold.protocols import Data, TenfoldError, Watch
from tenfold.report import Frontier, FrontierRow
from tenfold.surgery import unwrapped


@typed
def frontier(
    model: nn.Module,
    data: Data | None = None,
    *,
    inputs: Any = None,
    seed: int = 0,
    profile: str | Path | None = None,
    calibrate: int | None = None,
    calibration: Iterable[Any] | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> Frontier:
    """Foreseen error beside what is saved, at ratios up to those asked for; nothing is compressed.

    Every row is the plan that `tenfold.plan` finds under its budgets. With data, or `calibration`, its error is that of
    the outputs: the root of what the weights' errors, each in the metric of the statistics, add up to, over the mean
    squared norm of the outputs. Without, it is that of the weights.

    Args:
        data, inputs, seed, profile, calibrate, calibration, watch: as in `compress`.
        asked: as in `tenfold.plan`, budgets and no rule; without any, params up to 16x, and macs where
            inputs say them.
    Returns: rows up to the last step within reach.
    Raises: TenfoldError as `tenfold.plan` does, where not even the first step is within reach.
    """
    model = unwrapped(model)
    has_inputs = inputs is not None or data is not None
    wanted = budgeted(given_only(asked), has_inputs=has_inputs)
    samples = Calibration(calibrate).settled(has_inputs=data is not None or calibration is not None).calibrate
    check_asked(model, wanted, known_macs=has_inputs or profile is not None)
    measured = profiled(model, given_inputs(model, data, inputs), profile=profile)
    known = calibrated(model, data, calibration, samples, seed=seed, profile=profile, watch=watch)
    statistics = None if known is None else known.statistics
    metrics = {} if statistics is None else statistics.metrics
    of = wanted.get("of", ())
    counted = part(measured, model, of) if of else measured
    whole = squared_outputs(model, known) if known is not None and metrics else len(counted.layers)
    rows: list[FrontierRow] = []
    end = ""
    curves = curves_of(measured, statistics, profile)
    with kept_curves(curves, profile):
        walk = planning.frontier(model, measured, seed=seed, curves=curves, metrics=metrics, watch=watch, **wanted)
        try:
            for budgets, plan, loss in walk:
                saved = predicted(model, plan, counted).ratio
                rows.append(FrontierRow(budgets, asdict(saved), sqrt(loss / whole), plan))
        except TenfoldError as error:  # budgets out of reach
            if not rows:
                raise
            end = str(error)
    return Frontier(tuple(rows), calibrated=bool(metrics), end=end)


def budgeted(wanted: Asked, *, has_inputs: bool) -> Asked:
    """What was asked for, with budgets where there are none.

    Raises: TenfoldError for a rule.
    """
    for rule in ("energy", "ranks"):
        if rule in wanted:
            raise TenfoldError(f"a frontier goes through budgets, and {rule} is a rule that has none; leave it out.")
    if "runtime" in wanted:
        raise TenfoldError("a frontier times nothing; leave runtime out.")
    if any(name in wanted for name in BUDGETS):
        return wanted
    free: Asked = {"params": RATIOS[-1], "macs": RATIOS[-1]} if has_inputs else {"params": RATIOS[-1]}
    return {**free, **wanted}


def squared_outputs(model: nn.Module, known: Calibrated) -> float:
    """The squared norm of what counts of the outputs, mean over samples; 1 where that is zeros."""
    total, count = 0.0, 0
    with evaluating(model):
        for chunk in known.chunks:
            total += sum(float(y.double().square().sum()) for y in known.outputs(run(model, chunk.value)))
            count += chunk.size
    return total / count or 1.0
