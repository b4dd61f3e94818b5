"""Fine-tuning: a few epochs of gradient descent on all cores, with the dense network as a teacher if there is one."""

import importlib.util
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from tenfold.inputs import call, to_device, unchanged
from tenfold.measure.finite import because
from tenfold.measure.score import device_of, score
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery.batchnorm import check_statistics, restored_on_error, tracking
from tenfold.recovery.checkpoint import claimed, load_epoch, save_epoch, saved_epoch
from tenfold.recovery.distillation import distance_to_teacher
from tenfold.recovery.randomness import at_epoch, seeded
from tenfold.tasks import Objective

if TYPE_CHECKING:
    from accelerate import Accelerator

CLIP = 5.0  # norm of all gradients: a sound network stays below it; cores that nearly cancel (CP) shoot far above


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


@dataclass(frozen=True)
class _Settings:
    """What fixes the course of a run; two runs that agree in it may continue each other."""

    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    optimizer: str
    warmup: float
    temperature: float
    distill: float  # 0 without a teacher
    seed: int
    mixed_precision: str
    batches: int  # an epoch
    network: int  # checksum of the names, shapes and types of all tensors

    def check(self) -> None:
        bounds: dict[str, tuple[bool, str]] = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "lr": (self.lr > 0, "a number above 0, such as 0.01"),
            "momentum": (0 < self.momentum < 1, "a number between 0 and 1, such as 0.9"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "optimizer": (self.optimizer in OPTIMIZERS, " or ".join(OPTIMIZERS)),
            "warmup": (0 < self.warmup < 1, "a share of the steps between 0 and 1, such as 0.1"),
            "temperature": (self.temperature > 0, "a number above 0, such as 4"),
            "distill": (0 <= self.distill <= 1, "0 (labels only) to 1 (teacher only)"),
            "batches": (self.batches >= 1, "training data of at least one batch"),
        }
        for name, (fine, allowed) in bounds.items():
            if not fine:
                raise TenfoldError(f"cannot fine-tune with {name}={getattr(self, name)}; use {allowed}.")


def _sgd(groups: list[dict[str, Any]], settings: _Settings) -> Optimizer:
    return SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=True)


def _adam(groups: list[dict[str, Any]], settings: _Settings) -> Optimizer:
    return AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.99))


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], _Settings], Optimizer]] = {"sgd": _sgd, "adam": _adam}


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
    mixed_precision: Literal["no", "bf16", "fp16"] = "no",
    state: Path | None = None,
    run: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Train a network in place under a one-cycle schedule, yielding every step.

    Arguments are checked at once; training happens as the iterator is drawn from. The final weights are those after
    the last step: no epoch is chosen, and `data.test` is never read. When the iterator has ended, by whatever, the
    network is in eval mode on the device where it was. A run uses one process and one device, the one that
    accelerate finds. Gradients are clipped at a norm of 5.

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
        state: a folder to resume from, written after each epoch. A run that is repeated with the same arguments goes on
            after its last whole epoch; after the last of all it has nothing left to train. The folder is the
            caller's to delete (`tenfold.recovery.checkpoint.remove`), once the network is in a safe place.
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
    settings = _Settings(
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
        batches=_length(data.train, seed, device_of(model)),
        network=_fingerprint(model),
    )
    settings.check()
    kept = None if state is None else _Kept(state, {**asdict(settings), **(run or {})})
    if kept is not None:
        saved_epoch(kept.state, kept.run)  # refuses a foreign state before any work
    return _epochs(model, objective, teacher, settings, kept)


@dataclass(frozen=True)
class _Kept:
    """Where a run's epochs are kept, and what tells it from others."""

    state: Path
    run: Mapping[str, Any]


def _epochs(
    model: nn.Module, objective: Objective, teacher: nn.Module | None, settings: _Settings, kept: _Kept | None
) -> Iterator[Step]:
    with ExitStack() as after:
        if kept is not None:
            after.enter_context(claimed(kept.state))
        trainer = _Trainer(after, model, objective, teacher, settings)
        done = 0 if kept is None else saved_epoch(kept.state, kept.run)
        if kept is not None and done:
            load_epoch(trainer.accelerator, kept.state, done)
        steps = settings.epochs * settings.batches
        for epoch in range(done, settings.epochs):
            for k, loss in enumerate(trainer.epoch(epoch), start=1):
                step = epoch * settings.batches + k
                found = None
                if k == settings.batches:
                    if kept is not None:
                        save_epoch(trainer.accelerator, kept.state, epoch + 1, kept.run)
                    found = trainer.score(epoch)
                yield Step(epoch + 1, step, steps, loss, found)


