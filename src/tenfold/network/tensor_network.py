"""`TensorNetwork`: the labels and sizes of the cores that stand for one weight."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from tenfold.network.axes import GROUPS, SPATIAL
from tenfold.network.contraction import Contraction, Labels, contract, contraction
from tenfold.network.counts import Count
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

    # ---- bonds
    def without(self, bonds: Sequence[str]) -> "TensorNetwork":
        """The network in which these bonds have been cut: the same function where they have rank 1."""
        return replace(self, cores=tuple(tuple(x for x in core if x not in bonds) for core in self.cores))

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
