"""Recovery of a network, or of one in a folder."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold import recovery, storage
from tenfold.api.border import check_training, claim, sha256
from tenfold.api.compressed import Compressed, plain, save
from tenfold.api.evaluate import judged
from tenfold.api.opened import Opened, build
from tenfold.api.samples import first_inputs, timed
from tenfold.measure import OutputError, output_errors, outputs, weights_hash
from tenfold.measure.score import device_of
from tenfold.models import load_weights
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery import Step
from tenfold.report import Report, ScoreValue, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import copied

Watch = Callable[[Iterator[Step]], Iterable[Step]]


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
    model = copied(opened.model)
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
    batch = timed(model, first_inputs(data), before.final.macs or 1)
    errors = {} if teacher is None else output_errors(outputs(teacher, batch), outputs(model, batch))
    report = recovered(replace(before, settings={**before.settings, "recover": again}), judged(model, data), errors)
    result = Compressed(model.cpu(), opened.plan, report, tuple(sentences(report)), document)
    save(result, folder, overwrite=True)
    return report


def recovers(model: nn.Module, bn: bool, epochs: int) -> bool:
    """Whether there is anything to recover: epochs to train, or batch norms to estimate."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    return epochs > 0 or (bn and norms)


def recovered(report: Report, score: ScoreValue | None, errors: Mapping[str, OutputError]) -> Report:
    """A report whose recovered network has this score and these errors of its outputs.

    All else is as measured before, for the cores' shapes are.
    """
    return replace(report, recovered=replace(report.final, score=score, outputs=errors))


def whose(settings: Mapping[str, JSON] | None) -> dict[str, JSON]:
    """What of the settings makes checkpoints those of another run."""
    return {key: plain(value) for key, value in (settings or {}).items() if key in ("data", "batch_size")}