class _Trainer:
    """A network with its optimiser and schedule, on accelerate's device until `after` is left."""

    def __init__(
        self, after: ExitStack, model: nn.Module, objective: Objective, teacher: nn.Module | None, settings: _Settings
    ) -> None:
        self.accelerator = _accelerator(settings.mixed_precision)
        self.device: torch.device = self.accelerator.device
        after.callback(model.eval)
        after.callback(model.zero_grad)
        _lend(after, model, self.device)
        if teacher is not None:
            _lend(after, teacher, self.device)
            after.enter_context(unchanged(teacher))
            teacher.eval()
        self.model, self.objective, self.data = model, objective, objective.data
        self.teacher, self.settings = teacher, settings
        self.norms = tracking(model)
        optimizer = OPTIMIZERS[settings.optimizer](_groups(model, settings.weight_decay), settings)
        steps = settings.epochs * settings.batches
        rise = _rise(settings.warmup, steps)
        cycle = OneCycleLR(optimizer, settings.lr, steps, pct_start=rise, cycle_momentum=False)
        self.network, self.optimizer, self.schedule = self.accelerator.prepare(_Shell(model), optimizer, cycle)

    def epoch(self, epoch: int) -> Iterator[float]:
        """Train on every batch once; yields the loss of each."""
        seed, count = self.settings.seed, self.settings.batches
        self.model.train()
        with seeded(seed, f"epoch {epoch}", self.device):
            batches = iter(at_epoch(self.data.train, epoch))
        for k in range(count):
            with seeded(seed, f"epoch {epoch}/batch {k}", self.device):
                batch = next(batches, None)
                if batch is None:
                    raise TenfoldError(
                        f"epoch {epoch + 1} of the training data had {k} batches where {count} were expected; "
                        "give data that can be iterated again and again."
                    )
                loss = self.step(to_device(batch, self.device), epoch * count + k + 1)
            yield loss

    def step(self, batch: Any, number: int) -> float:
        """One step down the gradient; the loss before it."""
        inputs = self.data.feed(batch)
        with restored_on_error(list(self.model.buffers())):
            loss = self.loss(inputs, batch)
            value = loss.item()
            self.expect_finite(value, "loss", number, inputs)
            check_statistics(self.norms, inputs, self.place(number))
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP)
            if self.accelerator.scaler is None:  # a scaler skips such steps by itself
                self.expect_finite(float(norm), "gradient", number, inputs)
        self.optimizer.step()
        self.schedule.step()
        return value

    def loss(self, inputs: Any, batch: Any) -> Tensor:
        """Of the labels, and of the teacher if there is one; scalar."""
        outputs = self.network(inputs)
        loss = self.objective.loss(outputs, batch)
        if self.teacher is None:
            return loss
        with torch.no_grad(), self.accelerator.autocast():
            wanted = call(self.teacher, inputs)
        distance = distance_to_teacher(self.objective, outputs, wanted, batch, self.settings.temperature)
        return (1 - self.settings.distill) * loss + self.settings.distill * distance

    def score(self, epoch: int) -> float | None:
        """On the validation batches, in full precision."""
        with seeded(self.settings.seed, f"epoch {epoch}/validation", self.device):
            return score(self.model, self.data.validation, self.data, device=self.device)

    def expect_finite(self, value: float, what: str, number: int, inputs: Any) -> None:
        if math.isfinite(value):
            return
        rate, other = self.schedule.get_last_lr()[0], self.settings.lr / 10
        raise TenfoldError(
            f"the {what} is {value} at {self.place(number)}, where the learning rate is {rate:.3g}"
            + because(inputs, f"try lr={other:.3g}, and see that inputs and targets are finite")
        )

    def place(self, number: int) -> str:
        """A step, counted over the whole run and within its epoch."""
        epoch, batch = divmod(number - 1, self.settings.batches)
        steps = self.settings.epochs * self.settings.batches
        return f"step {number} of {steps} (batch {batch + 1} of epoch {epoch + 1})"


class _Shell(nn.Module):
    """The network as accelerate sees it: what it patches for mixed precision is this, and is thrown away."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Any) -> Any:
        return call(self.network, inputs)


def _accelerator(mixed_precision: str) -> "Accelerator":
    from accelerate import Accelerator

    try:
        accelerator = Accelerator(mixed_precision=mixed_precision)
    except ValueError as error:  # a second precision in one process, or one that the device lacks
        raise TenfoldError(f"accelerate refuses mixed_precision={mixed_precision!r} here: {error}") from error
    if accelerator.num_processes > 1:
        raise TenfoldError(f"fine-tuning runs in one process, not {accelerator.num_processes}; use python to start it.")
    return accelerator


def _lend(after: ExitStack, model: nn.Module, device: torch.device) -> None:
    """Move a network, and back when `after` is left."""
    after.callback(model.to, device_of(model))
    model.to(device)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _rise(warmup: float, steps: int) -> float:
    """The warm-up as a share of the steps; torch divides by zero where that is one step, so it is two then."""
    return 2 / steps if warmup * steps == 1 else warmup


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
