"""Candidates for one weight: formats, settings, uncut bonds and ranks, as arrays of error and cost."""

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenfold.fitting import Metric
from tenfold.formats import Format
from tenfold.formats.base import Suits
from tenfold.network import Count, Labels, Positions, Stages, TensorNetwork, full_rank, unfolding_of
from tenfold.planning.budgets import Cost
from tenfold.planning.curves import Array, ErrorCurves, rank_of_params
from tenfold.planning.pace import Pace
from tenfold.protocols import TenfoldError
from tenfold.quantization import ROW, Scheme
from tenfold.surgery import Site
from tenfold.surgery.stored import stored_bytes

# Times what rounding costs normal numbers it costs trained kernels, whole or in cores that make it good; the second
# where bonds of more than two cores cannot be turned
ROUNDED, UNTURNED = 1.5, 6.0
LONG = 64  # numbers, for which a scale costs little
LEVELS = 12  # ranks tried on each of up to three bonds
THRESHOLDS = 40  # error levels tried where there are more bonds
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    """One weight to be planned.

    Attributes:
        positions: of one call, from the profile; empty where there were no inputs.
        macs: multiply-adds of one sample, over all calls of the module.
        times: how often what a layer counts at these positions happens for one sample.
        first: whether it belongs to the first convolution.
        lean: whether its stages are to hold few numbers, before they are to take few multiply-adds.
        gain: what a squared error counts for, once for a weight whose error does not come back to it.
        metric: what an error costs, where that is known: errors and spectra are then those in it.
        pace: how long it takes, where a clock knows.
        dtype: in which its numbers are stored; None: in their own.
        slow_price: what every second counts for that it takes longer than the dense weight.
    """

    site: Site
    weight: Tensor
    positions: Positions
    macs: int
    times: float
    first: bool
    lean: bool = False
    gain: float = 1.0
    metric: Metric | None = None
    pace: Pace | None = None
    slow_price: float = 0.0
    dtype: str | None = None

    def seen(self, net: TensorNetwork, parts: Sequence[Collection[str]] | None = None) -> Tensor:
        """The weight in coordinates in which its error is a Frobenius norm, as far as one factor a part tells.

        Args: parts: modes that lie together, by default on one core.
        """
        return self.weight if self.metric is None else self.metric.whitened_weight(self.weight, net, parts)

    @property
    def params(self) -> int:
        """Numbers in the dense weight."""
        return self.weight.numel()

    @property
    def itemsize(self) -> int:
        """Bytes of one number as it is stored."""
        return stored_bytes(1, self.weight.element_size(), self.dtype)

    @property
    def dense(self) -> Cost:
        """What the weight costs as it is."""
        seconds = None if self.pace is None else self.pace.dense
        return Cost(self.params, self.params * self.itemsize, self.params, self.macs, seconds)

    def answer(self, maker: Suits) -> Format | str:
        """A format as it suits the weight, or the reason why none does: its options may be one."""
        try:
            return self.site.suit(maker, first=self.first)
        except TenfoldError as error:
            return str(error).rstrip(".")

    def loss(self, error: Any, cost: Cost) -> Any:
        """What squared relative errors count for, and what is slower than the dense weight."""
        if self.pace is None or not self.slow_price:
            return error * self.gain
        return error * self.gain + np.maximum(cost.seconds - self.pace.dense, 0.0) * self.slow_price

    def is_gain(self, cost: Cost) -> Any:
        """Whether candidates store less than the dense weight and compute no more; a table is looked up for nothing."""
        free = self.site.dense_macs(self.positions) == 0
        smaller = (cost.params < self.params) | ((cost.params == self.params) & (cost.bytes < self.dense.bytes))
        return smaller & (free | (cost.macs <= self.macs * (1 + 1e-12)))


