"""All that a block holds trained so that it gives what the dense one gave."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.inputs import tensors_in
from tenfold.recovery.reconstruction.flow import Given, through
from tenfold.recovery.reconstruction.samples import Samples


@dataclass(frozen=True)
class Refinement:
    """How a block is trained.

    Attributes:
        steps: of AdamW, without decay of weights.
        batch: samples in each.
        lr: the highest rate; it rises over the first tenth and falls to 0 as a cosine.
    """

    steps: int = 300
    batch: int = 64
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.99)


def refined(modules: Sequence[nn.Module], samples: Samples, how: Refinement, *, generator: torch.Generator) -> float:
    """Train a block in eval mode (running statistics stay) on squared errors, over the variance of the targets.

    Args: modules: changed in place; those of their parameters that can be trained are.
    Returns: the mean loss over the last tenth of the steps; 0 where there is nothing to train or no target that varies.
    Source: AA-SVD, arXiv:2604.02119, section 3 (block refinement).
    """
    parameters = list({p: None for module in modules for p in module.parameters() if p.requires_grad})
    scale = variance(samples)
    if not parameters or not scale or how.steps < 1:
        return 0.0
    modes = [(m, m.training) for module in modules for m in module.modules()]
    for module in modules:
        module.eval()
    optimiser = torch.optim.AdamW(parameters, lr=how.lr, betas=how.betas, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, how.lr, total_steps=how.steps, pct_start=0.1, cycle_momentum=False
    )
    late: list[float] = []
    for step in range(how.steps):
        optimiser.zero_grad()
        pairs = samples.drawn(how.batch, generator)
        value = 0.0
        for given, wanted in pairs:
            loss = distance(modules, given, wanted) / (scale * len(pairs))
            loss.backward()  # type: ignore[no-untyped-call]
            value += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        late += [value] if step >= 0.9 * how.steps else []
    optimiser.zero_grad()
    for module, mode in modes:
        module.training = mode
    return sum(late) / len(late)


def distance(modules: Sequence[nn.Module], given: Given, wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of what a block gives from what it is to give."""
    found = floating(through(modules, given))
    size = sum(y.numel() for y in wanted)
    return torch.stack([(a - b).square().sum() for a, b in zip(found, wanted, strict=True)]).sum() / size


def variance(samples: Samples) -> float:
    """Of the targets about their mean over everything but the channels, which come second (last of matrices)."""
    total = size = 0.0
    for _, wanted in samples.parts:
        for y in wanted:
            dims = [d for d in range(y.ndim) if d != (1 if y.ndim > 3 else y.ndim - 1)]
            total += float((y - y.mean(dims, keepdim=True)).double().square().sum()) if dims else 0.0
            size += y.numel()
    return total / size if size else 0.0


def floating(outputs: object) -> list[Tensor]:
    """All that is floating in what a block gives."""
    return [y for y in tensors_in(outputs) if y.is_floating_point()]
