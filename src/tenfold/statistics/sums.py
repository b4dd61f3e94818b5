"""`Sums`: what is accumulated over samples."""

from dataclasses import dataclass, fields
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Sums:
    """Fields that are sums, in float64: those of several parts of the inputs, or of several processes, are added field
    by field.

    Attributes:
        count: of what is summed, ().
    """

    count: Tensor

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))
