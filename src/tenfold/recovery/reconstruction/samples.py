"""The inputs and the targets of a block, from which steps draw samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold.inputs.containers import leaves, mapped
from tenfold.recovery.reconstruction.flow import Given


@dataclass(frozen=True)
class Samples:
    """Pairs of what a block is given and the tensors that it is to give, part by part.

    Attributes:
        parts: one for each chunk, or a single one where all chunks have been laid end to end, of which any samples can
            be taken.
        sizes: samples of each part.
    """

    parts: Sequence[tuple[Given, list[Tensor]]]
    sizes: Sequence[int]

    @classmethod
    def of(cls, given: Sequence[Given], wanted: Sequence[list[Tensor]], sizes: Sequence[int]) -> "Samples":
        """Args: what a block is given, the tensors that it is to give, and how many samples that are, by chunk."""
        pairs = list(zip(given, wanted, strict=True))
        columns = list(zip(*(list(leaves(pair)) for pair in pairs), strict=True)) if is_alike(pairs) else []
        if len(pairs) < 2 or not columns or not all(joins(column, sizes) for column in columns):
            return cls(pairs, sizes)
        joined = iter([joint(column, sizes) for column in columns])
        return cls([mapped(lambda _: next(joined), pairs[0])], [sum(sizes)])

    @property
    def count(self) -> int:
        """Samples in all."""
        return sum(self.sizes)

    def drawn(self, count: int, generator: torch.Generator) -> list[tuple[Given, list[Tensor]]]:
        """About so many samples at random: of the one part, or so many of the parts."""
        if len(self.parts) == 1:
            if count >= self.count:
                return list(self.parts)
            return [self.taken(torch.randperm(self.count, generator=generator)[:count])]
        many = max(1, round(count * len(self.parts) / self.count))
        return [self.parts[k] for k in torch.randperm(len(self.parts), generator=generator)[:many].tolist()]

    def taken(self, index: Tensor) -> tuple[Given, list[Tensor]]:
        """Samples of the one part."""
        pair: tuple[Given, list[Tensor]] = mapped(
            lambda x: x[index.to(x.device)] if counts(x, self.count) else x, self.parts[0]
        )
        return pair


def counts(leaf: Any, size: int) -> bool:
    """Whether the first dimension of a leaf counts samples."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


def is_alike(pairs: Sequence[Any]) -> bool:
    """Whether all chunks have as many leaves."""
    return len({len(list(leaves(pair))) for pair in pairs}) == 1


def joins(column: Sequence[Any], sizes: Sequence[int]) -> bool:
    """Whether a leaf of all chunks can be laid end to end, or is the same in all."""
    if all(counts(leaf, size) for leaf, size in zip(column, sizes, strict=True)):
        return len({leaf.shape[1:] for leaf in column}) == 1
    if all(isinstance(leaf, Tensor) for leaf in column):
        return all(leaf.shape == column[0].shape and torch.equal(leaf, column[0]) for leaf in column)
    return not any(isinstance(leaf, Tensor) for leaf in column)


def joint(column: Sequence[Any], sizes: Sequence[int]) -> Any:
    """A leaf of all chunks end to end; what all have in common as it is."""
    if all(counts(leaf, size) for leaf, size in zip(column, sizes, strict=True)):
        whole = torch.cat(list(column))
        return whole.contiguous(memory_format=torch.channels_last) if whole.ndim == 4 else whole
    return column[0]
