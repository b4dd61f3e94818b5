"""All of it: measure, plan, decompose, recover and measure again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from tenfold.api.border import check_asked, check_one, check_training, check_types, given_only, sha256
from tenfold.api.calibrate import calibrated, sampling
from tenfold.api.compressed import Compressed, documented, plain, sampled
from tenfold.api.decompose import decompose
from tenfold.api.evaluate import judged
from tenfold.api.opened import origin_of
from tenfold.api.plan import plan_from, planned, profiled
from tenfold.api.predicted import predicted
from tenfold.api.reconstruct import reconstructed
from tenfold.api.recover import recovered, recovers, whose
from tenfold.api.samples import given_inputs, timed, unseen_inputs
from tenfold.inputs import Inputs
from tenfold.measure import Profile, calls, check_calls, inspect
from tenfold.planning import Asked
from tenfold.protocols import Data, Watch
from tenfold.recovery import check_state, rehearse
from tenfold.report import Report, compare, layer_rows, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import Plan, check_finite, copied, unwrapped
from tenfold.tasks import Objective

DISTILL = 0.9  # of the loss, where it is that of a task with classes


def compress(
    model: nn.Module,
    data: Data | None = None,
    *,
    inputs: Any = None,
    plan: Plan | str | Path | None = None,
    batch: int | None = None,
    calibrate: int | None = None,
    calibration: Iterable[Any] | None = None,
    reconstruct: bool = True,
    distil: int = 0,
    epochs: int = 0,
    bn: bool = True,
    distill: float | None = None,
    lr: float = 0.02,
    seed: int = 0,
    device: str | torch.device | None = None,
    profile: str | Path | None = None,
    state: str | Path | None = None,
    document: Document | None = None,
    settings: Mapping[str, JSON] | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> Compressed:
    """Measure, plan, decompose, recover and measure again. The argument is untouched.

    Args:
        data: to recover and to judge by; without it the network is only decomposed.
        inputs: to measure on (as `tenfold.inspect` takes them), where there is no data; without either, only params
            and bytes can be budgets.
        plan: a plan, or a plan file, instead of budgets.
        batch: samples for which the stages of every weight are to be the fastest on this machine; without it they are
            those of the fewest multiply-adds.
        calibrate: unlabelled samples by which errors are weighed and blocks reconstructed; 0 for none. By default 1,000
            where there is data and no epochs.
        calibration: batches of inputs to take them from; by default those of the data.
        reconstruct: whether blocks are refined on them after decomposing.
        distil: steps on the whole network after that, unlabelled.
        epochs: of fine-tuning, at the top rate `lr`.
        bn: estimate batch norms anew on the training batches (no labels needed), where nothing was reconstructed.
        distill: share of the loss, 0 to 1, that is the distance to the dense network's classes; by default 0.9 where
            the task of the data has classes and its own loss, and 0 elsewhere.
        device: where to recover and measure; by default where the model is.
        profile: folder that keeps what was measured and found, for the next budget.
        state: folder that keeps checkpoints, by which a run that was stopped or failed goes on, its finished training
            included; `tenfold.save` deletes them.
        settings: more for the report.
        watch: is handed the iterator of training steps and hands it on, to draw a bar.
        asked: budgets, rule, format and the other arguments of `tenfold.plan`.
    Raises: TenfoldError, one sentence.
    """
    check_types(model, data)
    model = unwrapped(model)
    wanted = given_only(asked)
    check_one(plan, wanted, batch)
    check_training(epochs=epochs, lr=lr, distill=distill, has_data=data is not None)
    samples = sampling(calibrate, data, calibration, epochs=epochs, reconstruct=reconstruct, distil=distil)
    bn = bn and not (samples and reconstruct)
    distill = 0.0 if data is None else taught(Objective.of(data), distill if epochs else 0.0)
    check_state(None if state is None else Path(state), "compress", trains=epochs > 0)
    read = None if plan is None else plan_from(plan)
    if read is None:
        check_asked(model, wanted, known_macs=any(each is not None for each in (inputs, data, profile)))
    check_finite(model)
    dense = copied(model).eval()
    dense = dense if device is None else dense.to(device)
    given = given_inputs(dense, data, inputs)
    if data is not None:
        rehearse(dense, data, epochs=epochs, bn=bn, teacher=dense if distill else None)
    called = None if given is None else calls(model, given.samples(1))
    before = profiled(dense, given, profile=profile)
    known = calibrated(dense, data, calibration, samples, seed=seed, profile=profile)
    statistics = None if known is None else known.statistics
    chosen = read or planned(dense, before, profile=profile, inputs=given, batch=batch, seed=seed,
                             statistics=statistics, **wanted)  # fmt: skip
    small = decompose(dense, chosen, statistics=statistics, seed=seed)
    if given is not None and called is not None:
        check_calls(small, called, given.samples(1))
    networks: dict[str, nn.Module] = {"dense": dense, "compressed": small}
    run = {"command": "compress", "weights": before.weights_hash, "plan": sha256(chosen.to_yaml()),
           **whose(settings)}  # fmt: skip
    if known is not None and reconstruct:
        networks["recovered"] = reconstructed(
            dense, copied(small), known, distil=distil, seed=seed, state=state, run=run, watch=watch
        )
    if data is not None and recovers(small, bn, epochs):
        networks["recovered"] = trained = networks.get("recovered") or copied(small)
        recovered(trained, data, teacher=dense if distill else None, epochs=epochs, bn=bn, lr=lr, distill=distill,
                seed=seed, state=state, run=run, watch=watch)  # fmt: skip
    how = {"calibrate": samples, "reconstruct": bool(samples) and reconstruct, "distil": distil}
    used = {**wanted, **how, "epochs": epochs, "bn": bn, "distill": distill, "lr": lr, "seed": seed,
            "device": device, "threads": torch.get_num_threads(), **sampled(given), **(settings or {})}  # fmt: skip
    noted = {key: plain(value) for key, value in used.items()}
    unseen = None if known is None or data is None else unseen_inputs(dense, data)
    report, words = reported(networks, chosen, before, data, given, noted, wanted.get("of", ()), unseen)
    final = networks.get("recovered", small)
    kept = Path(state) if state is not None and (epochs or known is not None) else None
    return Compressed(final, chosen, report, words, documented(document or Document(origin_of(model)), given), kept)


def taught(objective: Objective, distill: float | None) -> float:
    """The share of the loss that the dense network gives, where it was left open.

    Raises: TenfoldError if one was given and the task has no classes.
    """
    if distill is None:
        return DISTILL if objective.distils and objective.data.loss is None else 0.0
    if distill:
        objective.check_distils()
    return distill


def reported(
    networks: Mapping[str, nn.Module],
    plan: Plan,
    before: Profile,
    data: Data | None,
    inputs: Inputs | None,
    settings: Mapping[str, JSON],
    of: Sequence[str],
    others: Inputs | None,
) -> tuple[Report, tuple[str, ...]]:
    """Everything measured on the networks, and the sentences that say it.

    Args: others: inputs that nothing was calibrated on.
    """
    scores = {name: judged(network, data) for name, network in networks.items()}
    batch = None if inputs is None else timed(inputs, before.macs or 1)
    measured = compare(networks, batch, scores=scores, reference="dense", others=others)
    last = list(networks)[-1]
    rows = layer_rows(networks["dense"], networks["compressed"], plan, before)
    part = predicted(networks["dense"], plan, before, of).part
    report = Report(measured["dense"], measured["compressed"], measured.get("recovered"), rows, settings, part)
    after = inspect(networks[last], None if inputs is None else inputs.samples(1))
    return report, tuple(sentences(report, before, after))