@dataclass(frozen=True)
class Family:
    """Networks of one format setting with the same bonds cut: they differ in ranks only.

    Attributes:
        maker: the format with its options.
        cut: for every bond of the format whether it is cut; one that is not has its two cores merged.
        net: the network, its bonds at their largest useful ranks.
        groups: bonds that have one rank together: each alone where spectra rule them, else those of `common_ranks`;
            ranks below are one number a group.
        tails: for every group the share of the squared norm beyond each rank.
        scheme: how the numbers of every core lie in few bits; None: they are kept.
    """

    subject: Subject
    maker: Format
    cut: tuple[bool, ...]
    net: TensorNetwork
    groups: tuple[Labels, ...]
    tails: tuple[Array, ...]
    scheme: Scheme | None = None

    @property
    def bounds(self) -> tuple[int, ...]:
        """The largest rank of every group."""
        return tuple(self.net.sizes[group[0]] for group in self.groups)

    @cached_property
    def has_spectra(self) -> bool:
        """Whether every bond has an unfolding of its own, whose spectrum gives the error."""
        return all(unfolding_of(self.net, bond) is not None for bond in self.net.bonds)

    @cached_property
    def evaluations(self) -> tuple[Stages, ...]:
        """Every partition into stages that the layer can apply, fewest stages first."""
        return self.subject.site.evaluations(self.net)

    def sizes(self, ranks: Any) -> dict[str, Any]:
        """Label sizes with ranks (groups, ..) in the place of the bonds'."""
        placed = {bond: rank for group, rank in zip(self.groups, ranks, strict=True) for bond in group}
        return {**self.net.sizes, **placed}

    def useful(self, ranks: Ints) -> NDArray[np.bool_]:
        """Which ranks (groups, n) are all below their bounds: at a bound, the merged network is better.

        Loops and hyperedges have no such bound; what they store decides.
        """
        sizes = self.sizes(ranks)
        good = np.ones(ranks.shape[1:], bool)
        for at, bond in enumerate(self.net.bonds if self.has_spectra else ()):
            good &= ranks[at] < self.net.sizes[bond]
            for k in self.net.holders[bond]:
                others = (x for x in self.net.cores[k] if x != bond and x not in self.net.batched)
                good &= ranks[at] < math.prod(sizes[x] for x in others)
        return good

    def error(self, ranks: Ints) -> Array:
        """Squared relative error of ranks (groups, ..): the sum of the tails, a bound for trees (METHODS 0.4).

        Rounding adds its share of what the ranks keep.
        """
        parts = [tail[np.minimum(r, len(tail) - 1)] for tail, r in zip(self.tails, ranks, strict=True)]
        lost: Array = np.zeros(ranks.shape[1:]) + sum(parts)
        if self.scheme is None:
            return lost
        noise: Array = np.maximum(1 - lost, 0) * self.scheme.noise * self.rounded
        return lost + noise

    def in_bits(self, scheme: Scheme | None) -> "Family":
        """The same in few bits. The rows of a whole weight have scales of their own where they are long: no bond evens
        them.
        """
        shape = self.net.shapes[0]
        if scheme is not None and not self.net.bonds and scheme.sharing(shape) >= LONG * shape[0]:
            scheme = replace(scheme, per=ROW)
        return replace(self, scheme=scheme)

    @property
    def rounded(self) -> float:
        """How much more rounding costs than that of normal numbers."""
        return UNTURNED if any(map(self.net.is_hyperedge, self.net.bonds)) else ROUNDED

    def bytes(self, sizes: Mapping[str, Any]) -> Any:
        """What the folder stores of the cores, labels having these sizes."""
        if self.scheme is None:
            return self.net.param_count(sizes) * self.subject.itemsize
        return sum(self.scheme.stored_bytes([sizes[label] for label in core]) for core in self.net.cores)

    def costs(self, ranks: Ints, *, gaining: bool = False) -> tuple[Cost, Ints]:
        """What n ranks (groups, n) cost, and in which evaluation each cost, (k, n), is: the cheapest; on a clock, all.

        `gaining`: seconds of those that gain nothing otherwise are not looked up; they are infinite.
        """
        sizes, count = self.sizes(ranks), ranks.shape[1]
        subject, site = self.subject, self.subject.site

        def each(counts: Iterable[Count]) -> Array:  # (evaluations, n)
            return np.stack([np.broadcast_to(counted(sizes), (count,)) for counted in counts])

        macs = each(site.mac_count(stages, subject.positions) for stages in self.evaluations)
        held = each(stages.param_count for stages in self.evaluations) * len(site.places)
        which = np.broadcast_to(np.arange(len(macs))[:, None], macs.shape)
        if subject.pace is None:
            cheapest = np.where(held == held.min(axis=0), macs, np.inf) if subject.lean else macs
            which = cheapest.argmin(axis=0)[None]
            macs, held = (np.take_along_axis(counted, which, axis=0) for counted in (macs, held))
        params = np.broadcast_to(self.net.param_count(sizes), macs.shape)
        found = Cost(params, np.broadcast_to(self.bytes(sizes), macs.shape), held, macs * subject.times)
        if subject.pace is None:
            return found, which
        wanted = subject.is_gain(found) if gaining else np.ones(macs.shape, bool)
        return replace(found, seconds=self.seconds(subject.pace, ranks, wanted)), which

    def seconds(self, pace: Pace, ranks: Ints, wanted: NDArray[np.bool_]) -> Array:
        """Seconds of ranks (groups, n) in every evaluation, (evaluations, n); infinite where they are not wanted."""
        found = np.full(wanted.shape, np.inf)
        for row, mask, stages in zip(found, wanted, self.evaluations, strict=True):
            if mask.any():
                row[mask] = pace.seconds(stages, self.sizes(ranks[:, mask]), int(mask.sum()))
        return found

    def planned_ranks(self, ranks: Sequence[int]) -> tuple[int | None, ...]:
        """Ranks for every bond of the format, None where it is not cut."""
        sizes = self.sizes(ranks)
        left = iter(self.net.bonds)
        return tuple(int(sizes[next(left)]) if cut else None for cut in self.cut)


