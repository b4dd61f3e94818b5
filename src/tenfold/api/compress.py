"""The verbs that work on a network in Python."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from tenfold import recovery, storage
from tenfold.api.border import check_asked, check_one, check_training, claim, given_only, release, sha256
from tenfold.api.opened import Opened, build, load, origin_of
from tenfold.api.profiles import planned, profiled
from tenfold.api.samples import first_inputs, one_sample, timed
from tenfold.measure import Profile, inspect, macs, weights_hash
from tenfold.measure.forward import tensors_in
from tenfold.measure.score import device_of, score
from tenfold.models import load_weights
from tenfold.planning import Asked
from tenfold.protocols import Data, TenfoldError, classification_loss, to_device, within
from tenfold.recovery import Step
from tenfold.report import Measurement, Report, ScoreValue, compare, layer_rows, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import Plan, decompose, lower

DISTILL = 0.9  # of the loss, where the data's own is that of classification
Watch = Callable[[Iterator[Step]], Iterable[Step]]

__all__ = [
    "Compressed", "compress", "evaluate", "first_inputs", "load", "recover", "recover_folder", "save", "side_by_side",
]  # fmt: skip


@dataclass(frozen=True)
class Compressed:
    """A compressed network and what is to be known of it.

    Attributes:
        model: to be trained further or used; `tenfold.save` writes it with all the rest.
        words: the report in plain sentences.
        document: where the network came from.
    """

    model: nn.Module
    plan: Plan
    report: Report
    words: tuple[str, ...]
    document: Document


def compress(
    model: nn.Module,
    data: Data | None = None,
    *,
    inputs: Any = None,
    plan: Plan | str | Path | None = None,
    batch: int | None = None,
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
        inputs: to measure on, where there is no data; without either, only params and bytes can be budgets.
        plan: a plan, or a plan file, instead of budgets.
        batch: samples for which the stages of every weight are to be the fastest on this machine; without it they are
            those of the fewest multiply-adds.
        epochs: of fine-tuning, at the top rate `lr`; 0: batch norms only.
        bn: estimate batch norms anew on the training batches (no labels needed).
        distill: share of the loss, 0 to 1, that is the distance to the dense network's outputs (logits); by default
            0.9 where the data's loss is that of classification, and 0 elsewhere.
        device: where to recover and measure; by default where the model is.
        profile: folder that keeps what was measured and found, for the next budget.
        state: folder that keeps checkpoints, by which a run that was stopped goes on.
        settings: more for the report.
        watch: is handed the iterator of training steps and hands it on, to draw a bar.
        asked: budgets, rule, format and the other arguments of `tenfold.plan`.
    Raises: TenfoldError, one sentence.
    """
    wanted = given_only(asked)
    check_one(plan, wanted, batch)
    check_training(epochs=epochs, lr=lr, distill=distill, has_data=data is not None)
    inputs = first_inputs(data) if inputs is None and data is not None else inputs
    read = None if plan is None else plan_from(plan)
    if read is None:
        check_asked(model, wanted, known_macs=inputs is not None or profile is not None)
    dense = copy.deepcopy(model).eval()
    dense = dense if device is None else dense.to(device)
    inputs = None if inputs is None else to_device(inputs, device_of(dense))
    before = profiled(dense, None if inputs is None else one_sample(dense, inputs), profile=profile)
    chosen = read or planned(dense, before, profile=profile, inputs=inputs, batch=batch, seed=seed, **wanted)
    small = decompose(dense, chosen, seed=seed)
    distill = taught(data, distill) if epochs else 0.0
    networks: dict[str, nn.Module] = {"dense": dense, "compressed": small}
    if data is not None and recovers(small, bn, epochs):
        networks["recovered"] = recovered = copy.deepcopy(small)
        if state is not None and epochs:
            claim(Path(state), network=before.weights_hash, plan=sha256(chosen.to_yaml()), **whose(settings))
        recover(recovered, data, teacher=dense if distill else None, epochs=epochs, bn=bn, lr=lr, distill=distill,
                seed=seed, state=state, watch=watch)  # fmt: skip
        if state is not None:
            release(Path(state))
    used = {**wanted, "epochs": epochs, "bn": bn, "distill": distill, "lr": lr, "seed": seed, "device": device,
            "threads": torch.get_num_threads(), "inputs": shapes(inputs), **(settings or {})}  # fmt: skip
    report, words = reported(networks, chosen, before, data, inputs, {key: plain(value) for key, value in used.items()})
    final = networks.get("recovered", small)
    return Compressed(final, chosen, report, words, documented(document or Document(origin_of(model)), inputs))


