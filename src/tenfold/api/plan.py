"""Plans, and the profiles that they are made from, kept with `--profile DIR` so that a new budget costs seconds."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Unpack

from torch import nn

from tenfold.api.samples import timed
from tenfold.documents import text_of
from tenfold.inputs import Inputs
from tenfold.measure import Clock, Profile, inspect, weights_hash
from tenfold.planning import BUDGETS, Asked, ErrorCurves, plan
from tenfold.planning.asked import AUTO
from tenfold.protocols import TenfoldError, Watch, within
from tenfold.recovery.checkpoint import CLOCK
from tenfold.statistics import Statistics
from tenfold.storage import check_ours, write_text
from tenfold.surgery import Plan
from tenfold.surgery.plan import EAGER

PROFILE, CURVES = "profile.json", "curves.json"
MARKS = {PROFILE: ("schema", "weights_hash", "layers"), CURVES: ("schema", "weights_hash", "tails"),
         CLOCK: ("schema", "weights_hash", "whole")}  # keys of each  # fmt: skip


def profiled(model: nn.Module, inputs: Inputs | None = None, *, profile: str | Path | None = None) -> Profile:
    """The profile of a network on one sample: read from the folder `profile` if it is of these weights and inputs.

    Else it is measured, and written there, in the place of one of other weights or inputs.
    Raises: TenfoldError for a file of that name which tenfold did not write.
    """
    one = None if inputs is None else inputs.samples(1)
    if profile is None:
        return inspect(model, one)
    path = Path(profile) / PROFILE
    for name, marks in MARKS.items():
        check_ours(Path(profile) / name, marks)
    if path.exists():
        with within(str(path)):
            kept = Profile.from_json(path.read_text(encoding="utf-8"))
        same = one is None or (kept.inputs, kept.sampling) == (one.described, one.note)
        if same and kept.weights_hash == weights_hash(model):
            return kept
    found = inspect(model, one)
    write_text(path, found.to_json(), MARKS[PROFILE])
    return found


def planned(
    model: nn.Module,
    measured: Profile,
    *,
    profile: str | Path | None = None,
    inputs: Inputs | None = None,
    batch: int | None = None,
    seed: int = 0,
    statistics: Statistics | None = None,
    curves: ErrorCurves | None = None,
    clock: Clock | None = None,
    times: str | Path | None = None,
    quiet: bool = False,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> Plan:
    """A plan (`tenfold.plan`), its error curves, and times, kept in the folder `profile`.

    Args:
        batch: samples, made of the inputs, for which every weight's stages are to be the fastest.
        statistics: errors are then those of the outputs.
        curves: of the same weights and statistics, found before in this process.
        clock: likewise, of the same network and batch; by default one where it is wanted (`clock_of`).
        times: folder that keeps it; by default `profile`.
        quiet, watch: as in `tenfold.plan`.
    Raises: TenfoldError as `plan` does, or for a batch without inputs.
    """
    if batch is not None and batch < 1:
        raise TenfoldError(f"a batch of {batch} cannot be timed; use 1 sample or more.")
    if batch is not None and inputs is None:
        raise TenfoldError(f"stages for a batch of {batch} are timed on inputs; give inputs (--input 3x32x32) or data.")
    times = profile if times is None else times
    clock = clock_of(model, measured, inputs, batch, asked, times) if clock is None else clock
    samples = None if inputs is None or (batch is None and clock is None) else on(inputs, batch, measured)
    metrics = None if statistics is None else statistics.metrics
    curves = curves_of(measured, statistics, profile) if curves is None else curves
    with kept_curves(curves, profile), kept_clock(clock, times):
        return plan(model, measured, curves=curves, clock=clock, seed=seed, inputs=samples, metrics=metrics,
                    quiet=quiet, watch=watch, **asked)  # fmt: skip


def on(inputs: Inputs, batch: int | None, measured: Profile) -> Inputs:
    """What is timed: so many samples, by default as many as reports time."""
    return timed(inputs, measured.macs or 1) if batch is None else inputs.repeated(batch)


def clock_of(
    model: nn.Module,
    measured: Profile,
    inputs: Inputs | None,
    batch: int | None,
    asked: Asked,
    folder: str | Path | None,
) -> Clock | None:
    """The clock that a plan is made by: that of a folder if it is of this network, batch, runtime and machine; or new.

    None without inputs, and where nothing is to be fast: budgets that `auto` meets are, and budgets of time.
    Raises: TenfoldError for a file of that name which tenfold did not write, and where the network does not run in the
        runtime.
    """
    fast = asked.get("format", AUTO) == AUTO and any(name in asked for name in BUDGETS)
    if inputs is None or asked.get("of") or not (fast or "time" in asked):
        return None
    samples, runtime = on(inputs, batch, measured), asked.get("runtime") or EAGER
    if folder is not None and (path := Path(folder) / CLOCK).exists():
        check_ours(path, MARKS[CLOCK])
        with suppress(TenfoldError):  # of another version, or damaged: made again
            kept = Clock.from_json(path.read_text(encoding="utf-8"))
            if kept.is_for(model, samples.size, runtime):
                return kept
    return Clock.of(model, samples, runtime)


@contextmanager
def kept_clock(clock: Clock | None, folder: str | Path | None) -> Iterator[None]:
    """What is timed meanwhile is written to a folder in the end."""
    before = 0 if clock is None else len(clock.known)
    yield
    if folder is not None and clock is not None and len(clock.known) != before:
        write_text(Path(folder) / CLOCK, clock.to_json(), MARKS[CLOCK])


def curves_of(measured: Profile, statistics: Statistics | None, profile: str | Path | None) -> ErrorCurves:
    """Error curves of these weights (in the metric of these statistics): those of the folder `profile`, or new ones.

    Raises: TenfoldError for a file of that name which tenfold did not write.
    """
    key = measured.weights_hash if statistics is None else statistics.key
    if profile is not None and (path := Path(profile) / CURVES).exists():
        check_ours(path, MARKS[CURVES])
        with suppress(TenfoldError):  # of other weights, or of another version: made again
            return ErrorCurves.from_json(path.read_text(encoding="utf-8"), key)
    return ErrorCurves(key)


@contextmanager
def kept_curves(curves: ErrorCurves, profile: str | Path | None) -> Iterator[None]:
    """What is added to error curves meanwhile is written to the folder `profile` in the end."""
    before = curves.count
    yield
    if profile is not None and curves.count != before:
        write_text(Path(profile) / CURVES, curves.to_json(), MARKS[CURVES])


def plan_from(given: Plan | str | Path) -> Plan:
    """A plan, read from its file if it is not one yet.

    Raises: TenfoldError that names the file.
    """
    if isinstance(given, Plan):
        return given
    text = text_of(Path(given))
    with within(str(given)):
        return Plan.from_yaml(text)
