"""ADA-Tucker: Tucker of the flattened weight, dealt to balanced modes that cross the borders of axes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar

import torch
from msgspec import Meta
from torch import Tensor

from tenfold.documents import Natural
from tenfold.formats.base import Axes, Format, Modes
from tenfold.formats.modes import balanced_factors
from tenfold.formats.tucker import Tucker, hub, swept
from tenfold.network import Labels, TensorNetwork

Several = Annotated[int, Meta(ge=2)]
ORDERS = (2, 3, 4, 5)
LOPSIDED = 1.5  # the largest mode over the smallest
PADDING = 0.02  # of the numbers
UNEVEN = 1.05  # the sum of aligned sizes over that of free ones, where aligned is the default


@dataclass(frozen=True)
class ADATucker(Format):
    """ADA-Tucker by higher-order orthogonal iteration (Zhong, Wei, Lin and Zhang 2018; METHODS B).

    The weight, flattened row by row and padded with zeros, is a tensor of `order` modes as equal as can be. Where they
    straddle axes the layer is applied in one stage: fewer parameters, the multiply-adds of the dense layer. Where every
    mode is a factor of one axis (aligned) there are stages.

    Attributes:
        order: 2 to 5 or more modes; 3 if none is given; a planner tries 2 to 5 and keeps the least error.
        sweeps: orthogonal iterations after the truncation; the error never rises.
        align: whether every mode belongs to one axis; then there is at least one for every axis longer than 1. By
            default where that makes the sizes add up to at most 5 % more, as most matrices do at order 4.
    """

    reshapes: ClassVar[bool] = True
    order: Several | None = None
    sweeps: Natural = 5
    align: bool | None = None

    def default_modes(self, axes: Axes) -> Modes:
        flat = {axis: size for axis, size in axes.items() if axis != "g"}
        free, own = near_hypercube(math.prod(flat.values()), self.order or 3), aligned(flat, self.order or 3)
        sums = sum(free), sum(sum(sizes) for axis, sizes in own.items() if flat[axis] > 1)
        even = len(free) == sum(len(sizes) for axis, sizes in own.items() if flat[axis] > 1)
        if self.align or (self.align is None and even and sums[1] <= UNEVEN * sums[0]):
            return own
        return {" ".join(flat): free}

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return Tucker().core_labels(modes)

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, hub(net), self.sweeps)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        return tuple(replace(self, order=order) for order in (ORDERS if self.order is None else (self.order,)))


def aligned(axes: Axes, count: int) -> dict[str, tuple[int, ...]]:
    """Factors of every axis: one each, then up to `count` in all, one by one where their sum falls most.

    Axes of length 1 stay and do not count.
    """
    long = [axis for axis, size in axes.items() if size > 1]
    parts = dict.fromkeys(axes, 1)

    def gain(axis: str) -> int:
        now, then = (balanced_factors(axes[axis], parts[axis] + more) for more in (0, 1))
        return sum(now) - sum(then)

    for _ in range(count - len(long) if long else 0):
        parts[max(long, key=gain)] += 1
    return {axis: balanced_factors(axes[axis], parts[axis]) for axis in axes}


@lru_cache(maxsize=4096)
def near_hypercube(size: int, count: int) -> tuple[int, ...]:
    """`count` ascending sizes whose product is `size`, or up to 2 % more where that alone keeps them within 1.5.

    Of several the least padding, then the most even; where there is none, the balanced factors.
    """
    edge = size ** (1 / count)
    low, high = max(1, math.ceil(edge / LOPSIDED)), math.floor(edge * LOPSIDED)
    found = [
        (math.prod(sizes), sizes[-1] / sizes[0], sizes)
        for sizes in ascending(size, count, low, high)
        if math.prod(sizes) <= size * (1 + PADDING) and sizes[-1] <= LOPSIDED * sizes[0]
    ]
    return min(found)[2] if found else balanced_factors(size, count)


def ascending(size: int, count: int, low: int, high: int) -> Iterator[tuple[int, ...]]:
    """Ascending sizes from `low` to `high`, the last one the smallest that makes their product `size` or more."""
    if count == 1:
        last = max(low, 1, size)
        yield from [(last,)] if last <= high else []
        return
    for first in range(low, high + 1):
        for rest in ascending(-(-size // first), count - 1, first, high):
            yield (first, *rest)
