"""Evaluation of a network on an input: ordered stages, each one small tensor."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from torch import Tensor

from tenfold.network.axes import INPUTS, OUTPUTS, SPATIAL, Positions
from tenfold.network.contraction import Contraction, Labels, contraction
from tenfold.network.counts import Count
from tenfold.network.tensor_network import TensorNetwork
from tenfold.protocols import TenfoldError

Partition = tuple[tuple[int, ...], ...]  # ordered sets of cores


@dataclass(frozen=True)
class Stage:
    """One step of the evaluation: a grouped convolution (a matrix product where there is no window).

    Attributes:
        cores: the cores that are contracted into the stage's tensor.
        carried: state labels that the stage does not touch; they ride in the batch.
        groups: state labels that the stage multiplies element by element, because a later stage still needs them.
        summed: state labels that end here.
        new: labels that the stage makes.
        window: spatial axes.
    """

    cores: tuple[int, ...]
    carried: Labels
    groups: Labels
    summed: Labels
    new: Labels
    window: Labels

    @property
    def labels(self) -> Labels:
        """Labels of the stage's tensor, in the order of a convolution weight."""
        return (*self.groups, *self.new, *self.summed, *self.window)

    @property
    def channels(self) -> tuple[Labels, Labels]:
        """State labels in the channel dimension before and after the stage."""
        return (*self.groups, *self.summed), (*self.groups, *self.new)


@dataclass(frozen=True)
class Stages:
    """An ordered partition of the cores of a network."""

    net: TensorNetwork
    each: tuple[Stage, ...]

    @staticmethod
    def of(net: TensorNetwork, parts: Sequence[Sequence[int]]) -> "Stages":
        """Derive, for every part, what is carried, summed and made.

        Raises: TenfoldError unless the sets are disjoint, cover all cores, and are one where modes straddle axes.
        """
        partition = tuple(tuple(part) for part in parts)
        given = sorted(core for part in partition for core in part)
        if given != list(range(len(net.cores))) or not all(partition):
            raise TenfoldError(f"stages {partition} do not hold each of the {len(net.cores)} cores once.")
        if net.straddles and len(partition) > 1:
            raise TenfoldError(
                "modes that straddle axes or split a window are applied in one stage; this plan has several."
            )
        labels_of = [tuple(dict.fromkeys(x for k in part for x in net.cores[k])) for part in partition]
        tensors = [
            [x for x in labels if x in net.modes or set(net.holders[x]) - set(part)]
            for labels, part in zip(labels_of, partition, strict=True)
        ]
        state, output = list(input_labels(net)), output_labels(net)
        each = []
        for j, (part, tensor) in enumerate(zip(partition, tensors, strict=True)):
            later = set(output).union(*tensors[j + 1 :])
            shared = [x for x in state if x in tensor]
            made = [x for x in tensor if x not in state and x not in SPATIAL]
            stage = Stage(
                cores=part,
                carried=tuple(x for x in state if x not in tensor),
                groups=tuple(x for x in shared if x in later),
                summed=tuple(x for x in shared if x not in later),
                new=tuple(sorted(made, key=lambda x: output.index(x) if x in output else len(output))),
                window=tuple(x for x in SPATIAL if x in tensor),
            )
            each.append(stage)
            state = [*stage.carried, *stage.groups, *stage.new]
        return Stages(net, tuple(each))

    @property
    def partition(self) -> Partition:
        """The sets of cores, in order."""
        return tuple(stage.cores for stage in self.each)

    def mirrored(self) -> "Stages":
        """The same sets of cores of the transposed map, in the opposite order."""
        last = len(self.net.cores) - 1
        return Stages.of(self.net.mirrored(), [[last - k for k in reversed(part)] for part in reversed(self.partition)])

    @property
    def rebuilds(self) -> bool:
        """Whether there is one stage only: the dense weight is rebuilt and applied."""
        return len(self.each) == 1

    @property
    def param_count(self) -> Count:
        """Numbers in the stage tensors, which is what a lowered layer holds."""
        if self.rebuilds:
            return Count(((math.prod(self.net.axes.values()), ()),))
        return Count(tuple((1, stage.labels) for stage in self.each))

    @property
    def params(self) -> int:
        """Numbers in the stage tensors."""
        return int(self.param_count(self.net.sizes))

    def mac_count(self, positions: Positions) -> Count:
        """Multiply-adds of one sample as a polynomial in the label sizes.

        A stage costs its output positions times all labels in the state or in its tensor. A stage before
        the window of an axis still sees that axis's input positions.
        """
        if self.rebuilds:
            return Count(((math.prod(self.net.axes.values()) * math.prod(n for _, n in positions.values()), ()),))
        ahead = {axis for stage in self.each for axis in stage.window}
        terms = []
        for stage in self.each:
            ahead -= set(stage.window)
            places = math.prod(before if axis in ahead else after for axis, (before, after) in positions.items())
            terms.append((places, (*stage.carried, *stage.labels)))
        return Count(tuple(terms))

    def macs(self, positions: Positions) -> int:
        """Multiply-adds of one sample."""
        return int(self.mac_count(positions)(self.net.sizes))

    def training_macs(self, positions: Positions, samples: int) -> int:
        """Multiply-adds of one call in training: the stage tensors are built, and applied to so many samples."""
        return sum(build.contraction.macs for build in self.builds()) + samples * self.macs(positions)

    def builds(self) -> tuple["Build", ...]:
        """How each stage's tensor comes from the cores, with contraction paths found."""
        net = self.net
        if self.rebuilds:
            return (Build(self.each[0].cores, net.contraction(self.each[0].cores, net.modes), net.shape(net.modes)),)
        return tuple(
            Build(
                stage.cores,
                net.contraction(stage.cores, stage.labels),
                (net.size((*stage.groups, *stage.new)), net.size(stage.summed), *net.shape(stage.window)),
            )
            for stage in self.each
        )

    def tensors(self, cores: Sequence[Tensor], builds: tuple["Build", ...] | None = None) -> list[Tensor]:
        """The stage tensors as convolution weights (groups·new, summed, *window); one stage gives the dense weight.

        Contiguous: torch has convolutions whose backward refuses another layout of the weight.
        `builds`: what `builds()` gave, for callers that keep it.
        """
        built = [build(cores) for build in builds or self.builds()]
        built = [self.net.as_held(self.net.to_axes(built[0]))] if self.rebuilds else built
        return [tensor.contiguous() for tensor in built]

    def weight(self, tensors: Sequence[Tensor]) -> Tensor:
        """The dense weight, as a module holds it, that stage tensors stand for."""
        if self.rebuilds:
            return tensors[0]
        net = self.net
        labels = tuple(stage.labels for stage in self.each)
        shapes = tuple(map(net.shape, labels))
        join = contraction(labels, shapes, net.modes)
        return net.as_held(net.to_axes(join(*[t.reshape(s) for t, s in zip(tensors, shapes, strict=True)])))


