"""All that a block holds trained so that it gives what the dense one gave."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.recovery.reconstruction.flow import Given, through
from tenfold.recovery.reconstruction.samples import Samples
from tenfold.recovery.reconstruction.schedule import one_cycle
from tenfold.statistics.gradients import floating

BETAS = 0.9, 0.99  # of AdamW
PASSES = 20  # over the samples at most


@dataclass(frozen=True)
class Refinement:
    """How a block is trained.

    Attributes:
        steps: of AdamW, without decay of weights; fewer where samples are few.
        batch: samples in each.
        lr: the highest rate; it rises over the first tenth and falls to 0 as a cosine. Where that does harm, a third of
            it is tried, and a ninth.
    """

    steps: int = 150
    batch: int = 64
    lr: float = 3e-3


def refined(
    modules: Sequence[nn.Module],
    samples: Samples,
    how: Refinement,
    *,
    generator: torch.Generator,
    worth: Tensor | None = None,
) -> float:
    """Train a block in eval mode (running statistics stay) on squared errors, over the variance of the targets.

    Args:
        modules: changed in place; those of their parameters that can be trained are.
        worth: (channels, channels), the second moment of what the network's outputs owe to the block's: half of the
            loss is then the error in this metric.
    Returns: the loss on all samples, never more than before; 0 where nothing can be trained or no target varies.
    Source: AA-SVD, arXiv:2604.02119, section 3 (block refinement).
    """
    parameters = list({p: None for module in modules for p in module.parameters() if p.requires_grad})
    weighings = [torch.ones(())] if worth is None else [torch.ones(()), root(worth)]
    scales = [variance(samples, each) for each in weighings]
    steps = steps_for(how.steps, samples.count, how.batch)
    if not parameters or not all(scales) or steps < 1:
        return 0.0
    modes = [(m, m.training) for module in modules for m in module.modules()]
    for module in modules:
        module.eval()

    def lost(apart: Sequence[Tensor]) -> Tensor:
        return torch.stack([mean_square(apart, w) / scale for w, scale in zip(weighings, scales, strict=True)]).mean()

    def passed(rate: float) -> float:
        optimiser = torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=0.0)
        schedule = one_cycle(optimiser, steps, rise=0.1)
        for _ in range(steps):
            optimiser.zero_grad()
            pairs = samples.drawn(how.batch, generator)
            for given, wanted in pairs:
                loss = lost(differences(modules, given, wanted)) / len(pairs)
                torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
        optimiser.zero_grad()
        return overall(modules, samples, how.batch, lost)

    before = [p.detach().clone() for p in parameters]
    start = end = overall(modules, samples, how.batch, lost)
    for rate in (how.lr, how.lr / 3, how.lr / 9):
        end = passed(rate)
        if end < start:
            break
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
    for module, mode in modes:
        module.training = mode
    return min(start, end)


def steps_for(asked: int, samples: int, batch: int) -> int:
    """How many steps are taken: what was asked for, and no more than pass over the samples twenty times."""
    return min(asked, math.ceil(PASSES * samples / batch))


def overall(
    modules: Sequence[nn.Module], samples: Samples, batch: int, lost: Callable[[Sequence[Tensor]], Tensor]
) -> float:
    """The loss on all samples."""
    with torch.no_grad():
        parts = [(float(lost(differences(modules, *pair))), size) for pair, size in samples.each(batch)]
    return sum(value * size for value, size in parts) / sum(size for _, size in parts)


def differences(modules: Sequence[nn.Module], given: Given, wanted: Sequence[Tensor]) -> list[Tensor]:
    """What a block gives less what it is to give."""
    return [a - b for a, b in zip(floating(through(modules, given)), wanted, strict=True)]


def mean_square(tensors: Sequence[Tensor], weighing: Tensor) -> Tensor:
    """The mean of squares, the channels multiplied by a matrix (or by one number)."""
    total = torch.stack([weighed(y, weighing).square().sum() for y in tensors]).sum()
    return total / sum(y.numel() for y in tensors)


def weighed(y: Tensor, weighing: Tensor) -> Tensor:
    """A matrix on the channels of a tensor."""
    if weighing.ndim == 0:
        return y
    matrix = weighing.to(y)
    return torch.einsum("nc...,cd->nd...", y, matrix) if channel_dim(y) == 1 else y @ matrix


def channel_dim(y: Tensor) -> int:
    """Where the channels of an output are: second of maps, last of tokens."""
    return 1 if y.ndim > 3 else y.ndim - 1


def variance(samples: Samples, weighing: Tensor) -> float:
    """Of the targets about their mean over everything but the channels."""
    total = size = 0.0
    for parts in samples.targets:
        dims = [d for d in range(parts[0].ndim) if d != channel_dim(parts[0])]
        if dims:
            rows = sum(y.numel() // y.shape[channel_dim(y)] for y in parts)
            mean = (
                torch.stack([y.double().sum(dims, keepdim=True).cpu() for y in parts]).sum(0) / rows
            )  # (some lie on the host)
            total += sum(float(weighed(y - mean.to(y), weighing).double().square().sum()) for y in parts)
        size += sum(y.numel() for y in parts)
    return total / size if size else 0.0


def root(moment: Tensor) -> Tensor:
    """The symmetric square root of a moment, scaled to a mean eigenvalue of 1, in float32."""
    values, vectors = torch.linalg.eigh(moment.double())
    level = float(values.clamp_min(0).mean()) or 1.0
    found: Tensor = vectors * (values.clamp_min(0) / level).sqrt() @ vectors.mT
    return found.float()
