"""Tensor ring: a chain of cores whose ends meet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.fitting import alternating_least_squares, balanced, leading_vectors, quasi_newton
from tenfold.fitting.spectra import unfolded
from tenfold.formats.base import Axes, Format, Modes
from tenfold.formats.modes import channel_factors, check_order, one_by_one
from tenfold.network import Labels, TensorNetwork, contract
from tenfold.protocols import TenfoldError

TRIAL_SWEEPS = 4  # from each start, before the better goes on
STIR = 0.05  # of a core's deviation
EXACT = 1e-24  # squared relative error at which there is nothing to sweep


@dataclass(frozen=True)
class TR(Format):
    """Tensor ring in the shapes of TR-Nets (Zhao et al. 2016; Wang et al., CVPR 2018; METHODS E.5).

    One core for every mode of `i` and of `o`, the whole window in one between them; `r0` closes the ring. The start is
    the TR-SVD with the least error over all cores that may come first, or random; then alternating least squares.
    With `r0` = 1 it is the tensor train in layout `split`.

    Attributes:
        order: into how many modes `i` and `o` are split; 2, and 3 where no axis is below 64 (a planner tries both).
        sweeps: alternating least squares sweeps at most; the error never rises.
        refine: quasi-Newton steps over all cores after the sweeps.
    """

    iterates: ClassVar[bool] = True
    in_auto: ClassVar[bool] = False
    order: int | None = None
    sweeps: int = 30
    refine: int = 0

    def __post_init__(self) -> None:
        check_order(self.order)
        check_sweeps(self.sweeps)

    def default_modes(self, axes: Axes) -> Modes:
        return channel_factors(axes, self.order)

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return ring(one_by_one(modes))

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return ring_fit(tensor, net, self.sweeps, self.refine, generator)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        if self.order is not None or min(axes["i"], axes["o"]) < 64:
            return (self,)
        return tuple(replace(self, order=order) for order in (2, 3))

    def trial(self) -> Format:
        return replace(self, sweeps=min(self.sweeps, TRIAL_SWEEPS), refine=0)


def check_sweeps(sweeps: int) -> None:
    """Refuse a number of sweeps below 0."""
    if sweeps < 0:
        raise TenfoldError(f"no {sweeps} sweeps; use 0 or more.")


def ring(parts: Sequence[Labels]) -> tuple[Labels, ...]:
    """Cores with these modes in a row, neighbours joined by r1, r2, .., the last and the first by r0."""
    count = len(parts)
    return tuple((f"r{k}", *part, f"r{(k + 1) % count}") for k, part in enumerate(parts))


def ring_fit(tensor: Tensor, net: TensorNetwork, sweeps: int, refine: int, generator: torch.Generator) -> list[Tensor]:
    """Cores of a ring: the best opening of it, then sweeps from there and from a random start; the better goes on."""
    count = len(net.cores)
    openings = [ring_decomposition(tensor, net, [(first + k) % count for k in range(count)]) for first in range(count)]
    lost = [float((net.dense(cores) - tensor).square().sum()) for cores in openings]
    opened = openings[min(range(count), key=lost.__getitem__)]
    total = float(tensor.square().sum())
    if not sweeps or min(lost) <= EXACT * total:
        return opened
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in net.shapes]
    starts = [[stirred(core, noise) for core, noise in zip(opened, drawn, strict=True)], drawn]
    trial = min(TRIAL_SWEEPS, sweeps)
    tried = [alternating_least_squares(tensor, net, balanced(net, start), sweeps=trial) for start in starts]
    best, error = min(tried, key=lambda result: result[1])
    if sweeps > trial:
        best, error = alternating_least_squares(tensor, net, balanced(net, best), sweeps=sweeps - trial)
    best = best if error * total < min(lost) else opened
    return quasi_newton(net.to_axes(tensor), net, balanced(net, best), steps=refine)[0] if refine else best


def stirred(core: Tensor, noise: Tensor) -> Tensor:
    """A core with a little noise: slices of zeros (ranks above those of the opening) would stay zero for ever."""
    deviation = float(core.norm()) / math.sqrt(core.numel())
    return core + STIR * deviation * noise


def ring_decomposition(tensor: Tensor, net: TensorNetwork, way: Sequence[int]) -> list[Tensor]:
    """TR-SVD: the first core takes two bonds from one truncation, every other one as in a tensor train.

    Args:
        way: the cores in order; neighbours share a bond, the last and the first too.
    Source: Zhao et al., "Tensor ring decomposition", 2016, Algorithm 1.
    """
    cores: dict[int, Tensor] = {}
    rest, labels = tensor, net.modes
    for at, k in enumerate(way[:-1]):
        later = {x for other in way[at + 1 :] for x in net.cores[other]}
        after = tuple(x for x in net.cores[k] if x in net.bonds and x in later)  # two bonds of the first core
        rows = tuple(x for x in labels if x in net.cores[k])
        vectors = leading_vectors(unfolded(rest, [labels.index(x) for x in rows]), net.size(after))
        core = vectors.reshape(*net.shape(rows), *net.shape(after))
        names = (*rows, *after)
        cores[k] = core.permute([names.index(x) for x in net.cores[k]])
        kept = (*after, *(x for x in labels if x not in rows))
        rest = contract([(core, names), (rest, labels)], kept)
        labels = kept
    cores[way[-1]] = rest.permute([labels.index(x) for x in net.cores[way[-1]]])
    return [cores[k].contiguous() for k in range(len(net.cores))]
