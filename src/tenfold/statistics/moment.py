"""`Moment`: sums over rows of features, from which means and second moments follow."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from tenfold.statistics.sums import Sums

MOST = 5120  # features: of more, only the diagonal is kept; of groups of features, no more numbers than of so many


def is_full(groups: int, features: int) -> bool:
    """Whether all of a moment is kept, and not only its diagonal."""
    return groups * features**2 <= MOST**2


def moment_bytes(groups: int, features: int) -> int:
    """Bytes of a moment of so many features in each of so many groups."""
    return 8 * groups * (features**2 if is_full(groups, features) else features)


@dataclass(frozen=True)
class Moment(Sums):
    """Sums over rows.

    Attributes:
        count: rows, ().
        total: their sum, (groups, k).
        outer: the sum of their outer products, (groups, k, k), of blocks in at least float32; of their squares,
            (groups, k), beyond `MOST` features and of one-hot rows.
    """

    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, rows: Tensor, features: int) -> Self:
        """Args: rows (n, groups, k), or indices (n,) of one-hot rows (-1: zeros), and how many features those have."""
        count = torch.tensor(len(rows), dtype=torch.float64)
        if not rows.is_floating_point():
            seen = torch.bincount(rows[rows >= 0].cpu(), minlength=features).double().unsqueeze(0)
            return cls(count, seen, seen.clone())
        each = rows.transpose(0, 1).to(torch.promote_types(rows.dtype, torch.float32))  # (groups, n, k)
        outer = each.mT @ each if is_full(len(each), features) else each.square().sum(1)
        return cls(count, each.double().sum(1).cpu(), outer.double().cpu())

    def scaled(self, factor: float) -> "Moment":
        """As many rows, each counted as if it were so much more likely: all sums but the count are multiplied."""
        return replace(self, total=self.total * factor, outer=self.outer * factor)

    @property
    def mean(self) -> Tensor:
        """(groups, k)."""
        return self.total / self.count.clamp_min(1)

    def second(self, *, centred: bool) -> Tensor:
        """The second moment about the mean, or about zero: of the shape of `outer`."""
        raw = self.outer / self.count.clamp_min(1)
        if not centred:
            return raw
        return raw - (self.mean.square() if raw.ndim == 2 else self.mean.unsqueeze(-1) * self.mean.unsqueeze(-2))
