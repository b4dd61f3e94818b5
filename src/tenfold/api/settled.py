"""The plan of a calibrated run: of two ways to spend the budgets, the one that errs less on samples held out."""

import itertools
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from tenfold.api.calibrate import Calibrated
from tenfold.api.decompose import decompose
from tenfold.api.plan import clock_of, curves_of, planned
from tenfold.inputs import Inputs
from tenfold.measure import Clock, Profile
from tenfold.planning import BUDGETS, Asked, ErrorCurves
from tenfold.protocols import TenfoldError, Watch
from tenfold.recovery import error
from tenfold.surgery import Plan

JUDGES = 2  # batches


def settled(
    model: nn.Module,
    measured: Profile,
    known: Calibrated | None,
    *,
    profile: str | Path | None = None,
    inputs: Inputs | None = None,
    batch: int | None = None,
    seed: int = 0,
    curves: ErrorCurves | None = None,
    clock: Clock | None = None,
    times: str | Path | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> tuple[Plan, nn.Module | None]:
    """A plan (`tenfold.api.planned`); where budgets are spent in the metric of samples, the better of two.

    A loss of first order asks for extremes where much is lost, and whether errors at several positions add up depends
    on the network: with budgets and no allocation asked for, ranks are also found with more care, within bounds
    (`clipped`) and with errors that count position by position; both plans are carried out, and the outputs on samples
    that follow decide.
    Args: times: folder that keeps the clock; by default `profile`; watch: as in `tenfold.plan`.
    Returns: the plan, and the network that it makes where it was carried out.
    Raises: TenfoldError as `tenfold.plan` does.
    """
    statistics = None if known is None else known.statistics
    curves = curves_of(measured, statistics, profile) if curves is None else curves
    times = profile if times is None else times
    clock = clock_of(model, measured, inputs, batch, asked, times) if clock is None else clock
    how: dict[str, Any] = {
        "profile": profile, "inputs": inputs, "batch": batch, "seed": seed, "curves": curves, "clock": clock,
        "times": times, "watch": watch,
    }  # fmt: skip
    first = planned(model, measured, statistics=statistics, **how, **asked)
    if known is None or "allocation" in asked or not any(name in asked for name in BUDGETS):
        return first, None
    careful = {**how, **asked, "statistics": known.statistics.position_by_position, "allocation": "clipped"}
    try:
        other = planned(model, measured, quiet=True, **careful)
    except TenfoldError:  # within bounds the budgets are out of reach
        return first, None
    if other == first:
        return first, None
    plans = first, other
    held = list(itertools.islice(known.further, JUDGES))
    made = [decompose(model, plan, statistics=statistics, seed=seed, quiet=True, watch=watch) for plan in plans]
    lost = [error(model, small, held, known.outputs) for small in made]
    best = lost.index(min(lost))
    return plans[best], made[best]
