"""The inputs and the targets of a block, from which steps draw samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold.inputs import Inputs
from tenfold.inputs.containers import leaves, mapped
from tenfold.recovery.reconstruction.flow import Given


@dataclass(frozen=True)
class Samples:
    """Pairs of what a block is given and the tensors that it is to give, part by part.

    Attributes:
        parts: one for each chunk, or a single one where all chunks have been laid end to end.
        sizes: samples of each part.
        counted: of the single part, for each leaf in order, whether its first dimension counts samples.
    """

    parts: Sequence[tuple[Given, list[Tensor]]]
    sizes: Sequence[int]
    counted: tuple[bool, ...] = ()

    @classmethod
    def of(cls, given: Sequence[Given], wanted: Sequence[list[Tensor]], sizes: Sequence[int]) -> "Samples":
        """Args: what a block is given, the tensors that it is to give, and how many samples that are, by chunk.

        Chunks can be laid end to end where their sizes differ: by that is seen which dimensions count samples.
        """
        pairs = list(zip(given, wanted, strict=True))
        columns = list(zip(*(list(leaves(pair)) for pair in pairs), strict=True)) if is_alike(pairs) else []
        counted = tuple(counts(column, sizes) for column in columns)
        if len(set(sizes)) < 2 or not columns or not all(map(joins, columns, counted)):
            return cls(pairs, sizes)
        joined = iter([joint(column) if counts else column[0] for column, counts in zip(columns, counted, strict=True)])
        return cls([mapped(lambda _: next(joined), pairs[0])], [sum(sizes)], counted)

    @property
    def count(self) -> int:
        """Samples in all."""
        return sum(self.sizes)

    def drawn(self, count: int, generator: torch.Generator) -> list[tuple[Given, list[Tensor]]]:
        """About so many samples at random: of the one part, or so many of the parts."""
        if self.counted:
            if count >= self.count:
                return list(self.parts)
            return [self.taken(torch.randperm(self.count, generator=generator)[:count])]
        many = max(1, round(count * len(self.parts) / self.count))
        return [self.parts[k] for k in torch.randperm(len(self.parts), generator=generator)[:many].tolist()]

    def each(self, count: int) -> Iterator[tuple[tuple[Given, list[Tensor]], int]]:
        """All samples, at most so many at a time where there is one part, with their number."""
        if not self.counted:
            yield from zip(self.parts, self.sizes, strict=True)
            return
        for index in torch.arange(self.count).split(count):  # type: ignore[no-untyped-call]
            yield self.taken(index), len(index)

    def taken(self, index: Tensor) -> tuple[Given, list[Tensor]]:
        """Samples of the one part."""
        counted = iter(self.counted)
        pair: tuple[Given, list[Tensor]] = mapped(
            lambda x: x[index.to(x.device)] if next(counted) else x, self.parts[0]
        )
        return pair


def uneven(chunks: Sequence[Inputs]) -> list[Inputs]:
    """The same samples in chunks that are not all of one size, where they can be cut."""
    *others, last = chunks
    if len({chunk.size for chunk in chunks}) > 1 or not last.is_cut or last.size < 2:
        return list(chunks)
    return [*others, last.at(range(last.size - 1)), last.at([last.size - 1])]


def counts(column: Sequence[Any], sizes: Sequence[int]) -> bool:
    """Whether the first dimension of a leaf of all chunks counts samples."""
    return all(
        isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size
        for leaf, size in zip(column, sizes, strict=True)
    )


def is_alike(pairs: Sequence[Any]) -> bool:
    """Whether all chunks have as many leaves."""
    return len({len(list(leaves(pair))) for pair in pairs}) == 1


def joins(column: Sequence[Any], counted: bool) -> bool:
    """Whether a leaf of all chunks can be laid end to end, or is the same in all."""
    first = column[0]
    if counted:
        return len({leaf.shape[1:] for leaf in column}) == 1
    if isinstance(first, Tensor):
        return all(isinstance(x, Tensor) and x.shape == first.shape and torch.equal(x, first) for x in column)
    return all(type(leaf) is type(first) and bool(leaf == first) for leaf in column)


def joint(column: Sequence[Tensor]) -> Tensor:
    """A leaf of all chunks end to end."""
    whole = torch.cat(list(column))
    return whole.contiguous(memory_format=torch.channels_last) if whole.ndim == 4 else whole