@dataclass(frozen=True)
class Build:
    """Cores contracted into one stage tensor of a shape."""

    cores: tuple[int, ...]
    contraction: Contraction
    shape: tuple[int, ...]

    def __call__(self, cores: Sequence[Tensor]) -> Tensor:
        return self.contraction(*[cores[k] for k in self.cores]).reshape(self.shape)


def input_labels(net: TensorNetwork) -> Labels:
    """The labels of a layer's input: groups first, then the modes of the input axis."""
    return (*net.batched, *(mode for fold in net.folds if fold.axes[0] in INPUTS for mode in fold.modes))


def output_labels(net: TensorNetwork) -> Labels:
    """The labels of a layer's output: groups first, then the modes of the output axis."""
    return (*net.batched, *(mode for fold in net.folds if fold.axes[0] in OUTPUTS for mode in fold.modes))


def partitions_of(net: TensorNetwork) -> Iterator[Partition]:
    """Every partition into runs of neighbouring cores, fewest stages first; one stage where modes straddle axes."""
    count = len(net.cores)
    for cuts in range(1 if net.straddles else count):
        for at in combinations(range(1, count), cuts):
            borders = (0, *at, count)
            yield tuple(tuple(range(a, b)) for a, b in pairwise(borders))


@lru_cache(maxsize=4096)
def every_stages(net: TensorNetwork) -> tuple[Stages, ...]:
    """The stages of every partition, in the same order. Layers of one shape have equal networks, so they are kept."""
    return tuple(Stages.of(net, partition) for partition in partitions_of(net))
