"""`Uniform`: levels at even steps on both sides of zero."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.quantization.scheme import Scheme, storable, straight

FEW = 4  # bits up to which levels stand at half steps
TRIED = *torch.logspace(math.log10(0.05), 0, 64).tolist(), 1.008  # steps, of that which just clips nothing; the last
# does not either, to whichever side it is rounded
ROUNDS = 3  # of refinement by least squares


@dataclass(frozen=True)
class Uniform(Scheme):
    """One step for each group, symmetric.

    Up to 4 bits levels stand at half steps (-3/2, -1/2, 1/2, 3/2), so that none of the 2^bits is lost; beyond, zero is
    a level, and one is lost.
    Source of the gradients: Esser et al., "Learned step size quantization", ICLR 2020, arXiv:1902.08153.
    """

    @property
    def scales(self) -> int:
        return 1

    @property
    def offset(self) -> float:
        """Of levels from whole steps."""
        return 0.5 if self.bits <= FEW else 0.0

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest level, in steps and less the offset."""
        half: int = 2 ** (self.bits - 1)
        return -half if self.offset else 1 - half, half - 1

    def fitted(self, numbers: Tensor, weights: Tensor | None = None) -> Tensor:
        x, w = self.weighted(numbers, weights)
        most = x.abs().amax(1, keepdim=True) / (self.bounds[1] + self.offset)
        best, least = most, torch.full_like(most, math.inf)

        def tried(step: Tensor) -> None:
            nonlocal best, least
            step = storable(step)
            error = (w * (self.level(x, step) * step - x).square()).sum(1, keepdim=True)
            best, least = step.where(error < least, best), error.where(error < least, least)

        for share in TRIED:
            tried(share * most)
        for _ in range(ROUNDS):
            level = self.level(x, best)
            power = (w * level.square()).sum(1, keepdim=True)
            tried(((w * x * level).sum(1, keepdim=True) / power).where(power > 0, best))
        return best.to(numbers.dtype)

    def level(self, numbers: Tensor, steps: Tensor) -> Tensor:
        """The nearest levels, in steps."""
        return self.whole(numbers, steps) + self.offset

    def whole(self, numbers: Tensor, steps: Tensor) -> Tensor:
        """The same less the offset, of steps that are not negative; where a step is 0, all numbers become that."""
        return self.exact(numbers, steps).round()

    def exact(self, numbers: Tensor, steps: Tensor) -> Tensor:
        """The same before rounding."""
        return (numbers / steps.where(steps > 0, 1.0) - self.offset).clamp(*self.bounds)

    def codes_at(self, numbers: Tensor, scales: Tensor) -> Tensor:
        return (self.whole(numbers, scales.squeeze(-1).abs()) - self.bounds[0]).to(torch.int32)

    def numbers_at(self, codes: Tensor, scales: Tensor) -> Tensor:
        return ((codes + self.bounds[0]).to(scales.dtype) + self.offset) * scales.squeeze(-1).abs()

    def learnt(self, numbers: Tensor, scales: Tensor) -> Tensor:
        gain = (self.sharing(numbers.shape) * (self.bounds[1] + self.offset)) ** -0.5
        steps = self.spread(straight(scales, gain), numbers.shape).squeeze(-1).abs()
        exact = self.exact(numbers, steps)
        return (exact + (exact.round() - exact).detach() + self.offset) * steps
