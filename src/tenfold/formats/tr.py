"""Tensor ring: a chain of cores whose ends meet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.fitting import alternating_least_squares, balanced, energies, leading_vectors, quasi_newton, tail
from tenfold.fitting.als import sweep
from tenfold.fitting.spectra import unfolded
from tenfold.formats.base import Axes, Format, Modes, is_pointwise, spatial_axes
from tenfold.formats.modes import channel_factors, one_by_one
from tenfold.network import Labels, TensorNetwork, contract
from tenfold.protocols import TenfoldError

TRIAL_SWEEPS = 4  # from each start, before the best goes on or the start is judged
STALLED = 0.85  # of the squared error left by a doubling of the sweeps: a start behind the best is dropped
FOUND = 1e-9  # squared relative error at which no other start is needed
SEARCH_SWEEPS = 12  # of the fits that try ranks
STIR = 0.05  # of a core's deviation
EXACT = 1e-24  # squared relative error at which there is nothing to sweep
CLOSINGS = (4, 8)


@dataclass(frozen=True)
class TR(Format):
    """Tensor ring (Zhao et al. 2016; Wang et al., CVPR 2018; METHODS E.5): a chain of cores whose ends meet.

    In the shapes of TR-Nets there is one core for every mode of `i` and of `o`, the whole window in one between them;
    with `ring` the axes stay whole, in any circular order. The last core and the first share `r0`; at `r0` = 1 the ring
    is a tensor train. Starts: TR-SVD from every core that may come first, and random ones; each goes on by alternating
    least squares until it stalls behind the best.

    Attributes:
        order: into how many modes `i` and `o` are split; 2, and 3 where no axis is below 64 (a planner tries both, on
            kernels only where an order is given: whole axes err less).
        ring: the axes of each core around the ring, such as `i hw o` or `i h o w`; a planner tries `i hw o`.
        closing: `r0` where one number for the ranks is asked for, which are then those of the other bonds; with `ring`
            a planner tries 4 and 8; without, all bonds have the one number.
        starts: random starts; more are never worse, and none is needed once a ring is exact.
        sweeps: alternating least squares sweeps at most, from each start; the error never rises.
        refine: quasi-Newton steps over all cores after the sweeps.
    """

    iterates: ClassVar[bool] = True
    in_auto: ClassVar[bool] = False
    order: Positive | None = None
    ring: str | None = None
    closing: Positive | None = None
    starts: Positive = 12
    sweeps: Natural = 100
    refine: Natural = 0

    def __post_init__(self) -> None:
        if self.order is not None and self.ring is not None:
            raise TenfoldError(f"ring '{self.ring}' leaves the axes whole; give it without an order.")

    def default_modes(self, axes: Axes) -> Modes:
        return {} if self.ring is not None else channel_factors(axes, self.order)

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        if self.ring is None:
            return ring(one_by_one(modes))
        axes = ("i", *spatial_axes(modes), "o")
        words = self.ring.split()
        if len(words) < 2 or sorted("".join(words)) != sorted(axes):
            raise TenfoldError(
                f"ring '{self.ring}' does not hold each of the axes {' '.join(axes)} once, on 2 cores or more."
            )
        return ring([tuple(x for axis in word for x in modes[axis]) for word in words])

    def common_ranks(self, net: TensorNetwork, rank: int) -> Sequence[int]:
        closing = self.closing or (CLOSINGS[0] if self.ring is not None else rank)
        return [closing if bond == "r0" else rank for bond in net.bonds]

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return ring_fit(tensor, net, self.starts, self.sweeps, self.refine, generator)

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        fits = self.ring is None or sorted(self.ring.replace(" ", "")) == sorted(("i", *spatial_axes(axes), "o"))
        return self if fits else replace(self, ring=None)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        if self.ring is not None:
            return self.closed()
        if self.order is None and not is_pointwise(axes):
            return replace(self, ring=rings(axes)[0]).closed()
        if self.order is not None or min(axes["i"], axes["o"]) < 64:
            return (self,)
        return tuple(replace(self, order=order) for order in (2, 3))

    def closed(self) -> "tuple[TR, ...]":
        """This setting with every closing bond that is worth trying."""
        return tuple(replace(self, closing=r0) for r0 in (CLOSINGS if self.closing is None else (self.closing,)))

    def trial(self) -> Format:
        return replace(self, starts=1, sweeps=min(self.sweeps, TRIAL_SWEEPS), refine=0)

    def for_error(self, weight: Tensor, axes: Axes, error: float) -> "tuple[TR, TensorNetwork]":
        """The setting and the network with the fewest parameters that are found to keep a relative error.

        Options that are set are kept; of those left open every one is tried: circular orders of the axes, or modes of
        `i` and `o` on matrices; which bond is opened; the split of the first rank over its two bonds (by TR-SVD); then
        closing bonds of 4 and 8, with as small a rank on the others as sweeps allow. Takes seconds to a minute.

        Args:
            weight: in the order of `axes`, without groups.
            error: norm of the difference over norm of the weight, above 0 and below 1; `decompose` of the result,
                with its own generator, stays within.
        Raises: TenfoldError for another error, or a grouped weight.
        Source: the prescribed error and circular orders, Zdunek and Gabor 2024 (arXiv 2405.10802).
        """
        if not 0 < error < 1:
            raise TenfoldError(f"no relative error {error}; use one above 0 and below 1.")
        if axes.get("g", 1) > 1:
            raise TenfoldError(f"a weight in {axes['g']} groups has a ring for each; give one group at a time.")
        dense = weight.detach().cpu().double()
        found = min((truncated(form, dense, axes, error) for form in self.orders(axes)), key=lambda x: x[1].params)
        for form in self.orders(axes) if self.sweeps else ():
            for each in form.closed() if form.ring is not None else (form,):
                found = fewer(each, dense, axes, error, found)
        return found

    def orders(self, axes: Axes) -> "tuple[TR, ...]":
        """This setting with every circular order, or on matrices every split of the axes, that is left open."""
        if self.ring is not None or self.order is not None:
            return (self,)
        if is_pointwise(axes):
            return tuple(replace(self, order=order) for order in (2, 3))
        return tuple(replace(self, ring=words) for words in rings(axes))


def rings(axes: Axes) -> tuple[str, ...]:
    """The circular orders of a kernel's axes: the window in one core, then every axis by itself."""
    window = spatial_axes(axes)
    single = {max(order, order[::-1]) for order in permutations((*window, "o"))} if len(window) > 1 else set()
    return (f"i {''.join(window)} o", *(" ".join(("i", *order)) for order in sorted(single)))


