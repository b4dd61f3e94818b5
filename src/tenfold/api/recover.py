"""Recovery of a network, or of one in a folder."""

import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from tenfold import recovery, storage
from tenfold.api.border import sha256
from tenfold.api.compressed import Compressed, plain, save
from tenfold.api.evaluate import judged
from tenfold.api.judge import may_have_classes
from tenfold.api.opened import Opened, build
from tenfold.api.samples import first_inputs, timed
from tenfold.arguments import typed
from tenfold.inputs import inputs_for
from tenfold.measure import OutputError, output_errors, outputs, weights_hash
from tenfold.measure.score import device_of
from tenfold.models import load_weights
from tenfold.protocols import Data, TenfoldError, Watch
from tenfold.recovery import Finetuning, Machine, rehearse
from tenfold.report import CoursePoint, Report, noted, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import copied, stored
from tenfold.tasks import Objective

DISTILL = 0.9  # of the loss, where it is that of a task with classes


@dataclass(frozen=True)
class Training:
    """How a compressed network is trained on labelled batches.

    Attributes:
        epochs: of fine-tuning.
        bn: whether batch norms are estimated anew before (no labels needed).
        distill: share of the loss, 0 to 1, that is the distance to the dense network's classes; None: 0.9 where the
            task of the data has classes and its own loss, and 0 elsewhere.
        lr: the top rate.
    """

    epochs: int = 0
    bn: bool = True
    distill: float | None = None
    lr: float = 0.02

    def check(self, *, has_data: bool) -> None:
        """Raise a TenfoldError for a setting out of range, that wants data where there is none, or does nothing."""
        epochs, lr, distill = self.epochs, self.lr, self.distill
        if epochs < 0:
            raise TenfoldError(f"cannot fine-tune for epochs={epochs}; use 0 (batch norms only) or more.")
        if not (lr > 0 and math.isfinite(lr)):
            raise TenfoldError(f"cannot fine-tune with lr={lr}; use a number above 0, such as 0.01.")
        if distill is not None and not 0 <= distill <= 1:
            raise TenfoldError(f"cannot fine-tune with distill={distill}; use 0 (labels only) to 1 (teacher only).")
        if epochs and not has_data:
            raise TenfoldError(f"epochs={epochs} needs data to train on; give data, or epochs=0.")
        if distill and not epochs:
            raise TenfoldError(f"distill={distill} is a part of fine-tuning; give epochs, too.")
        if epochs and importlib.util.find_spec("accelerate") is None:
            raise TenfoldError("fine-tuning needs accelerate, which is not installed; pip install 'tenfold[train]'.")

    def settled(self, data: Data | None) -> "Training":
        """The same with what was left open decided.

        Raises: TenfoldError as `check` does, and for a share of classes where the task has none.
        """
        self.check(has_data=data is not None)
        share = 0.0 if data is None else taught(Objective.of(data), self.distill if self.epochs else 0.0)
        return replace(self, distill=share)


def taught(objective: Objective, distill: float | None) -> float:
    """The share of the loss that the dense network gives, where it was left open.

    Raises: TenfoldError if one was given and the task has no classes.
    """
    if distill is None:
        return DISTILL if objective.distils and objective.data.loss is None else 0.0
    if distill:
        objective.check_distils()
    return distill


@typed
def recover(
    small: nn.Module,
    data: Data,
    *,
    teacher: nn.Module | None = None,
    epochs: int = 0,
    bn: bool = True,
    seed: int = 0,
    state: str | Path | None = None,
    run: Mapping[str, JSON] | None = None,
    watch: Watch = iter,
    **options: Unpack[Finetuning],
) -> nn.Module:
    """Estimate batch norms anew, then fine-tune, in place; the same network is handed back, in eval mode.

    Args:
        teacher: the dense network, to learn from its outputs.
        state: folder that keeps the last checkpoint, that of the end included; yours to delete when the network is
            saved. A run that is repeated goes on from there.
        run: what tells this run from others that could use the folder; by default the weights that it starts from.
        options: more arguments of `tenfold.recovery.finetune` (`lr`, `distill`, `accumulate`, `device`, ..).
    Raises: TenfoldError as `tenfold.recovery.recover` does; before any work, where one batch shows that it cannot work.
    """
    judged_on = ("validation",) if epochs else ()
    rehearse(small, data, epochs=epochs, bn=bn, teacher=teacher, judged_on=judged_on, **tried(options))
    return recovered(
        small, data, teacher=teacher, epochs=epochs, bn=bn, seed=seed, state=state, run=run, watch=watch, **options
    )


