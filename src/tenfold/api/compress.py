"""The verbs that work on a network in Python."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from tenfold import recovery, storage
from tenfold.api.opened import load, origin_of
from tenfold.api.profiles import planned, profiled
from tenfold.api.samples import first_inputs, samples, timed_samples
from tenfold.measure import Profile, inspect, macs
from tenfold.measure.score import score
from tenfold.planning import Asked
from tenfold.protocols import Data, TenfoldError, within
from tenfold.recovery import Step
from tenfold.report import Measurement, Report, ScoreValue, compare, layer_rows, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import Plan, decompose, lower

Watch = Callable[[Iterator[Step]], Iterable[Step]]

__all__ = ["Compressed", "compress", "evaluate", "first_inputs", "load", "recover", "save"]


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
    epochs: int = 0,
    bn: bool = True,
    distill: float = 0.0,
    lr: float = 0.01,
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
        epochs: of fine-tuning, at the top rate `lr`; 0: batch norms only.
        bn: estimate batch norms anew on the training batches (no labels needed).
        distill: share of the loss, 0 to 1, that is the distance to the dense network's outputs.
        device: where to recover and measure; by default where the model is.
        profile: folder that keeps what was measured and found, for the next budget.
        state: folder that keeps checkpoints, by which a run that was stopped goes on.
        settings: more for the report.
        watch: is handed the iterator of training steps and hands it on, to draw a bar.
        asked: budgets, rule, format and the other arguments of `tenfold.plan`.
    Raises: TenfoldError, one sentence.
    """
    if plan is not None and asked:
        raise TenfoldError(f"a plan was given and {', '.join(asked)} too; give one or the other.")
    if epochs and data is None:
        raise TenfoldError(f"epochs={epochs} needs data to train on.")
    dense = copy.deepcopy(model).eval()
    dense = dense if device is None else dense.to(device)
    inputs = first_inputs(data) if inputs is None and data is not None else inputs
    before = profiled(dense, None if inputs is None else samples(inputs, 1), profile=profile)
    chosen = planned(dense, before, profile=profile, **asked) if plan is None else plan_from(plan)
    small = decompose(dense, chosen, seed=seed)
    networks: dict[str, nn.Module] = {"dense": dense, "compressed": small}
    if data is not None and recovers(small, bn, epochs):
        recovered = copy.deepcopy(small)
        teacher = dense if distill else None
        recover(recovered, data, teacher=teacher, epochs=epochs, bn=bn, lr=lr, distill=distill, seed=seed, state=state,
                watch=watch)  # fmt: skip
        networks["recovered"] = recovered
    used = {**asked, "epochs": epochs, "bn": bn, "distill": distill, "lr": lr, "seed": seed,
            "threads": torch.get_num_threads(), **(settings or {})}  # fmt: skip
    report, words = reported(networks, chosen, before, data, inputs, plain(used))
    final = networks.get("recovered", small)
    return Compressed(final, chosen, report, words, document or Document(origin_of(model)))


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
    """Everything measured on the networks, and the sentences that say it."""
    scores = {name: judged(network, data) for name, network in networks.items()}
    batch = None if inputs is None else samples(inputs, timed_samples(before.macs or 1))
    measured = compare(networks, batch, scores=scores)
    last = list(networks)[-1]
    rows = layer_rows(networks["dense"], networks["compressed"], plan, before)
    report = Report(measured["dense"], measured["compressed"], measured.get("recovered"), rows, settings)
    after = inspect(networks[last], None if inputs is None else samples(inputs, 1))
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
    place = None if state is None else Path(state)
    for _ in watch(recovery.recover(small, data, epochs=epochs, teacher=teacher, bn=bn, seed=seed, **(
        {**options, "state": place} if epochs else {}
    ))):  # fmt: skip
        pass
    return small.eval()


def evaluate(model: nn.Module, data: Data | None = None, *, inputs: Any = None) -> Measurement:
    """What a network holds, costs and scores, in the form in which it will run.

    Args: data: its test split gives the score; inputs: to measure on, by default the data's.
    """
    inputs = first_inputs(data) if inputs is None and data is not None else inputs
    if inputs is not None:
        inputs = samples(inputs, timed_samples(macs(model, samples(inputs, 1)).total))
    return compare({"model": model}, inputs, scores={"model": judged(model, data)})["model"]


def save(compressed: Compressed, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write the folder that a colleague can load, read and run: all of it or nothing.

    Raises: TenfoldError for a folder that cannot be written.
    """
    report = json.loads(compressed.report.to_json())
    storage.save(folder, compressed.model, compressed.plan, compressed.document, report=report, overwrite=overwrite)


def with_score(report: Report, value: ScoreValue | None) -> Report:
    """A report whose recovered network has this score; all else is as measured before, for the cores' shapes are."""
    return replace(report, recovered=replace(report.final, score=value))


def plain(settings: Mapping[str, Any]) -> dict[str, JSON]:
    """Settings as JSON knows them."""
    return {key: value if isinstance(value, str | int | float | bool | None | list | dict) else str(value)
            for key, value in settings.items()}  # fmt: skip
