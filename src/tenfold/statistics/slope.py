"""`Slope`: sums over gradients of a weight, from which follows what a random change of it costs."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tenfold.statistics.sums import Sums


@dataclass(frozen=True)
class Slope(Sums):
    """Sums over gradients G, (groups, o, k), of projections of the outputs, each over some samples and everything that
    the weight does for them: all positions, all steps.

    Attributes:
        count: samples, ().
        square: of the squared norms of G, (groups,).
        cross: of bᵀG, b being the gradient of a shift of the weight's outputs, (groups, k).
        level: of the squared norms of b, (groups,).
    """

    square: Tensor
    cross: Tensor
    level: Tensor

    @classmethod
    def of(cls, gradient: Tensor, shift: Tensor, samples: int) -> Self:
        """Args: gradient (groups, o, k); shift (groups, o)."""
        each, b = gradient.double().cpu(), shift.double().cpu()
        cross = (b.unsqueeze(1) @ each).squeeze(1)
        count = torch.tensor(samples, dtype=torch.float64)
        return cls(count, each.square().sum((1, 2)), cross, b.square().sum(1))

    def trace(self, mean: Tensor | None) -> Tensor:
        """Of the weight's Gauss-Newton matrix, (groups,): what a change of independent entries of variance one costs.

        Args: mean: of the inputs, (groups, k), where shifts of outputs' means are made good; else None.
        """
        found = self.square
        if mean is not None:
            found = found - 2 * (self.cross * mean).sum(1) + self.level * mean.square().sum(1)
        return found.clamp_min(0) / self.count.clamp_min(1)  # rounding