def tried(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the arguments of `finetune` a rehearsal needs to know, too."""
    return {name: options[name] for name in ("device", "accumulate", "shard", "temperature") if name in options}


def recovered(
    small: nn.Module,
    data: Data,
    *,
    teacher: nn.Module | None = None,
    epochs: int,
    bn: bool,
    seed: int,
    state: str | Path | None,
    run: Mapping[str, JSON] | None,
    watch: Watch,
    course: list[CoursePoint] | None = None,
    **options: Any,
) -> nn.Module:
    """`recover`, where one batch has been rehearsed; `course`: where to note how the losses go."""
    if teacher is None:
        options.pop("distill", None)
    if state is not None and run is None:
        run = {"command": "recover", "weights": weights_hash(small)}
    training = {**options, "state": None if state is None else Path(state), "run": run} if epochs else {}
    steps = recovery.recover(small, data, epochs=epochs, teacher=teacher, bn=bn, seed=seed, **training)
    for _ in watch(noted(steps, [] if course is None else course, lambda _: "epochs")):
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
    machine: Machine | None = None,
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
    Training(epochs, bn, distill, lr).check(has_data=True)
    Objective.of(data)  # refuses an unknown task or score before any work
    recovery.check_state(state, "recover", trains=epochs > 0)
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
    how: dict[str, Any] = {"device": device, **(machine or {})}
    rehearse(model, data, epochs=epochs, bn=bn, teacher=teacher, **tried(how))
    run = {"command": "recover", "weights": weights_hash(model), "plan": sha256(opened.plan.to_yaml()),
           **whose(settings)}  # fmt: skip
    course = [*before.course]
    recovered(model, data, teacher=teacher, epochs=epochs, bn=bn, lr=lr, distill=distill, seed=seed, state=state,
              run=run, watch=watch, course=course, **how)  # fmt: skip
    stored(model, opened.plan.dtype)
    used = {
        "epochs": epochs,
        "bn": bn,
        "distill": distill,
        "lr": lr,
        "seed": seed,
        **(machine or {}),
        **(settings or {}),
    }
    past = before.settings.get("recover", [])
    again = [*past, {key: plain(value) for key, value in used.items()}]
    errors = {} if teacher is None else differences(teacher, model, data, before.final.macs)
    known = replace(before, settings={**before.settings, "recover": again}, course=tuple(course))
    final = replace(known.final, elsewhere={})  # of a network that is no more
    report = replace(known, recovered=replace(final, score=judged(model, data, watch), outputs=errors))
    words = tuple(sentences(report))
    result = Compressed(model.cpu(), opened.plan, report, words, document, state if epochs else None)
    save(result, folder, overwrite=True)
    return report


def recovers(model: nn.Module, bn: bool, epochs: int) -> bool:
    """Whether there is anything to recover: epochs to train, or batch norms to estimate."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    return epochs > 0 or (bn and norms)


def differences(teacher: nn.Module, model: nn.Module, data: Data, macs: int | None) -> dict[str, OutputError]:
    """How far the outputs went from the dense network's on the first of the data's inputs."""
    batch = timed(inputs_for(teacher, first_inputs(data), data.batch), macs or 1).value
    return output_errors(outputs(teacher, batch), outputs(model, batch), classes=may_have_classes(data))


def whose(settings: Mapping[str, JSON] | None) -> dict[str, JSON]:
    """What of the settings makes checkpoints those of another run."""
    return {key: plain(value) for key, value in (settings or {}).items() if key in ("data", "task", "batch_size")}