def taught(data: Data | None, distill: float | None) -> float:
    """The share of the loss that the dense network gives, where it was left open: its outputs must be logits."""
    if distill is not None:
        return distill
    return DISTILL if data is not None and data.loss is classification_loss else 0.0


def whose(settings: Mapping[str, JSON] | None) -> dict[str, JSON]:
    """What of the settings makes checkpoints those of another run."""
    return {key: plain(value) for key, value in (settings or {}).items() if key in ("data", "batch_size")}


def shapes(inputs: Any) -> list[list[int]]:
    """Of one sample, of every tensor in the inputs."""
    return [list(tensor.shape[1:]) for tensor in tensors_in(inputs)]


def documented(document: Document, inputs: Any) -> Document:
    """The document, with the shape of one sample where it did not have it: by name, or `x`."""
    if document.input is not None or inputs is None:
        return document
    found = list(tensors_in(inputs))
    numbered = ["x"] if len(found) == 1 else [f"x{k}" for k in range(len(found))]
    named = dict(zip(inputs if isinstance(inputs, Mapping) else numbered, found, strict=False))
    whole = {name: str(x.dtype).removeprefix("torch.") for name, x in named.items() if not x.dtype.is_floating_point}
    return replace(document, input={name: list(x.shape[1:]) for name, x in named.items()}, dtypes=whole)


