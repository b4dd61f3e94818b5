"""`Codebook`: levels where the numbers are, found by k-means."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.quantization.scheme import Scheme, storable
from tenfold.quantization.uniform import Uniform

ROUNDS = 30  # of k-means


@dataclass(frozen=True)
class Codebook(Scheme):
    """2^bits levels for each group, in rising order; they are its scales.

    Source: Lloyd, IEEE Trans. Inf. Theory 28 (1982), 129-137.
    """

    widths: ClassVar[tuple[int, ...]] = (6, 4, 3, 2)

    @property
    def scales(self) -> int:
        return int(2**self.bits)

    def fitted(self, numbers: Tensor, weights: Tensor | None = None) -> Tensor:
        """From the even levels that err least."""
        x, w = self.weighted(numbers, weights)
        even = Uniform(self.bits, self.per)
        levels = (torch.arange(self.scales) + even.bounds[0] + even.offset) * even.fitted(numbers, weights).double()
        for _ in range(ROUNDS):
            code = nearest(x, levels)
            total = torch.zeros_like(levels).scatter_add_(1, code, w)
            mean = torch.zeros_like(levels).scatter_add_(1, code, w * x) / total
            levels = mean.where(total > 0, levels).sort(1).values
        return storable(levels).to(numbers.dtype)

    def codes_at(self, numbers: Tensor, scales: Tensor) -> Tensor:
        flat = scales.reshape(-1, self.scales).sort(1).values
        return nearest(numbers.reshape(-1, 1), flat).reshape(numbers.shape).to(torch.int32)

    def numbers_at(self, codes: Tensor, scales: Tensor) -> Tensor:
        return scales.sort(-1).values.gather(-1, codes.long().unsqueeze(-1)).squeeze(-1)

    def learnt(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """A level's gradient is the sum of those of its numbers; a number's goes straight through."""
        level = self.on_grid(numbers, scales)
        return level + (numbers - numbers.detach())


def nearest(numbers: Tensor, levels: Tensor) -> Tensor:
    """The place of the nearest level. Args: numbers (groups, n); levels (groups, k) in rising order."""
    borders = (levels[:, 1:] + levels[:, :-1]) / 2
    return torch.searchsorted(borders.contiguous(), numbers.detach().contiguous())