def truncated(form: TR, weight: Tensor, axes: Axes, error: float) -> tuple[TR, TensorNetwork]:
    """The network of fewest parameters that TR-SVD finds within a relative error: every opening, every split."""
    net = form.network(axes)
    tensor = net.to_modes(weight)
    allowed = error**2 * float(tensor.square().sum())
    tried: list[TensorNetwork] = []
    for way in rotations(net):
        bonds = [x for x in net.cores[way[0]] if x in net.bonds]
        if form.closing is not None and "r0" not in bonds:
            continue  # its size would come of what the first bonds left
        modes = [net.modes.index(x) for x in net.cores[way[0]] if x in net.modes]
        rank = int((tail(energies(unfolded(tensor, modes))) > allowed / (len(way) - 1)).sum())
        each = [replace(net, sizes={**net.sizes, **sizes}) for sizes in splits(max(1, rank), bonds, form.closing)]
        tried += [ring_decomposition(tensor, split, way, allowed)[0] for split in each]
    return form, min(tried, key=lambda found: found.params)


def splits(rank: int, bonds: Sequence[str], closing: int | None) -> list[dict[str, int]]:
    """Sizes of two bonds whose product is a rank or barely more; all, or the one with this closing bond."""
    if closing is not None:
        return [{x: closing if x == "r0" else -(-rank // closing) for x in bonds}]
    pairs = [(one, -(-rank // one)) for one in range(1, rank + 1)]
    needed = [(one, two) for one, two in pairs if one == 1 or -(-rank // (one - 1)) > two]
    return [dict(zip(bonds, pair, strict=True)) for pair in needed]


def fewer(
    form: TR, weight: Tensor, axes: Axes, error: float, known: tuple[TR, TensorNetwork]
) -> tuple[TR, TensorNetwork]:
    """The network of `form` with the smallest common rank whose fit is within the error, or the known if that is less.

    Fits are those of one start and `SEARCH_SWEEPS`; with more the error only falls.
    """
    whole = form.network(axes)
    quick = replace(form, starts=1, sweeps=min(form.sweeps, SEARCH_SWEEPS), refine=0)

    def at(rank: int) -> TensorNetwork:
        return whole.with_ranks(form.common_ranks(whole, rank))

    def fits(rank: int) -> bool:
        cores = quick.decompose(weight, at(rank))
        return float(torch.dist(at(rank).weight(cores), weight)) <= error * float(weight.norm())

    high = 1
    while at(high + 1).params < known[1].params:
        high += 1
    if at(high).params >= known[1].params or not fits(high):
        return known
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return form, at(high)


def ring(parts: Sequence[Labels]) -> tuple[Labels, ...]:
    """Cores with these modes in a row, neighbours joined by r1, r2, .., the last and the first by r0."""
    count = len(parts)
    return tuple((f"r{k}", *part, f"r{(k + 1) % count}") for k, part in enumerate(parts))


def rotations(net: TensorNetwork) -> list[list[int]]:
    """The cores of a ring in a row, from each that may come first."""
    count = len(net.cores)
    return [[(first + k) % count for k in range(count)] for first in range(count)]


def ring_fit(
    tensor: Tensor, net: TensorNetwork, starts: int, sweeps: int, refine: int, generator: torch.Generator
) -> list[Tensor]:
    """Cores of a ring: the best of sweeps from every opening of it and from random starts.

    After a few sweeps the best of the openings and the first random start goes on; every further start is kept only
    where it ends better. Where a few sweeps are all there are, they start from the best opening.
    """
    openings = [ring_decomposition(tensor, net, way)[1] for way in rotations(net)]
    lost = [float((net.dense(cores) - tensor).square().sum()) for cores in openings]
    opened = openings[min(range(len(openings)), key=lost.__getitem__)]
    total = float(tensor.square().sum())
    if not sweeps or min(lost) <= EXACT * total:
        return opened
    draw = forked(generator)
    drawn = normal_cores(net, draw)
    chosen, trial = (openings, TRIAL_SWEEPS) if sweeps > TRIAL_SWEEPS else ([opened], sweeps)
    first = [[stirred(core, noise) for core, noise in zip(cores, drawn, strict=True)] for cores in chosen]
    first += [drawn] if sweeps > trial else []
    tried = [alternating_least_squares(tensor, net, balanced(net, start), sweeps=trial) for start in first]
    best, error = min(tried, key=lambda result: result[1])
    if sweeps > trial:
        best, error = alternating_least_squares(tensor, net, balanced(net, best), sweeps=sweeps - trial)
        for _ in range(starts - 1):
            if error <= FOUND:
                break
            found = raced(tensor, net, normal_cores(net, draw), sweeps, error)
            best, error = min((best, error), found, key=lambda result: result[1])
    if error <= FOUND:
        best, error = sharpened(tensor, net, best, sweeps)
    best = best if error * total < min(lost) else opened
    return quasi_newton(net.to_axes(tensor), net, balanced(net, best), steps=refine)[0] if refine else best


def forked(generator: torch.Generator) -> torch.Generator:
    """A generator of its own, so that what a fit draws does not change what the next one starts from."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))


def normal_cores(net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
    """A random start."""
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in net.shapes]


def raced(
    tensor: Tensor, net: TensorNetwork, cores: list[Tensor], sweeps: int, least: float
) -> tuple[list[Tensor], float]:
    """Sweeps from a start, dropped once it is behind the least error known and a doubling of them gains little."""
    done, error = 0, math.inf
    while done < sweeps:
        step = min(max(done, TRIAL_SWEEPS), sweeps - done)
        cores, now = alternating_least_squares(tensor, net, balanced(net, cores), sweeps=step)
        if now > max(least, STALLED * error):
            return cores, now
        done, error = done + step, now
    return cores, error


def sharpened(tensor: Tensor, net: TensorNetwork, cores: list[Tensor], sweeps: int) -> tuple[list[Tensor], float]:
    """Sweeps while the true error falls, which normal equations cannot tell once it is below 1e-7."""
    least = float(torch.dist(net.dense(cores), tensor))
    for _ in range(sweeps):
        found, _ = sweep(tensor, net, cores)
        error = float(torch.dist(net.dense(found), tensor))
        if error >= least:
            break
        cores, least = found, error
    return cores, least**2 / float(tensor.square().sum())


def stirred(core: Tensor, noise: Tensor) -> Tensor:
    """A core with a little noise: slices of zeros (ranks above those of the opening) would stay zero for ever."""
    deviation = float(core.norm()) / math.sqrt(core.numel())
    return core + STIR * deviation * noise


def ring_decomposition(
    tensor: Tensor, net: TensorNetwork, way: Sequence[int], allowed: float | None = None
) -> tuple[TensorNetwork, list[Tensor]]:
    """TR-SVD: the first core takes two bonds from one truncation, every other one as in a tensor train.

    Args:
        way: the cores in order; neighbours share a bond, the last and the first too.
        allowed: squared error for all truncations together; the bonds that the first core does not have then get the
            smallest ranks that keep it.
    Returns: the network, with the ranks chosen; its cores.
    Source: Zhao et al., "Tensor ring decomposition", 2016, Algorithm 1.
    """
    cores: dict[int, Tensor] = {}
    rest, labels, total = tensor, net.modes, float(tensor.square().sum())
    for at, k in enumerate(way[:-1]):
        later = {x for other in way[at + 1 :] for x in net.cores[other]}
        after = tuple(x for x in net.cores[k] if x in net.bonds and x in later)  # two bonds of the first core
        rows = tuple(x for x in labels if x in net.cores[k])
        matrix = unfolded(rest, [labels.index(x) for x in rows])
        if allowed is not None and at:
            left = allowed - (total - float(rest.square().sum()))
            rank = int((tail(energies(matrix)) > left / (len(way) - 1 - at)).sum())
            net = replace(net, sizes={**net.sizes, after[0]: max(1, rank)})
        vectors = leading_of_alive(matrix, net.size(after))
        core = vectors.reshape(*net.shape(rows), *net.shape(after))
        names = (*rows, *after)
        cores[k] = core.permute([names.index(x) for x in net.cores[k]])
        kept = (*after, *(x for x in labels if x not in rows))
        rest = contract([(core, names), (rest, labels)], kept)
        labels = kept
    cores[way[-1]] = rest.permute([labels.index(x) for x in net.cores[way[-1]]])
    return net, [cores[k].contiguous() for k in range(len(net.cores))]


def leading_of_alive(matrix: Tensor, rank: int) -> Tensor:
    """Leading left vectors; rows and columns of zeros (a split of more than the rank makes many) are left out."""
    rows, columns = matrix.any(dim=1), matrix.any(dim=0)
    if rows.all() or not rows.any():
        return leading_vectors(matrix, rank)
    vectors = matrix.new_zeros(matrix.shape[0], rank)
    vectors[rows] = leading_vectors(matrix[rows][:, columns], rank)
    return vectors