def families(
    subject: Subject, maker: Format, curves: ErrorCurves, generator: torch.Generator, *, merges: bool = True
) -> Iterator[Family]:
    """The families of every setting of a format that is worth trying on a weight.

    Args:
        merges: those with uncut bonds, too.
    """
    axes, name = subject.site.axes, subject.site.name
    suiting = [each for each in maker.variants(axes) if isinstance(subject.answer(each), Format)]
    for variant in suiting or maker.variants(axes):
        whole = variant.network(axes)
        if any(unfolding_of(whole, bond) is None for bond in whole.bonds):
            yield without_spectra(subject, variant, whole, curves, generator)
            continue
        for cut in cuts(whole, merges):
            net = whole
            for bond, is_cut in zip(whole.bonds, cut, strict=True):
                net = net if is_cut else net.merged(bond)
            net = full_rank(net)
            seen = {bond: partial(subject.seen, net, unfolding_of(net, bond)) for bond in net.bonds}
            tails = tuple(curves.tail(name, seen[bond], net, bond) for bond in net.bonds)
            yield Family(subject, variant, cut, net, tuple((bond,) for bond in net.bonds), tails)


def without_spectra(
    subject: Subject, maker: Format, whole: TensorNetwork, curves: ErrorCurves, generator: torch.Generator
) -> Family:
    """The family of a network with loops or hyperedges: one rank for all bonds that its format lets grow."""

    def at(rank: int) -> TensorNetwork:
        return whole.with_ranks(maker.common_ranks(whole, rank))

    growing = tuple(bond for bond, one, two in zip(whole.bonds, at(1).ranks, at(2).ranks, strict=True) if one != two)
    bound = rank_of_params(at, subject.params) + 1  # beyond it there are more numbers than in the weight
    fits = curves.fit(subject.site.name, partial(subject.seen, whole), maker, at, generator)
    tail = interpolated(fits, max(bound, *full_rank(whole).ranks))
    return Family(subject, maker, (True,) * len(whole.bonds), at(bound), (growing,), (tail,))


def cuts(net: TensorNetwork, merges: bool) -> Iterator[tuple[bool, ...]]:
    """Sets of bonds to cut: all, and with merges every other that is not empty (a few merges where bonds are many)."""
    count = len(net.bonds)
    for cut in itertools.product((True, False), repeat=count) if count <= 4 else few_merges(net):
        if all(cut) or (merges and any(cut)):
            yield cut


def few_merges(net: TensorNetwork) -> Iterator[tuple[bool, ...]]:
    """All bonds cut, then all but one; the same with a core merged away that only hands one bond on as another."""
    plain = [frozenset(core).difference(net.batched) for core in net.cores]
    handing_on = [core for core in plain if len(core) == 2 and core <= set(net.bonds)]
    idle = [k for k, bond in enumerate(net.bonds) if any(bond in core for core in handing_on)]
    bonds = range(len(net.bonds))
    pairs = [(gone, other) for gone in (None, *idle[:1]) for other in (None, *bonds)]
    yield from dict.fromkeys(tuple(k not in pair for k in bonds) for pair in pairs)


def interpolated(fits: list[tuple[int, float]], bound: int) -> Array:
    """Squared errors over all ranks from a few fits: log-linear between them, 1 at rank 0, 0 at the bound."""
    ranks = [0, *(rank for rank, _ in fits)]
    errors = np.minimum.accumulate([1.0, *(max(error, 1e-12) for _, error in fits)])
    curve = np.exp(np.interp(np.arange(bound + 1), ranks, np.log(errors)))
    beyond = np.arange(bound + 1) > ranks[-1]
    curve[beyond] *= np.linspace(1, 0, int(beyond.sum()) + 1)[1:]
    return np.asarray(curve)


def rank_grid(family: Family, multiple: int) -> Ints:
    """Ranks to try, (groups, n): every combination of a few levels, or common error levels where bonds are many."""
    bounds = family.bounds
    if len(bounds) <= 3:
        return np.array(list(itertools.product(*(levels(bound, multiple) for bound in bounds))), np.int64).T
    shares = np.geomspace(1e-4, 0.9, THRESHOLDS)
    grid = np.stack([np.searchsorted(-tail, -shares) for tail in family.tails])
    return np.unique(np.maximum(1, round_up(grid, multiple)), axis=1)


def levels(bound: int, multiple: int) -> list[int]:
    """Up to a dozen ranks from 1 (or the multiple) to the bound, finer at the small end."""
    raw = np.geomspace(1, bound, LEVELS) * 0.5 + np.linspace(1, bound, LEVELS) * 0.5
    found = {min(bound, int(round_up(np.rint(raw[k : k + 1]), multiple)[0])) for k in range(LEVELS)}
    return sorted(rank for rank in found if rank % multiple == 0) or [min(multiple, bound)]


def round_up(ranks: Any, multiple: int) -> Ints:
    """The next multiple."""
    return (np.ceil(np.asarray(ranks) / multiple) * multiple).astype(np.int64)
