"""A network with its optimiser and schedule, step after step on accelerate."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tenfold.inputs import call, to_device, unchanged
from tenfold.measure.finite import because, finite
from tenfold.measure.score import device_of, score
from tenfold.protocols import TenfoldError
from tenfold.recovery.accelerated import accelerator_for, gather_into, repeated, same_everywhere, whole
from tenfold.recovery.batchnorm import restored_on_error, spoilt_statistics, statistics_of, tracking
from tenfold.recovery.distillation import distance_to_teacher
from tenfold.recovery.parts import parts_of
from tenfold.recovery.randomness import at_epoch, seeded
from tenfold.surgery import copied
from tenfold.tasks import Objective

CLIP = 5.0  # norm of all gradients: a sound network stays below it; cores that nearly cancel (CP) shoot far above


@dataclass(frozen=True)
class Settings:
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
    accumulate: int  # parts of a batch in each process
    processes: int
    shard: bool
    average: float  # 0: none
    batches: int  # an epoch
    network: int  # checksum of the names, shapes and types of all tensors

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epochs * self.batches

    def check(self) -> None:
        """Raise a TenfoldError for a setting out of range."""
        bounds: dict[str, tuple[bool, str]] = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "lr": (self.lr > 0, "a number above 0, such as 0.01"),
            "momentum": (0 < self.momentum < 1, "a number between 0 and 1, such as 0.9"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "optimizer": (self.optimizer in OPTIMIZERS, " or ".join(OPTIMIZERS)),
            "warmup": (0 < self.warmup < 1, "a share of the steps between 0 and 1, such as 0.1"),
            "temperature": (self.temperature > 0, "a number above 0, such as 4"),
            "distill": (0 <= self.distill <= 1, "0 (labels only) to 1 (teacher only)"),
            "accumulate": (self.accumulate >= 1, "1 (whole batches) or more"),
            "average": (
                0 <= self.average < 1 and not (self.average and self.shard),
                "0 (none) to below 1, such as 0.999, and not with a network that is shared out",
            ),
            "batches": (self.batches >= 1, "training data of at least one batch"),
        }
        for name, (fine, allowed) in bounds.items():
            if not fine:
                raise TenfoldError(f"cannot fine-tune with {name}={getattr(self, name)}; use {allowed}.")


def _sgd(groups: list[dict[str, Any]], settings: Settings) -> Optimizer:
    return SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=True)


def _adam(groups: list[dict[str, Any]], settings: Settings) -> Optimizer:
    return AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.99))


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Settings], Optimizer]] = {"sgd": _sgd, "adam": _adam}


class Trainer:
    """A network with its optimiser and schedule, on the device of the training until `after` is left.

    Attributes:
        model: the caller's network. Where processes share it out it stays where it was, and a copy is shared; where
            weights are averaged a copy is trained. It gets the shared numbers, or the averages, in `settle`.
        numbers: the parts of every batch that this process trains on.
    """

    def __init__(
        self,
        after: ExitStack,
        model: nn.Module,
        objective: Objective,
        teacher: nn.Module | None,
        settings: Settings,
        device: torch.device,
    ) -> None:
        self.accelerator = accelerator_for(device, settings.mixed_precision, settings.accumulate, settings.shard)
        self.device = device
        after.callback(model.eval)
        after.callback(model.zero_grad)
        if not settings.shard:
            _lend(after, model, device)
        if settings.processes > 1:
            same_everywhere((*model.parameters(), *model.buffers()), device)
        if teacher is not None:
            _lend(after, teacher, device)
            after.enter_context(unchanged(teacher))
            teacher.eval()
        self.model, self.objective, self.data = model, objective, objective.data
        self.teacher, self.settings = teacher, settings
        self.parts = settings.accumulate * settings.processes
        self.numbers = range(self.accelerator.process_index, self.parts, settings.processes)
        self.trained = copied(model) if settings.shard or settings.average else model
        self.norms = tracking(self.trained)
        optimizer = OPTIMIZERS[settings.optimizer](_groups(self.trained, settings.weight_decay), settings)
        rise = _rise(settings.warmup, settings.steps)
        cycle = OneCycleLR(optimizer, settings.lr, settings.steps, pct_start=rise, cycle_momentum=False)
        self.network, self.optimizer, self.schedule = self.accelerator.prepare(_Shell(self.trained), optimizer, cycle)
        self.average = self.averaged() if settings.average else None

    def averaged(self) -> AveragedModel:
        """The running average of what is trained, which checkpoints hold, too."""
        mean = get_ema_multi_avg_fn(self.settings.average)  # type: ignore[no-untyped-call]
        average = AveragedModel(self.trained, multi_avg_fn=mean, use_buffers=True)
        self.accelerator.register_for_checkpointing(average)
        return average

    def batches(self, done: int) -> Iterator[tuple[int, Any]]:
        """Every step after those that are done: its number, from 1, and its batch. What was learnt from is drawn again.

        Raises: TenfoldError for an epoch that is shorter than it was.
        """
        seed, count = self.settings.seed, self.settings.batches
        for epoch in range(done // count, self.settings.epochs):
            self.trained.train()
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
                if epoch * count + k >= done:
                    yield epoch * count + k + 1, to_device(batch, self.device)

    def step(self, batch: Any, number: int) -> float:
        """One step down the gradient; the loss before it. All processes have a part in it."""
        total = torch.zeros((), device=self.device)
        self.optimizer.zero_grad()
        with restored_on_error(list(self.trained.buffers())):
            for part in parts_of(batch, self.objective, self.numbers, self.parts):
                inputs = self.data.feed(part.batch)
                place = f"step {number}/part {part.number}"
                with self.accelerator.accumulate(self.network), seeded(self.settings.seed, place, self.device):
                    loss = self.loss(inputs, part.batch)
                    total = total + self.accelerator.reduce(loss.detach() * part.share)
                    self.accelerator.backward(loss * (part.share * self.parts))  # of which accelerate takes the mean
            norm = self.accelerator.clip_grad_norm_(self.network.parameters(), CLIP)
            value = self.looked_at(total, norm, batch, number)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.trained)
        return value

    def looked_at(self, loss: Tensor, norm: Tensor, batch: Any, number: int) -> float:
        """The loss, where it, the running statistics and the norm of the gradient are finite.

        They are read at once: this is where a step waits for its device.
        Raises: TenfoldError that says which of them is not.
        """
        wide = torch.promote_types(loss.dtype, torch.float32)
        seen = (loss, whole(norm), finite(statistics_of(self.norms)))
        value, length, sound = torch.stack([x.detach().to(self.device, wide) for x in seen]).tolist()
        if not math.isfinite(value):
            raise self.refusal("loss", value, batch, number)
        if not sound:
            raise spoilt_statistics(self.data.feed(batch), self.place(number))
        if not math.isfinite(length) and self.accelerator.scaler is None:  # a scaler skips such steps by itself
            raise self.refusal("gradient", length, batch, number)
        return float(value)

    def settle(self) -> None:
        """Give the caller's network, in every process, what has been learnt so far."""
        if self.settings.shard:
            gather_into(self.model, self.trained)
        if self.average is not None:
            gather_into(self.model, self.average.module)
            keep_unaveraged(self.model, self.trained)
        if self.settings.processes > 1:  # each has statistics of its own parts
            same_everywhere(self.model.buffers(), self.device)

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
            return score(self.model, self.data.validation, self.data, device=device_of(self.model))

    def refusal(self, what: str, value: float, batch: Any, number: int) -> TenfoldError:
        """Of a step whose loss or gradient is not finite."""
        rate, other = self.schedule.get_last_lr()[0], self.settings.lr / 10
        return TenfoldError(
            f"the {what} is {value} at {self.place(number)}, where the learning rate is {rate:.3g}"
            + because(self.data.feed(batch), f"try lr={other:.3g}, and see that inputs and targets are finite")
        )

    def place(self, number: int) -> str:
        """A step, counted over the whole run and within its epoch."""
        epoch, batch = divmod(number - 1, self.settings.batches)
        return f"step {number} of {self.settings.steps} (batch {batch + 1} of epoch {epoch + 1})"


class _Shell(nn.Module):
    """The network as accelerate sees it: what it patches for mixed precision is this, and is thrown away."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._no_split_modules = repeated(network)  # what accelerate shares out as one, by the name of transformers

    def forward(self, inputs: Any) -> Any:
        return call(self.network, inputs)


def _lend(after: ExitStack, model: nn.Module, device: torch.device) -> None:
    """Move a network, and back when `after` is left."""
    after.callback(model.to, device_of(model))
    model.to(device)


def keep_unaveraged(model: nn.Module, trained: nn.Module) -> None:
    """Give a network's buffers what has no average as it was trained: indices, counts, masks of infinities."""
    with torch.no_grad():
        for own, latest in zip(model.buffers(), trained.buffers(), strict=True):
            averaged = own.isfinite() & own.is_floating_point()
            own.copy_(torch.where(averaged, own, latest.to(own.device)))


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
