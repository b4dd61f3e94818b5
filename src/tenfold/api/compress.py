"""All of it: measure, plan, decompose, reconstruct, recover and measure again."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from torch import nn

from tenfold.api.border import check_asked, check_one, given_only
from tenfold.api.calibrate import Calibration, calibrated
from tenfold.api.compressed import Compressed, documented, plain, sampled
from tenfold.api.drop import Found, smallest
from tenfold.api.evaluate import judged, promised
from tenfold.api.foretold import Foretold, foretold, gigabytes
from tenfold.api.goal import Goal
from tenfold.api.judge import labelled, may_have_classes
from tenfold.api.opened import origin_of
from tenfold.api.plan import clock_of, curves_of, plan_from, profiled
from tenfold.api.predicted import predicted
from tenfold.api.recover import Training, tried, whose
from tenfold.api.run import Networks, Run
from tenfold.api.samples import given_inputs, timed, unseen_inputs
from tenfold.arguments import typed
from tenfold.devices import device_named
from tenfold.inputs import Inputs
from tenfold.measure import calls, inspect
from tenfold.planning import Asked
from tenfold.processes import agreed
from tenfold.protocols import Data, Watch
from tenfold.recovery import Machine, check_state, rehearse
from tenfold.report import Known, Report, compare, layer_rows, runnable, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import Plan, check_finite, copied, unwrapped

log = logging.getLogger(__name__)


@typed
def compress(
    model: nn.Module,
    data: Data | None = None,
    *,
    inputs: Any = None,
    plan: Plan | str | Path | None = None,
    batch: int | None = None,
    max_drop: float | None = None,
    objective: str | None = None,
    calibrate: int | None = None,
    calibration: Iterable[Any] | None = None,
    reconstruct: bool = True,
    distil: int = 0,
    memory: int | str | None = None,
    epochs: int = 0,
    bn: bool = True,
    distill: float | None = None,
    lr: float = 0.02,
    seed: int = 0,
    device: str | torch.device | None = None,
    machine: Machine | None = None,
    profile: str | Path | None = None,
    state: str | Path | None = None,
    document: Document | None = None,
    settings: Mapping[str, JSON] | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> Compressed:
    """Measure, plan, decompose, reconstruct, recover and measure again. The argument is untouched.

    Args:
        data: to recover and to judge by; without it the network is only decomposed.
        inputs: to measure on (as `tenfold.inspect` takes them), where there is no data; without either, only params
            and bytes can be budgets.
        plan: a plan, or a plan file, instead of budgets.
        batch: samples for which the stages of every weight are to be the fastest on this machine; without it they are
            those of the fewest multiply-adds.
        max_drop: instead of a budget: the points of the score that may be lost on the data's validation split, or,
            where that is empty, of agreement with the dense network, or of relative error of outputs that have no
            classes. Calibrated networks are tried until the smallest is found; other budgets beside it hold, too.
        objective: what is then to be gained most: `params` (the default), `macs`, or `time`.
        calibrate: unlabelled samples by which errors are weighed and blocks reconstructed; 0 for none. By default 1,000
            where there is data and no epochs.
        calibration: batches of inputs to take them from; by default those of the data.
        reconstruct: whether blocks are refined on them after decomposing.
        distil: steps on the whole network after that, unlabelled.
        memory: what is kept of them, as in `tenfold.reconstruct`.
        epochs: of fine-tuning, at the top rate `lr`.
        bn: estimate batch norms anew on the training batches (no labels needed), where nothing was reconstructed.
        distill: share of the loss, 0 to 1, that is the distance to the dense network's classes; by default 0.9 where
            the task of the data has classes and its own loss, and 0 elsewhere.
        device: where to recover and measure; by default where the model is, and training where accelerate finds best.
        machine: how it is trained there: `mixed_precision`, `accumulate`, `shard`, `average` and `checkpoint_minutes`
            of `tenfold.recovery.finetune`.
        profile: folder that keeps what was measured and found, for the next budget.
        state: folder that keeps checkpoints, by which a run that was stopped or failed goes on, its finished training
            included; `tenfold.save` deletes them.
        settings: more for the report.
        watch: is handed iterators of what is done, one part of the run after the other, and hands them on, to draw a
            bar.
        asked: budgets, rule, format and the other arguments of `tenfold.plan`.
    Raises: TenfoldError, one sentence.
    """
    device = device_named(device)
    wanted = given_only(asked)
    has_inputs = data is not None or calibration is not None
    calibrating = Calibration(calibrate, reconstruct, distil, memory).settled(has_inputs=has_inputs, epochs=epochs)
    training = Training(epochs, bn and not calibrating.reconstruct, distill, lr).settled(data)
    goal = Goal.of(max_drop, objective)
    if goal is not None:
        goal.check(wanted, epochs=epochs, judged=bool(calibrating.calibrate) or labelled(data))
    read = checked(unwrapped(model), wanted, plan, batch, goal, known_macs=any(
        each is not None for each in (inputs, data, profile)))  # fmt: skip
    run = begun(
        model, data, inputs, calibration, calibrating, training, budgeted(wanted, goal), seed=seed, batch=batch,
        device=device, machine=machine or {}, profile=profile, state=state, whose=whose(settings), watch=watch,
    )  # fmt: skip

    found = None if goal is None else smallest(run, goal, wanted)
    made = None if found is None else (found.plan, found.networks)
    chosen, networks = made or run.finished(agreed(read or run.planned(wanted)), run.state)

    how = {"calibrate": calibrating.calibrate, "reconstruct": calibrating.reconstruct, "distil": distil}
    used = {**wanted, **how, "epochs": epochs, "bn": training.bn, "distill": training.distill, "lr": lr, "seed": seed,
            "device": device, **(machine or {}), "threads": torch.get_num_threads(), **searched(goal, found),
            **sampled(run.inputs), **remembered(run.memory), **(settings or {})}  # fmt: skip
    noted = {key: plain(value) for key, value in used.items()}
    report, words = reported(run, networks, chosen, noted, wanted.get("of", ()))
    return Compressed(
        model=list(networks.values())[-1],
        plan=chosen,
        report=report,
        words=words if found is None else (found.sentence, *words),
        document=documented(document or Document(origin_of(model)), run.inputs),
        state=run.state if epochs or found is not None or run.known is not None or run.clock is not None else None,
    )


def checked(
    model: nn.Module,
    asked: Asked,
    plan: Plan | str | Path | None,
    batch: int | None,
    goal: Goal | None,
    *,
    known_macs: bool,
) -> Plan | None:
    """The plan, if one was given; everything else that was asked for refused before any work, if it cannot be.

    Raises: TenfoldError, one sentence.
    """
    check_one(plan, asked, batch, *(["max_drop"] if goal is not None else []))
    if plan is not None:
        return plan_from(plan)
    check_asked(model, asked if goal is None else {**asked, "params": 1.0}, known_macs=known_macs)
    return None


def begun(
    model: nn.Module,
    data: Data | None,
    inputs: Any,
    batches: Iterable[Any] | None,
    calibration: Calibration,
    training: Training,
    asked: Asked,
    *,
    seed: int,
    batch: int | None,
    device: str | torch.device | None,
    machine: Machine,
    profile: str | Path | None,
    state: str | Path | None,
    whose: Mapping[str, JSON],
    watch: Watch,
) -> Run:
    """The dense network copied, tried on one batch, measured and calibrated on."""
    model = unwrapped(model)
    kept = None if state is None else Path(state)
    check_state(kept, "compress", trains=training.epochs > 0)
    check_finite(model)
    given = given_inputs(model, data, inputs)
    memory = foretold(model, given, asked, calibration, training, device)
    if memory is not None:
        memory.check()
        log.info("memory: up to %s beside what there is", gigabytes(memory.bytes))
    dense = copied(model).eval()
    if device is not None:
        dense, given = dense.to(device), None if given is None else given.to(device)
    how = {"device": device, **machine}
    if data is not None:
        teacher = dense if training.distill else None
        rehearse(dense, data, epochs=training.epochs, bn=training.bn, teacher=teacher, **tried(how))
    called = None if given is None else calls(model, given.samples(1))
    before = profiled(dense, given, profile=profile)
    known = calibrated(dense, data, batches, calibration.calibrate, seed=seed, profile=profile, watch=watch)
    curves = curves_of(before, None if known is None else known.statistics, profile)
    clock = clock_of(dense, before, given, batch, asked, profile or kept)
    return Run(dense, before, data, given, called, known, curves, clock, calibration, training, how, seed, batch,
               profile, kept, whose, watch, memory)  # fmt: skip


def budgeted(asked: Asked, goal: Goal | None) -> Asked:
    """What is asked for, with a budget that is walked."""
    return asked if goal is None else cast(Asked, {**asked, goal.gain.budget: 1.0})


def remembered(memory: Foretold | None) -> dict[str, JSON]:
    """Settings of a report: the memory that was foretold, by what it is for."""
    if memory is None:
        return {}
    return {"memory_foretold": memory.bytes, "memory_for": {**memory.held, **memory.steps}}


def searched(goal: Goal | None, found: Found | None) -> dict[str, Any]:
    """Settings of a report: what was searched for, and every attempt."""
    if goal is None or found is None:
        return {}
    return {**asdict(goal), "attempts": [asdict(each) for each in found.attempts]}


def reported(
    run: Run, networks: Networks, plan: Plan, settings: Mapping[str, JSON], of: Sequence[str]
) -> tuple[Report, tuple[str, ...]]:
    """Everything measured on the networks, and the sentences that say it."""
    scores = {name: judged(network, run.data, run.watch) for name, network in networks.items()}
    batch = None if run.inputs is None else timed(run.inputs, run.profile.macs or 1)
    others: Inputs | None = None  # that nothing was calibrated on
    if run.known is not None and run.data is not None:
        others = unseen_inputs(run.dense, run.data)
    measured = compare(
        networks, batch, scores=scores, reference="dense", others=others, classes=may_have_classes(run.data)
    )
    final = list(networks.values())[-1]
    one = None if run.inputs is None else run.inputs.samples(1)
    after = inspect(final if one is None else runnable(final, one), one)
    knowing = Known(run.curves, {} if run.known is None else run.known.statistics.metrics)
    rows = layer_rows(run.dense, networks["compressed"], plan, run.profile, after=after, knowing=knowing)
    foretold = predicted(run.dense, plan, run.profile, of)
    report = Report(
        measured["dense"], measured["compressed"], measured.get("recovered"), rows, settings, foretold.part,
        foretold.ratio, tuple(run.courses.get(final, ())),
    )  # fmt: skip
    return report, (*sentences(report, run.profile, after), *promised(run.dense, final, plan, batch))
