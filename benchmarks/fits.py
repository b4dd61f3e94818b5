"""Ranks for a budget of parameters by one rule for every format, and the true error of a true decomposition."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tenfold.formats import Format
from tenfold.network import TensorNetwork, closing, full_rank, useful
from tenfold.planning import ErrorCurves
from tenfold.surgery import sites

GRID = {1: 400, 2: 100, 3: 40, 4: 20, 5: 11, 6: 8, 7: 6}  # bonds -> levels of each
TRIED = 16  # candidates by either bound that are truly decomposed


@dataclass(frozen=True)
class Weight:
    """A trained weight with its axes, and what truncation loses in its unfoldings."""

    name: str
    tensor: Tensor
    axes: dict[str, int]
    curves: ErrorCurves

    def tails(self, net: TensorNetwork) -> list[np.ndarray]:
        """For every bond the share of the squared norm beyond each rank."""
        return [self.curves.tail(self.name, self.tensor, net, bond) for bond in net.bonds]


@dataclass(frozen=True)
class Fit:
    """A network and how far its weight is from the given one, relative to the norm."""

    maker: Format
    net: TensorNetwork
    error: float


def weights_of(model: nn.Module) -> Iterator[Weight]:
    """Every weight of a network that a format can take."""
    for name, site in sites(model).items():
        yield Weight(name, site.weight(model).detach(), dict(site.axes), ErrorCurves(name))


def without_idle(net: TensorNetwork) -> TensorNetwork:
    """The network without cores that only hand one bond on as another: the root of a tree costs and gains nothing."""
    idle = next((core for core in net.cores if len(core) == 2 and set(core) <= set(net.bonds)), None)
    return net if idle is None else without_idle(net.merged(idle[0]))


def candidates(net: TensorNetwork, tails: Sequence[np.ndarray], budget: float) -> Iterator[TensorNetwork]:
    """Ranks of a tree with at most so many parameters that may lose least.

    The squared error lies between the largest and the sum of the bonds' tails (METHODS 0.4): of a grid of ranks that
    the budget holds, the first few by either, each filled up.
    """
    whole = full_rank(net)
    ranks = np.stack([r.ravel() for r in np.meshgrid(*(levels(most, len(whole.bonds)) for most in whole.ranks))])
    sizes = {**whole.sizes, **dict(zip(whole.bonds, ranks, strict=True))}
    ranks = ranks[:, (whole.param_count(sizes) <= budget) & no_larger(whole, sizes)]
    lost = np.stack([tail[rank] for tail, rank in zip(tails, ranks, strict=True)])
    first = {*np.argsort(lost.sum(0), kind="stable")[:TRIED], *np.argsort(lost.max(0), kind="stable")[:TRIED]}
    starts = [whole.with_ranks([int(r) for r in ranks[:, at]]) for at in sorted(first)]
    yield from {each.ranks: each for each in (filled(whole, start, tails, budget) for start in starts)}.values()


def levels(most: int, bonds: int) -> np.ndarray:
    """Ranks from 1 to the largest useful one, in equal steps of the logarithm, fewer where bonds are many."""
    return np.unique(np.rint(np.geomspace(1, most, GRID[min(bonds, max(GRID))])).astype(np.int64))


def no_larger(net: TensorNetwork, sizes: Mapping[str, Any]) -> np.ndarray:
    """Which ranks are no larger than the product of the other labels of their cores."""
    pairs = [(bond, net.cores[k]) for bond in net.bonds for k in net.holders[bond]]
    return np.all([sizes[bond] <= math.prod(sizes[x] for x in core if x != bond) for bond, core in pairs], axis=0)


def filled(whole: TensorNetwork, net: TensorNetwork, tails: Sequence[np.ndarray], budget: float) -> TensorNetwork:
    """Ranks one by one where a parameter gains most, until none fits the budget."""
    while True:
        best, pay = None, 0.0
        for k, (rank, most) in enumerate(zip(net.ranks, whole.ranks, strict=True)):
            if rank == most:
                continue
            more = net.with_ranks([r + (j == k) for j, r in enumerate(net.ranks)])
            gain = float(tails[k][rank] - tails[k][rank + 1]) / (more.params - net.params)
            if more.params <= budget and gain > pay:
                best, pay = more, gain
        if best is None:
            return useful(net)
        net = best


def evened(net: TensorNetwork, budget: float) -> TensorNetwork | None:
    """Ranks as equal as the budget and their useful sizes allow, grown by one bond after bond; for rings, too."""
    most = [math.inf] * len(net.bonds) if closing(net) else full_rank(net).ranks
    net, turn = net.with_ranks([1] * len(net.bonds)), 0
    if net.params > budget:
        return None
    while True:
        grown = {
            k: net.with_ranks([r + (j == k) for j, r in enumerate(net.ranks)])
            for k, bound in enumerate(most)
            if net.ranks[k] < bound
        }
        fitting = [k for k, more in grown.items() if more.params <= budget]
        if not fitting:
            return net
        turn = next((k for k in fitting if k >= turn), fitting[0])
        net, turn = grown[turn], turn + 1


def fitted(weight: Weight, maker: Format, net: TensorNetwork) -> Fit:
    """The true decomposition and its error."""
    dense = weight.tensor.double()
    found = net.weight(maker.decompose(dense, net, generator=torch.Generator().manual_seed(0)))
    return Fit(maker, net, float((found - dense).norm() / dense.norm()))


def best_fit(weight: Weight, makers: Sequence[Format], ratio: float) -> Fit | None:
    """The least true error of several settings at so many times fewer parameters; None where none is that small."""
    fits = []
    for maker in makers:
        whole = full_rank(without_idle(maker.network(weight.axes)))
        nets = candidates(whole, weight.tails(whole), weight.tensor.numel() / ratio)
        fits += [fitted(weight, maker, net) for net in nets]
    return min(fits, key=lambda fit: fit.error, default=None)


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(math.log(value) for value in values) / len(values))
