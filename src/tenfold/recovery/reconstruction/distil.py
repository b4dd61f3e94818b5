"""A compressed network led to the dense one's outputs as a whole, on unlabelled samples."""

import copy
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, call, evaluating
from tenfold.layers.recurrence import differentiable
from tenfold.recovery.reconstruction.blocks import Block
from tenfold.recovery.reconstruction.refine import channel_dim
from tenfold.recovery.reconstruction.schedule import one_cycle
from tenfold.statistics.gradients import Outputs, floating

LOOKS = 10  # at the held-out samples
ROUNDING = 1e-9  # of squares: what varies less is constant


@dataclass(frozen=True)
class Distillation:
    """How a whole network is trained.

    Attributes:
        steps: of Adam.
        lr: the highest rate, of one cycle.
        rise: the share of the steps in which the rate rises.
        inside: what the errors of the blocks' outputs weigh, on average, beside those of the network's.
        patience: the share of the steps after which it goes on only if they lowered the error on held-out samples.
    """

    steps: int = 150
    lr: float = 1.5e-3
    rise: float = 0.1
    inside: float = 0.0
    patience: float = 1.0


@dataclass(frozen=True)
class StepDone:
    """A step of the whole network.

    Attributes:
        title: what is done.
        step: 1 to steps.
        loss: of its batch, over the squares of the dense network's outputs.
    """

    title: str
    step: int
    steps: int
    loss: float

    @property
    def words(self) -> str:
        """The loss."""
        return f"loss {self.loss:.3f}"


def distil(
    dense: nn.Module,
    small: nn.Module,
    batches: Iterable[Sequence[Inputs]],
    how: Distillation,
    outputs: Outputs,
    *,
    held: Sequence[Inputs] = (),
    blocks: Sequence[Block] = (),
    title: str = "distillation",
) -> Generator[StepDone, None, bool]:
    """Train all of a network in eval mode on squared differences of its outputs; yields after each step.

    The network ends as it was where it erred least on the held-out samples, before the first step included; where none
    are held out, as it is after the last step.

    Args:
        small: changed in place.
        batches: unlabelled, as many as there are steps; the parts of one are run one after the other.
        outputs: what is compared of the outputs.
        blocks: whose outputs are compared, too.
    Returns: whether it errs less on the held-out samples than before; where none are held out, whether it was trained.
    """
    parameters = [p for p in small.parameters() if p.requires_grad]
    if not parameters or how.steps < 1:
        return False
    optimiser = torch.optim.Adam(parameters, lr=how.lr)
    schedule = one_cycle(optimiser, how.steps, how.rise)
    best, least = copy.deepcopy(small.state_dict()), error(dense, small, held, outputs)
    start = least
    mode = small.training
    small.eval()
    for step, batch in enumerate(itertools.islice(batches, how.steps), start=1):
        optimiser.zero_grad()
        total = 0.0
        for part in batch:
            with evaluating(dense):
                wanted = seen(dense, part, outputs, blocks)
            found = seen(small, part, outputs, blocks)
            loss = distance(wanted.outputs, found.outputs) / len(batch)
            inner = how.inside * apart(wanted.inside, found.inside).to(loss) / len(batch) if blocks else 0.0
            (loss + inner).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        optimiser.step()
        schedule.step()
        if held and (step * LOOKS // how.steps != (step - 1) * LOOKS // how.steps):
            now = error(dense, small, held, outputs)
            if now < least:
                best, least = copy.deepcopy(small.state_dict()), now
        yield StepDone(title, step, how.steps, total)
        if held and step >= how.patience * how.steps and least >= start:
            break
    if held:
        small.load_state_dict(best)
    optimiser.zero_grad()
    small.train(mode)
    return not held or least < start


@dataclass(frozen=True)
class Seen:
    """What a network gave, at its end and at the ends of blocks."""

    outputs: list[Tensor]
    inside: list[Tensor]


def seen(model: nn.Module, batch: Inputs, outputs: Outputs, blocks: Sequence[Block]) -> Seen:
    """One forward, watched."""
    inside: list[Tensor] = []
    ends = [block.of(model)[-1] for block in blocks]
    with hooked(ends, lambda result: inside.extend(floating(result))), differentiable([model]):
        return Seen(list(outputs(call(model, batch.value))), inside)


@contextmanager
def hooked(modules: Sequence[nn.Module], note: Callable[[Any], None]) -> Iterator[None]:
    """What these modules give is noted."""
    handles = [module.register_forward_hook(lambda _, __, result: note(result)) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def distance(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Tensor:
    """Squared differences over the squares of what is wanted."""
    apart = torch.stack([(a - b).square().sum() for a, b in zip(found, wanted, strict=True)]).sum()
    return apart / (sum(float(y.square().sum()) for y in wanted) or 1.0)


def apart(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Tensor:
    """The mean over tensors of squared differences, each over how what is wanted varies; what does not is left out."""
    pairs = zip(found, wanted, map(spread, wanted), strict=True)
    each = [(a - b).square().sum() / size for a, b, size in pairs if size]
    return torch.stack(each).mean() if each else torch.zeros(())


def spread(y: Tensor) -> float:
    """Squares about the mean over everything but the channels, or about 0 of a single row; 0 where that is rounding."""
    dims = [d for d in range(y.ndim) if d != channel_dim(y)]
    squares = float(y.double().square().sum())
    if not y.numel() or y.numel() == y.shape[channel_dim(y)]:
        return squares
    found = float((y.double() - y.double().mean(dims, keepdim=True)).square().sum())
    return found if found > ROUNDING * squares else 0.0


def error(dense: nn.Module, small: nn.Module, batches: Sequence[Inputs], outputs: Outputs) -> float:
    """The mean distance on some batches."""
    with evaluating(small), evaluating(dense):
        each = [distance(*(seen(model, b, outputs, ()).outputs for model in (dense, small))) for b in batches]
    return float(torch.stack(each).mean()) if each else 0.0
