"""The inputs and the targets of a block, from which steps draw samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tenfold.inputs import Inputs
from tenfold.inputs.containers import leaves, mapped
from tenfold.recovery.reconstruction.flow import Given
from tenfold.recovery.reconstruction.shelf import Shelf
from tenfold.statistics.gradients import floating
from tenfold.surgery.layout import CHANNELS_LAST, laid


@dataclass(frozen=True)
class Samples:
    """Pairs of what a block is given and the tensors that it is to give, chunk by chunk.

    Attributes:
        parts: one for each chunk.
        sizes: samples of each.
        counted: for each leaf of a part in order whether its first dimension counts samples; empty where single samples
            cannot be taken.
        shelf: where the parts are kept.
    """

    parts: Sequence[tuple[Given, list[Tensor]]]
    sizes: Sequence[int]
    counted: tuple[bool, ...]
    shelf: Shelf

    @classmethod
    def of(cls, given: Sequence[Given], wanted: Sequence[Any], sizes: Sequence[int], shelf: Shelf) -> "Samples":
        """Args: what a block is given, what it is to give, and how many samples that are, by chunk; and the shelf.

        Single samples can be taken where sizes differ: by that is seen which dimensions count samples.
        """
        pairs = [(each, floating(outputs)) for each, outputs in zip(given, wanted, strict=True)]
        columns = list(zip(*(list(leaves(pair)) for pair in pairs), strict=True)) if is_alike(pairs) else []
        counted = tuple(counts(column, sizes) for column in columns)
        joined = len(set(sizes)) > 1 and all(map(joins, columns, counted))
        return cls(pairs, sizes, counted if joined else (), shelf)

    @property
    def count(self) -> int:
        """Samples in all."""
        return sum(self.sizes)

    @property
    def targets(self) -> list[Sequence[Tensor]]:
        """The parts of every output, together; of each chunk apart where single samples cannot be taken."""
        each = [wanted for _, wanted in self.parts]
        return list(zip(*each, strict=True)) if self.counted else [[y] for wanted in each for y in wanted]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Of every sample its chunk and its place in it."""
        return [(k, at) for k, size in enumerate(self.sizes) for at in range(size)]

    def drawn(self, count: int, generator: torch.Generator) -> list[tuple[Given, list[Tensor]]]:
        """About so many samples at random: in one part, or so many of the parts."""
        if self.counted:
            every = count >= self.count
            return [self.taken(range(self.count) if every else shuffled(self.count, generator)[:count])]
        many = max(1, round(count * len(self.parts) / self.count))
        return [self.shelf.out(self.parts[k]) for k in shuffled(len(self.parts), generator)[:many]]

    def each(self, count: int) -> Iterator[tuple[tuple[Given, list[Tensor]], int]]:
        """All samples, at most so many at a time where single ones can be taken, with their number."""
        if not self.counted:
            yield from ((self.shelf.out(part), size) for part, size in zip(self.parts, self.sizes, strict=True))
            return
        for at in range(0, self.count, count):
            some = range(at, min(at + count, self.count))
            yield self.taken(some), len(some)

    def taken(self, samples: Sequence[int]) -> tuple[Given, list[Tensor]]:
        """Samples by number, in one part."""
        places = [self.places[n] for n in samples]
        columns = zip(*map(leaves, self.parts), strict=True)
        found = iter([
            self.rows(column, places) if counts else self.shelf.out(column[0])
            for column, counts in zip(columns, self.counted, strict=True)
        ])  # fmt: skip
        pair: tuple[Given, list[Tensor]] = mapped(lambda _: next(found), self.parts[0])
        return pair

    def rows(self, column: Sequence[Tensor], places: Sequence[tuple[int, int]]) -> Tensor:
        """Rows of a leaf, by chunk and place in it, end to end."""
        found, home = [column[k][at : at + 1] for k, at in places], self.shelf.home(column[0])
        if len({row.device for row in found}) > 1:  # some on the device, others in files
            found = [row.to(home) for row in found]
        rows: Tensor = last_channels(torch.cat(found).to(home))
        return rows


def shuffled(count: int, generator: torch.Generator) -> list[int]:
    """Numbers below a count in random order."""
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def laid_out(inputs: Inputs) -> Inputs:
    """The same samples, with images as `channels_last`, in which stages convolve faster."""
    return replace(inputs, value=mapped(last_channels, inputs.value))


def last_channels(leaf: Any) -> Any:
    """A leaf with its channels last, where it is images."""
    is_images = isinstance(leaf, Tensor) and leaf.ndim == 4 and leaf.layout is torch.strided
    return laid(leaf, CHANNELS_LAST) if is_images else leaf


def pieces(chunks: Sequence[Inputs], least: int) -> list[Inputs]:
    """The same samples in at least so many chunks, where they can be cut and are so many."""
    most = max(1, sum(chunk.size for chunk in chunks) // least)  # samples of a chunk
    return [
        chunk.at(range(at, min(at + most, chunk.size))) if chunk.is_cut and chunk.size > most else chunk
        for chunk in chunks
        for at in range(0, chunk.size if chunk.is_cut else 1, most)
    ]


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
        return all(
            isinstance(x, Tensor) and x.shape == first.shape and torch.equal(x.to(first.device), first) for x in column
        )
    return all(type(leaf) is type(first) and bool(leaf == first) for leaf in column)
