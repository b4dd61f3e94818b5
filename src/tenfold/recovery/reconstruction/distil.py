"""A compressed network led to the dense one's outputs as a whole, on unlabelled samples."""

import copy
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, call, evaluating
from tenfold.recovery.reconstruction.schedule import one_cycle
from tenfold.statistics.gradients import Outputs

LOOKS = 10  # at the held-out samples
HELD_OUT = 2  # batches


@dataclass(frozen=True)
class Distillation:
    """How a whole network is trained.

    Attributes:
        steps: of Adam.
        lr: the highest rate, of one cycle.
    """

    steps: int = 150
    lr: float = 1e-3


@dataclass(frozen=True)
class StepDone:
    """A step of distillation.

    Attributes:
        step: 1 to steps.
        loss: of its batch, over the squares of the dense network's outputs.
        seconds_left: at the pace so far.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float

    @property
    def title(self) -> str:
        """What is done."""
        return "distillation"

    @property
    def words(self) -> str:
        """The loss."""
        return f"loss {self.loss:.3f}"


def distil(
    dense: nn.Module, small: nn.Module, batches: Iterable[Inputs], how: Distillation, outputs: Outputs
) -> Iterator[StepDone]:
    """Train all of a network in eval mode on squared differences of its outputs; yields after each step.

    The first batches are held out, and the network ends as it was where it erred least on them, before the first step
    included. Without more batches than those, nothing is held out.

    Args:
        small: changed in place.
        batches: unlabelled, at least one; gone through again and again.
        outputs: what is compared of the outputs.
    """
    held = list(itertools.islice(batches, HELD_OUT + 1))
    held = held[:HELD_OUT] if len(held) > HELD_OUT else []
    parameters = [p for p in small.parameters() if p.requires_grad]
    if not parameters or how.steps < 1:
        return
    optimiser = torch.optim.Adam(parameters, lr=how.lr)
    schedule = one_cycle(optimiser, how.steps, rise=0.3)
    best, least = copy.deepcopy(small.state_dict()), error(dense, small, held, outputs)
    mode, began = small.training, time.perf_counter()
    small.eval()
    for step, batch in enumerate(itertools.islice(again(batches, len(held)), how.steps), start=1):
        optimiser.zero_grad()
        loss = distance(wanted(dense, batch, outputs), outputs(call(small, batch.value)))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if held and (step * LOOKS // how.steps != (step - 1) * LOOKS // how.steps):
            now = error(dense, small, held, outputs)
            if now < least:
                best, least = copy.deepcopy(small.state_dict()), now
        pace = (time.perf_counter() - began) / step
        yield StepDone(step, how.steps, float(loss.detach()), pace * (how.steps - step))
    if held:
        small.load_state_dict(best)
    optimiser.zero_grad()
    small.train(mode)


def again(batches: Iterable[Inputs], skipped: int) -> Iterator[Inputs]:
    """The batches without the first ones, over and over."""
    while True:
        yield from itertools.islice(batches, skipped, None)


def wanted(dense: nn.Module, batch: Inputs, outputs: Outputs) -> list[Tensor]:
    """What the dense network gives."""
    with evaluating(dense):
        return list(outputs(call(dense, batch.value)))


def distance(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Tensor:
    """Squared differences over the squares of what is wanted."""
    apart = torch.stack([(a - b).square().sum() for a, b in zip(found, wanted, strict=True)]).sum()
    return apart / sum(float(y.square().sum()) for y in wanted)


def error(dense: nn.Module, small: nn.Module, batches: Sequence[Inputs], outputs: Outputs) -> float:
    """The mean distance on some batches."""
    with evaluating(small):
        each = [distance(wanted(dense, b, outputs), outputs(call(small, b.value))) for b in batches]
    return float(torch.stack(each).mean()) if each else 0.0
