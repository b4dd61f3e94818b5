"""Fine-tuning: a few epochs of gradient descent on all cores, with the dense network as a teacher if there is one."""

import importlib.util
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
from torch import nn

from tenfold import processes
from tenfold.measure.score import device_of
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery.accelerated import check_shard, training_device
from tenfold.recovery.checkpoint import claimed, load_step, save_step, saved_step
from tenfold.recovery.randomness import seeded
from tenfold.recovery.stops import Stop, held_back
from tenfold.recovery.trainer import Settings, Trainer
from tenfold.tasks import Objective

if TYPE_CHECKING:
    from accelerate import Accelerator


Precision = Literal["no", "bf16", "fp16"]  # as accelerate knows them


class Machine(TypedDict, total=False):
    """How a training runs, whatever it learns: arguments of `finetune`, which says what they are."""

    mixed_precision: Precision
    accumulate: int
    shard: bool
    average: float
    checkpoint_minutes: float


@dataclass(frozen=True)
class Step:
    """One step of gradient descent, as it was.

    Attributes:
        epoch: 1 to epochs.
        step: 1 to steps, counted over the whole run.
        steps: all steps of the run.
        loss: of this step's batch, before the step; the distillation term included.
        score: on the validation batches, after the last step of an epoch; None elsewhere, or without such batches.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    score: float | None = None

    @property
    def title(self) -> str:
        """`epoch 3`."""
        return f"epoch {self.epoch}"

    @property
    def words(self) -> str:
        """The loss; the score where there is one."""
        return f"loss {self.loss:.3f}" + ("" if self.score is None else f"  score {self.score:.4g}")


def finetune(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    optimizer: Literal["sgd", "adam"] = "sgd",
    warmup: float = 0.3,
    teacher: nn.Module | None = None,
    temperature: float = 4.0,
    distill: float = 0.9,
    seed: int = 0,
    mixed_precision: Precision = "no",
    accumulate: int = 1,
    shard: bool = False,
    average: float = 0.0,
    device: torch.device | str | None = None,
    checkpoint_minutes: float = 10.0,
    state: Path | None = None,
    run: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Train a network in place under a one-cycle schedule, yielding every step.

    Arguments are checked at once; training happens as the iterator is drawn from. The final weights are those after
    the last step: no epoch is chosen, and `data.test` is never read. When the iterator has ended, by whatever, the
    network is in eval mode on the device where it was. Gradients are clipped at a norm of 5.

    Of the processes that `torchrun` started each draws all batches and trains on its part of them: the gradient is
    that of the whole batch, however many there are, but for batch norms, whose statistics are of a part.

    Every draw that torch makes within a step (dropout, augmentation, the order of a shuffling DataLoader) depends on
    `seed` and the step alone, and the global random state is left as it was. Where `data.train` has a method
    `set_epoch(int)`, it is called with 0, 1, ... before each epoch.

    Args:
        model: its parameters that require gradients are trained.
        data: `train`, `feed` and the loss are used, and `validation` and the score after each epoch.
        epochs: passes over `data.train`.
        lr: largest learning rate of the cycle.
        momentum: the same throughout.
        weight_decay: of parameters with more than one axis; biases and norms have none.
        optimizer: `sgd` (Nesterov's) or `adam` (second moments over 100 steps, weight decay decoupled).
        warmup: share of the steps in which the rate rises from a 25th of `lr`; in the others it falls to nothing.
        teacher: the dense network, read only; for a task with classes.
        temperature: of the distillation loss.
        distill: weight of the distillation loss; the loss on the labels has the rest.
        seed: for what is drawn.
        mixed_precision: as accelerate knows it; one for all runs of a process.
        accumulate: parts that a batch goes through in, one after the other, where all of it does not fit the memory.
        shard: whether processes share the network and its optimiser out (FSDP2), where one device cannot hold them;
            one way for all runs of a process.
        average: decay of a running average of all weights and buffers, such as 0.999, which the network then has after
            each epoch; 0 for none. The training goes on from the weights themselves.
        device: where to train; by default the one that accelerate finds. Of several processes each has its own.
        checkpoint_minutes: between checkpoints within an epoch; 0 for one after each step.
        state: a folder to resume from, written after each epoch, every `checkpoint_minutes`, and at a stop by the
            keyboard or SIGTERM, which come after the step they fall in. A run that is repeated with the same arguments
            goes on there, and ends with the same weights; after the last step it has nothing left to train. Several
            processes have to see one folder, which is the caller's to delete (`tenfold.recovery.checkpoint.remove`),
            once the network is in a safe place.
        run: what else tells this run from others that could use the folder, in values that JSON knows.
    Raises: TenfoldError if a setting is out of range, the task of the data does not suit, accelerate is missing or
        refuses, `state` is that of another run, or a loss, a gradient or a running statistic is not finite (weights and
        buffers are then those before that step).
    Source: Smith and Topin, arXiv:1708.07120 (2017), for the cycle; Hinton et al. 2015 for the teacher.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise TenfoldError("fine-tuning needs accelerate, which is not installed; pip install 'tenfold[train]'.")
    if teacher is model:
        raise TenfoldError("the teacher is the network to be trained; give the dense network, or teacher=None.")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TenfoldError("no parameter of the network requires a gradient; nothing can be fine-tuned.")
    objective = Objective.of(data)
    if teacher is not None:
        objective.check_distils()
    if not checkpoint_minutes >= 0:
        raise TenfoldError(f"no checkpoint every {checkpoint_minutes} minutes; use 0 (after each step) or more.")
    where = training_device(device)
    check_shard(shard)
    settings = Settings(
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        optimizer=optimizer,
        warmup=warmup,
        temperature=temperature,
        distill=0.0 if teacher is None else distill,
        seed=seed,
        mixed_precision=mixed_precision,
        accumulate=accumulate,
        processes=processes.count(),
        shard=shard,
        average=average,
        batches=_length(data.train, seed, device_of(model)),
        network=_fingerprint(model),
    )
    settings.check()
    kept = None if state is None else _Kept(state, {**asdict(settings), **(run or {})}, checkpoint_minutes)
    if kept is not None:
        saved_step(kept.state, kept.run)  # refuses a foreign state before any work
    return _steps(model, objective, teacher, settings, where, kept)


@dataclass
class _Kept:
    """Where checkpoints of a run are kept, what tells it from others, and how often it writes one."""

    state: Path
    run: Mapping[str, Any]
    minutes: float
    written: float = 0.0  # when, by the monotonic clock

    def after_step(self, accelerator: "Accelerator", step: int, *, asked: bool, ends: bool) -> None:
        """Write a checkpoint where an epoch ends, time is up, or a stop was asked for; of several processes all do."""
        if asked or monotonic() - self.written >= 60 * self.minutes:
            accelerator.set_trigger()
        if accelerator.check_trigger() or ends:
            save_step(accelerator, self.state, step, self.run)
            self.written = monotonic()


def _steps(
    model: nn.Module,
    objective: Objective,
    teacher: nn.Module | None,
    settings: Settings,
    device: torch.device,
    kept: _Kept | None,
) -> Iterator[Step]:
    with ExitStack() as after:
        if kept is not None:
            after.enter_context(claimed(kept.state))
        trainer = Trainer(after, model, objective, teacher, settings, device)
        done = 0
        if kept is not None and (done := saved_step(kept.state, kept.run)):
            load_step(trainer.accelerator, kept.state, done)
            trainer.settle()
        if kept is not None:
            kept.written = monotonic()
        stop = Stop() if kept is None else after.enter_context(held_back())  # while batches are made, too
        for number, batch in trainer.batches(done):
            ends = number % settings.batches == 0
            loss = trainer.step(batch, number)
            if kept is not None:
                asked = stop.asked
                kept.after_step(trainer.accelerator, number, asked=asked, ends=ends)
                if asked:
                    return
            epoch = (number - 1) // settings.batches
            if ends:
                trainer.settle()
            yield Step(epoch + 1, number, settings.steps, loss, trainer.score(epoch) if ends else None)


def _length(batches: Iterable[Any], seed: int, device: torch.device) -> int:
    """Batches in one pass; those that do not say are counted."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        with seeded(seed, "count", device):
            return sum(1 for _ in batches)


def _fingerprint(model: nn.Module) -> int:
    rows = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in model.state_dict().items()]
    return zlib.crc32("\n".join(rows).encode())
