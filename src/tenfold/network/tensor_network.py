"""`TensorNetwork`: the labels and sizes of the cores that stand for one weight."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations, pairwise, product

import torch
from torch import Tensor
from torch.nn import functional

from tenfold.network.contraction import Contraction, Labels, contract, contraction
from tenfold.network.counts import Count
from tenfold.network.stages import GROUPS, SPATIAL, Partition, Stages
from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class Fold:
    """Axes that are flattened row by row, zero-padded and read as modes: `i` as `i1 i2`, `o i` as `m1 m2 m3`."""

    axes: Labels
    modes: Labels

    @property
    def straddles(self) -> bool:
        """Whether modes cross the borders of axes (ADA-Tucker's reshaping)."""
        return len(self.axes) > 1


@dataclass(frozen=True)
class TensorNetwork:
    """Labels and sizes of the cores of one weight: no numbers, all else is derived.

    Attributes:
        cores: the labels of each core, `(("i", "r1"), ("r1", "o"))`; in the order in which an input meets them.
        sizes: the size of every label, `{"i": 32, "r1": 8, "o": 64}`.
        axes: the axes of the weight and their sizes, in the weight's order.
        folds: how axes become modes; every axis belongs to one fold.
    """

    cores: tuple[Labels, ...]
    sizes: Mapping[str, int] = field(hash=False)
    axes: Mapping[str, int] = field(hash=False)
    folds: tuple[Fold, ...]

    def __post_init__(self) -> None:
        for label in dict.fromkeys(x for core in self.cores for x in core):
            if self.sizes.get(label, 0) < 1:
                raise TenfoldError(f"label '{label}' has size {self.sizes.get(label)}; sizes and ranks are 1 or more.")
        for fold in self.folds:
            inside, outside = self.size(fold.modes), math.prod(self.axes[axis] for axis in fold.axes)
            if inside < outside:
                given = " x ".join(str(self.sizes[mode]) for mode in fold.modes)
                raise TenfoldError(
                    f"modes {given} of axis '{' '.join(fold.axes)}' make {inside}, not {outside}; "
                    f"their product must be {outside} or more (the rest is padded with zeros)."
                )

    # ---- labels
    @cached_property
    def modes(self) -> Labels:
        """All open labels, fold by fold."""
        return tuple(mode for fold in self.folds for mode in fold.modes)

    @cached_property
    def holders(self) -> dict[str, tuple[int, ...]]:
        """The cores that hold each label."""
        found: dict[str, tuple[int, ...]] = {}
        for k, core in enumerate(self.cores):
            for label in core:
                found[label] = (*found.get(label, ()), k)
        return found

    @cached_property
    def bonds(self) -> Labels:
        """Labels that cores share and the weight does not have, in order of appearance; their sizes are the ranks."""
        return tuple(label for label in self.holders if label not in self.modes)

    @cached_property
    def batched(self) -> Labels:
        """Modes on several cores, and `g` of a grouped convolution even on one: never summed, no bond, no rank."""
        return tuple(mode for mode in self.modes if mode == GROUPS or len(self.holders[mode]) > 1)

    def is_hyperedge(self, bond: str) -> bool:
        """Whether more than two cores share the bond."""
        return len(self.holders[bond]) > 2

    @property
    def straddles(self) -> bool:
        """Whether some mode crosses the borders of axes, or a window axis is split; then there is one stage."""
        windows = [fold for fold in self.folds if fold.axes[0] in SPATIAL]
        split = any(self.shape(fold.modes) != (self.axes[fold.axes[0]],) for fold in windows)
        return split or any(fold.straddles for fold in self.folds)

    # ---- sizes and counts
    def size(self, labels: Iterable[str]) -> int:
        """Product of the sizes of labels."""
        return math.prod([self.sizes[label] for label in labels])  # a list: torch.compile takes no generator

    def shape(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Sizes of labels."""
        return tuple(self.sizes[label] for label in labels)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of every core."""
        return tuple(self.shape(core) for core in self.cores)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Sizes of the bonds, in their order."""
        return self.shape(self.bonds)

    def with_ranks(self, ranks: Sequence[int]) -> "TensorNetwork":
        """The same labels with other bond sizes."""
        return replace(self, sizes={**self.sizes, **dict(zip(self.bonds, ranks, strict=True))})

    @property
    def param_count(self) -> Count:
        """Parameters as a polynomial in the label sizes."""
        return Count(tuple((1, core) for core in self.cores))

    @property
    def params(self) -> int:
        """Numbers in all cores."""
        return int(self.param_count(self.sizes))

    # ---- the weight
    def to_modes(self, weight: Tensor) -> Tensor:
        """A weight in the order of `axes` as a tensor of shape `shape(modes)`, padded with zeros."""
        if tuple(weight.shape) != tuple(self.axes.values()):
            raise TenfoldError(f"a weight of shape {tuple(weight.shape)} has not the axes {dict(self.axes)}.")
        order = [list(self.axes).index(axis) for fold in self.folds for axis in fold.axes]
        tensor = weight.permute(order)
        for at, fold in enumerate(self.folds):
            tensor = tensor.flatten(at, at + len(fold.axes) - 1)
            padding = self.size(fold.modes) - tensor.shape[at]
            if padding:
                tensor = functional.pad(tensor.movedim(at, -1), (0, padding)).movedim(-1, at)
        return tensor.reshape(self.shape(self.modes))

    def to_axes(self, tensor: Tensor) -> Tensor:
        """A tensor of shape `shape(modes)` as a weight in the order of `axes`, padding cropped."""
        tensor = tensor.reshape([self.size(fold.modes) for fold in self.folds])
        for at, fold in enumerate(self.folds):
            tensor = tensor.narrow(at, 0, math.prod([self.axes[axis] for axis in fold.axes]))
        axes = [axis for fold in self.folds for axis in fold.axes]
        tensor = tensor.reshape([self.axes[axis] for axis in axes])
        return tensor.permute([axes.index(axis) for axis in self.axes])

    @property
    def held_shape(self) -> tuple[int, ...]:
        """Shape of the weight as a module holds it."""
        return tuple(torch.empty(tuple(self.axes.values()), device="meta").flatten(0, len(self.batched)).shape)

    def as_held(self, weight: Tensor) -> Tensor:
        """A weight in its axes as a module holds it: groups and the channels after them are one dimension."""
        return weight.flatten(0, len(self.batched)).contiguous()

    def dense(self, cores: Sequence[Tensor]) -> Tensor:
        """The tensor that these cores stand for, of shape `shape(modes)`."""
        return self.contraction(range(len(self.cores)), self.modes)(*cores)

    def weight(self, cores: Sequence[Tensor]) -> Tensor:
        """The weight that these cores stand for, of shape `axes`."""
        return self.to_axes(self.dense(cores))

    def contraction(self, which: Sequence[int], output: Labels) -> Contraction:
        """The cached contraction of some of the cores to the `output` labels."""
        return contraction(tuple(self.cores[k] for k in which), tuple(self.shapes[k] for k in which), output)

    def norm(self, cores: Sequence[Tensor]) -> Tensor:
        """Frobenius norm of `dense(cores)`, without building it: the network contracted with itself."""
        twin = [tuple(x if x in self.modes else f"{x}'" for x in core) for core in self.cores]
        operands = list(zip(cores, self.cores, strict=True)) + list(zip(cores, twin, strict=True))
        return contract(operands, ()).clamp_min(0).sqrt()

    def deviation(self, cores: Sequence[Tensor]) -> Tensor:
        """Root mean square of `weight(cores)`, without building it; what is padding does not count."""
        boxes = product(*(self.boxes(fold) for fold in self.folds))
        norms = [self.norm(self.inside(cores, dict(chain(*map(dict.items, box))))) for box in boxes]
        return torch.stack(norms).square().sum().div(math.prod(self.axes.values())).sqrt()

    def boxes(self, fold: Fold) -> list[dict[str, slice]]:
        """Ranges of modes that make up, disjoint, what of a fold is no padding.

        In mixed radix an index is below the end where its first digits are the end's, and the next one is smaller.
        """
        end, rest = math.prod(self.axes[axis] for axis in fold.axes), self.size(fold.modes)
        if end == rest:
            return [{}]
        found: list[dict[str, slice]] = []
        same: dict[str, slice] = {}
        for mode in fold.modes:
            rest //= self.sizes[mode]
            digit, end = divmod(end, rest)
            found += [{**same, mode: slice(digit)}] if digit else []
            same[mode] = slice(digit, digit + 1)
        return found

    def inside(self, cores: Sequence[Tensor], ranges: Mapping[str, slice]) -> list[Tensor]:
        """The cores within ranges of some labels."""
        every = slice(None)
        return [core[tuple(ranges.get(x, every) for x in own)] for core, own in zip(cores, self.cores, strict=True)]

    def draw(self, deviation: float, *, generator: torch.Generator, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Random cores whose weight has this standard deviation, to rounding.

        Independent zero-mean entries of deviation s make `Var(W) = s^(2K) * product of the ranks`
        for K cores; the split is equal and all are rescaled by what was drawn.
        """
        if deviation <= 0:
            raise TenfoldError(f"no deviation {deviation}; use a positive number.")
        each = (deviation**2 / self.size(self.bonds)) ** (1 / (2 * len(self.cores)))
        cores = [torch.randn(shape, generator=generator, dtype=torch.float64) * each for shape in self.shapes]
        gain = (deviation / self.deviation(cores)) ** (1 / len(cores))
        return [(core * gain).to(dtype or torch.get_default_dtype()) for core in cores]

    # ---- bonds
    def side(self, bond: str) -> frozenset[int] | None:
        """The cores on the first holder's side when a bond is cut; None if the network stays in one piece."""
        first, *others = self.holders[bond]
        reached, border = {first}, [first]
        while border:
            core = border.pop()
            for label in self.cores[core]:
                if label != bond and label in self.bonds:
                    border += [k for k in self.holders[label] if k not in reached]
                    reached.update(self.holders[label])
        return None if reached.intersection(others) else frozenset(reached)

    def unfolding(self, bond: str) -> tuple[Labels, Labels] | None:
        """Modes that index the rows and the columns of the matrix that a bond cuts; batched modes are in neither.

        None where cutting the bond leaves the network in one piece (a ring).
        """
        side = self.side(bond)
        if side is None or self.is_hyperedge(bond):
            return None
        single = [mode for mode in self.modes if mode not in self.batched]
        rows = tuple(mode for mode in single if self.holders[mode][0] in side)
        return rows, tuple(mode for mode in single if mode not in rows)

    def global_bound(self, bond: str) -> int:
        """Largest useful rank from the modes alone: the smaller side of the unfolding.

        A hyperedge has the product of the modes of all cores but the largest; a ring's bond only the local one.
        """
        unfolding = self.unfolding(bond)
        if unfolding is not None:
            return min(self.size(side) for side in unfolding)
        single = [mode for mode in self.modes if mode not in self.batched]
        bound = self.size(single)
        largest = max(self.size(x for x in core if x in single) for core in self.cores)
        return bound // largest if self.is_hyperedge(bond) else bound

    def local_bound(self, bond: str) -> int:
        """Largest useful rank at the bond's cores: the product of the other labels, hyperedges and batched left out."""
        if self.is_hyperedge(bond):
            return self.global_bound(bond)
        left_out = {bond, *self.batched, *(x for x in self.bonds if self.is_hyperedge(x))}
        return min(self.size(x for x in self.cores[k] if x not in left_out) for k in self.holders[bond])

    def clipped(self) -> "TensorNetwork":
        """The network with every rank at most useful: global and local bounds, shrunk to a fixed point of both."""
        net = self.with_ranks([min(self.sizes[bond], self.global_bound(bond)) for bond in self.bonds])
        while (ranks := tuple(min(net.sizes[bond], net.local_bound(bond)) for bond in net.bonds)) != net.ranks:
            net = net.with_ranks(ranks)
        return net

    @cached_property
    def closing(self) -> Labels:
        """Bonds that close a loop, first seen first: without them the network is a tree, still in one piece."""
        found: list[str] = []
        net = self
        while bond := next((bond for bond in net.bonds if net.side(bond) is None), None):
            found.append(bond)
            net = net.without((bond,))
        return tuple(found)

    def without(self, bonds: Sequence[str]) -> "TensorNetwork":
        """The network in which these bonds have been cut: the same function where they have rank 1."""
        return replace(self, cores=tuple(tuple(x for x in core if x not in bonds) for core in self.cores))

    def full(self) -> "TensorNetwork":
        """The network with every bond at its largest useful rank; a loop is opened, its closing bond at rank 1."""
        tree = self.without(self.closing)
        tree = tree.with_ranks([self.size(self.modes)] * len(tree.bonds)).clipped()
        return self.with_ranks([1 if bond in self.closing else tree.sizes[bond] for bond in self.bonds])

    def merged(self, bond: str) -> "TensorNetwork":
        """The network in which the two cores of a bond are one; the bond is gone.

        Raises: TenfoldError for a hyperedge.
        """
        if self.is_hyperedge(bond):
            raise TenfoldError(f"bond '{bond}' joins {len(self.holders[bond])} cores and cannot be merged.")
        first, second = self.holders[bond]
        both = dict.fromkeys((*self.cores[first], *self.cores[second]))
        gone = {x for x in both if x in self.bonds and self.holders[x] == (first, second)}
        cores = list(self.cores)
        cores[first] = tuple(x for x in both if x not in gone)
        del cores[second]
        sizes = {label: size for label, size in self.sizes.items() if label not in gone}
        return replace(self, cores=tuple(cores), sizes=sizes)

    def merge(self, cores: Sequence[Tensor], bond: str) -> list[Tensor]:
        """The cores of `merged(bond)`: the same weight."""
        first, second = self.holders[bond]
        target = self.merged(bond).cores[first]
        pair = [(cores[k], self.cores[k]) for k in (first, second)]
        result = list(cores)
        result[first] = contract(pair, target)
        del result[second]
        return result

    def mirrored(self) -> "TensorNetwork":
        """The network of the transposed map: axes `i` and `o` change their names, and the cores their order."""
        other = {"i": "o", "o": "i"}
        axes = {other.get(axis, axis): size for axis, size in self.axes.items()}
        folds = tuple(Fold(tuple(other.get(axis, axis) for axis in fold.axes), fold.modes) for fold in self.folds)
        return replace(self, cores=self.cores[::-1], axes=axes, folds=folds)

    # ---- evaluation
    def stages(self, partition: Sequence[Sequence[int]]) -> Stages:
        """Evaluation as these ordered sets of cores, each contracted into one small tensor.

        Raises: TenfoldError unless the sets are disjoint, cover all cores, and are one where modes straddle axes.
        """
        return Stages.of(self, tuple(tuple(part) for part in partition))

    def partitions(self) -> Iterator[Partition]:
        """Every partition into runs of neighbouring cores, fewest stages first; one stage where modes straddle axes."""
        count = len(self.cores)
        for cuts in range(1 if self.straddles else count):
            for at in combinations(range(1, count), cuts):
                borders = (0, *at, count)
                yield tuple(tuple(range(a, b)) for a, b in pairwise(borders))

    def cheapest(self, positions: Mapping[str, tuple[int, int]]) -> Stages:
        """The stages of the partition with the fewest multiply-adds; of equals, the one with the fewest stages."""
        return min((self.stages(partition) for partition in self.partitions()), key=lambda s: s.macs(positions))