def recovers(model: nn.Module, bn: bool, epochs: int) -> bool:
    """Whether there is anything to recover: epochs to train, or batch norms to estimate."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    return epochs > 0 or (bn and norms)


def plan_from(given: Plan | str | Path) -> Plan:
    """A plan, read from its file if it is not one yet.

    Raises: TenfoldError that names the file.
    """
    if isinstance(given, Plan):
        return given
    path = Path(given)
    with within(str(path)):
        try:
            return Plan.from_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise TenfoldError(f"cannot be read ({error}).") from error


def reported(
    networks: Mapping[str, nn.Module],
    plan: Plan,
    before: Profile,
    data: Data | None,
    inputs: Any,
    settings: Mapping[str, JSON],
) -> tuple[Report, tuple[str, ...]]:
    """Everything measured on the networks, and the sentences that say it; `inputs` are on their device."""
    scores = {name: judged(network, data) for name, network in networks.items()}
    batch = None if inputs is None else timed(networks["dense"], inputs, before.macs or 1)
    measured = compare(networks, batch, scores=scores)
    last = list(networks)[-1]
    rows = layer_rows(networks["dense"], networks["compressed"], plan, before)
    report = Report(measured["dense"], measured["compressed"], measured.get("recovered"), rows, settings)
    after = inspect(networks[last], None if inputs is None else one_sample(networks[last], inputs))
    return report, tuple(sentences(report, before, after))


def judged(model: nn.Module, data: Data | None) -> ScoreValue | None:
    """The score on the test split, of the form in which the network will run."""
    return None if data is None else ScoreValue.of(data.score, score(lower(model), data.test, data))


def recover(
    small: nn.Module,
    data: Data,
    *,
    teacher: nn.Module | None = None,
    epochs: int = 0,
    bn: bool = True,
    seed: int = 0,
    state: str | Path | None = None,
    watch: Watch = iter,
    **options: Any,
) -> nn.Module:
    """Estimate batch norms anew, then fine-tune, in place; the same network is handed back, in eval mode.

    Args:
        teacher: the dense network, to learn from its outputs.
        options: more arguments of `tenfold.recovery.finetune` (`lr`, `distill`, `temperature`, ..).
    Raises: TenfoldError as `tenfold.recovery.recover` does.
    """
    if teacher is None:
        options.pop("distill", None)
    training = {**options, "state": None if state is None else Path(state)} if epochs else {}
    for _ in watch(recovery.recover(small, data, epochs=epochs, teacher=teacher, bn=bn, seed=seed, **training)):
        pass
    return small.eval()


def evaluate(model: nn.Module, data: Data | None = None, *, inputs: Any = None) -> Measurement:
    """What a network holds, costs and scores, in the form in which it will run.

    Args: data: its test split gives the score; inputs: to measure on, by default the data's.
    """
    inputs = first_inputs(data) if inputs is None and data is not None else inputs
    if inputs is not None:
        inputs = to_device(inputs, device_of(model))
        inputs = timed(model, inputs, macs(model, one_sample(model, inputs)).total)
    return compare({"model": model}, inputs, scores={"model": judged(model, data)})["model"]


def side_by_side(
    networks: Mapping[str, tuple[nn.Module, Data | None]], *, inputs: Any = None
) -> dict[str, Measurement]:
    """`evaluate` of several networks, each judged on its own data; all are timed in turn in one run.

    Args: inputs: to measure on, for all of them; by default those of the first data.
    """
    if inputs is None:
        inputs = next((first_inputs(data) for _, data in networks.values() if data is not None), None)
    if inputs is not None:
        first = next(model for model, _ in networks.values())
        inputs = to_device(inputs, device_of(first))
        with within(f"the {next(iter(networks))} network"):
            inputs = timed(first, inputs, macs(first, one_sample(first, inputs)).total)
    scores = {name: judged(model, data) for name, (model, data) in networks.items()}
    return compare({name: model for name, (model, _) in networks.items()}, inputs, scores=scores)


def recover_folder(
    folder: Path,
    opened: Opened,
    data: Data,
    *,
    document: Document,
    weights: str | Path | None = None,
    epochs: int = 0,
    bn: bool = True,
    distill: float = 0.0,
    lr: float = 0.02,
    seed: int = 0,
    device: str | torch.device | None = None,
    state: Path | None = None,
    settings: Mapping[str, JSON] | None = None,
    watch: Watch = iter,
) -> Report:
    """Recover the network of a folder and put the result in the folder's place, whole.

    Sizes, costs and times of its report stand, for the shapes of the cores do; the recovered network is judged anew.

    Args:
        weights: of the dense network, which is the teacher; the rest as in `compress`.
    Raises: TenfoldError for a folder without a report, weights that do not suit, or as `compress` does.
    """
    check_training(epochs=epochs, lr=lr, distill=distill, has_data=True)
    kept = storage.read_report(folder)
    if kept is None or opened.plan is None:
        raise TenfoldError(f"'{folder}' has no report of what was measured; compress the network again.")
    before = Report.from_json(json.dumps(kept))
    model = copy.deepcopy(opened.model)
    model = model if device is None else model.to(device)
    if not recovers(model, bn, epochs):
        raise TenfoldError("there is nothing to recover: no epochs, and no batch norms to estimate anew.")
    teacher = None
    if weights is not None:
        teacher = build(opened.document.origin, folder).eval().to(device_of(model))
        load_weights(teacher, weights)
    if state is not None and epochs:
        claim(state, network=weights_hash(model), plan=sha256(opened.plan.to_yaml()), **whose(settings))
    recover(model, data, teacher=teacher, epochs=epochs, bn=bn, lr=lr, distill=distill, seed=seed, state=state,
            watch=watch)  # fmt: skip
    used = {"epochs": epochs, "bn": bn, "distill": distill, "lr": lr, "seed": seed, **(settings or {})}
    past = before.settings.get("recover", [])
    again = [*past, {key: plain(value) for key, value in used.items()}]
    report = with_score(replace(before, settings={**before.settings, "recover": again}), judged(model, data))
    result = Compressed(model.cpu(), opened.plan, report, (), document)
    save(result, folder, overwrite=True)
    return report


def save(compressed: Compressed, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write the folder that a colleague can load, read and run: all of it or nothing.

    Raises: TenfoldError for a folder that cannot be written.
    """
    report = json.loads(compressed.report.to_json())
    storage.save(
        folder, compressed.model, compressed.plan, compressed.document, report=report, overwrite=overwrite,
        keep_state=False,
    )  # fmt: skip


def with_score(report: Report, value: ScoreValue | None) -> Report:
    """A report whose recovered network has this score; all else is as measured before, for the cores' shapes are."""
    return replace(report, recovered=replace(report.final, score=value))


def plain(value: Any) -> JSON:
    """A setting as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
