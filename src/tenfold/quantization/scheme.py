"""`Scheme`: how the numbers of one core lie in few bits."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from tenfold.protocols import TenfoldError

Bits = Literal[16, 8, 6, 4, 3, 2]
Per = Literal["core", "row"] | int  # what has one scale: the core, an index of its first dimension, so many numbers
CORE: Literal["core"] = "core"
ROW: Literal["row"] = "row"
NOISE = {16: 1e-9, 8: 1e-4, 6: 1.04e-3, 4: 0.01154, 3: 0.03744, 2: 0.1188}  # Max, IRE Trans. Inf. Theory 6 (1960)
STORED = torch.bfloat16  # a scale in the file: its products with up to 16 bits of a code are exact in float32


@dataclass(frozen=True)
class Scheme(ABC):
    """Codes of so many bits for numbers, and few scales that make numbers of them again. Subclasses are final.

    Numbers are float32 or float64; scales have their dtype, and count at the nearest values that bfloat16 has.
    Laws: what is on the grid stays there, bit for bit; `learnt` is `on_grid` in values.
    """

    bits: int
    per: Per = CORE
    widths: ClassVar[tuple[int, ...]] = get_args(Bits)

    def __post_init__(self) -> None:
        if self.bits not in self.widths:
            raise TenfoldError(f"{self.bits} is no number of bits; use {', '.join(map(str, self.widths))}.")
        if self.per not in (CORE, ROW) and not (isinstance(self.per, int) and self.per >= 1):
            raise TenfoldError(f"scales per '{self.per}' are not known; use core, row, or how many numbers share one.")

    # ---- counts: whole numbers, or a planner's arrays of them
    def sharing(self, shape: Sequence[Any]) -> Any:
        """How many numbers of a core have one scale together."""
        whole = math.prod(shape)
        return whole if self.per == CORE else whole // shape[0] if self.per == ROW else self.per

    def groups(self, shape: Sequence[Any]) -> Any:
        """How many groups with a scale of their own a core has; the last may be smaller."""
        return -(-math.prod(shape) // self.sharing(shape))

    def stored_bytes(self, shape: Sequence[Any]) -> Any:
        """Of codes and scales in a file."""
        return -(-math.prod(shape) * self.bits // 8) + self.groups(shape) * self.scales * STORED.itemsize

    @property
    def noise(self) -> float:
        """The share of the squares that rounding normal numbers to the best even levels loses."""
        return NOISE[self.bits]

    @property
    @abstractmethod
    def scales(self) -> int:
        """How many scales a group has."""

    # ---- numbers
    @abstractmethod
    def fitted(self, numbers: Tensor, weights: Tensor | None = None) -> Tensor:
        """Scales (groups, scales) at which rounding a core to the nearest errs little.

        Args: weights: of the squared errors, of the core's shape; alike without.
        """

    @abstractmethod
    def codes_at(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """The codes of the nearest: whole numbers from 0 below 2^bits, int32. Args: scales (*numbers, scales)."""

    @abstractmethod
    def numbers_at(self, codes: Tensor, scales: Tensor) -> Tensor:
        """The numbers of codes. Args: scales (*codes, scales)."""

    @abstractmethod
    def learnt(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """A core on its grid, with gradients for its numbers and scales."""

    def spread(self, scales: Tensor, shape: Sequence[int]) -> Tensor:
        """The scales of every number of a core, (*shape, scales)."""
        if self.per == CORE:
            return storable(scales)[0].expand(*shape, self.scales)
        at = torch.arange(math.prod(shape), device=scales.device) // self.sharing(shape)
        return storable(scales)[at].reshape(*shape, self.scales)

    def codes(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """The codes of a core."""
        return self.codes_at(numbers, self.spread(scales, numbers.shape))

    def numbers(self, codes: Tensor, scales: Tensor) -> Tensor:
        """The core of codes."""
        return self.numbers_at(codes, self.spread(scales, codes.shape))

    def nearest(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """The nearest on the grid. Args: scales (*numbers, scales)."""
        return self.numbers_at(self.codes_at(numbers, scales), scales)

    def on_grid(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """A core on its grid."""
        return self.nearest(numbers, self.spread(scales, numbers.shape))

    def grouped(self, numbers: Tensor) -> Tensor:
        """(groups, numbers of one) in float64, filled up with zeros."""
        size, groups = self.sharing(numbers.shape), self.groups(numbers.shape)
        flat = numbers.double().flatten()
        return functional.pad(flat, (0, groups * size - len(flat))).reshape(groups, size)

    def weighted(self, numbers: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Numbers and weights in groups; what fills a group up weighs nothing."""
        given = torch.ones_like(numbers) if weights is None else weights
        return self.grouped(numbers), self.grouped(given)


def storable(scales: Tensor) -> Tensor:
    """Scales at the nearest values that the file has; straight through for gradients."""
    return scales + (scales.to(STORED).to(scales.dtype) - scales).detach()


def straight(numbers: Tensor, gain: float) -> Tensor:
    """The same numbers, whose gradient is so many times what comes back."""
    return numbers.detach() + gain * (numbers - numbers.detach())
