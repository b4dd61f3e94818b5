"""CP: a sum of rank-one terms; on kernels 1x1, depthwise, 1x1."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.documents import Positive
from tenfold.fitting import alternating_least_squares, corrected, degeneracy, leading_vectors
from tenfold.fitting.als import sweep
from tenfold.fitting.spectra import unfolded
from tenfold.formats.base import Axes, Format, by_group, is_pointwise, spatial_axes
from tenfold.formats.svd import SVD
from tenfold.network import Labels, TensorNetwork, global_bound
from tenfold.protocols import TenfoldError

CONCERN = (
    "the terms of cp cancel each other; fine-tune at a low learning rate in full precision, or take a smaller rank, "
    "btd or tucker2."
)
DEGENERATE = 10.0  # of the terms' squared norms over that of their sum (METHODS E.2)
TRIAL_SWEEPS = 16  # of every draw of random factors, and three times as many of the best quarter
DRAWS = 32  # for a random start at most,
DRAWN = 2**17  # and as many as make so many numbers of weights: where a fit is cheap, it is searched for longer


@dataclass(frozen=True)
class CP(Format):
    """Canonical polyadic decomposition by alternating least squares with several starts (METHODS E.2).

    Its one hyperedge stays in the state until its last core, so the window becomes a depthwise convolution.
    SVD stands in on matrices and 1x1 convolutions, where the two are one. At its largest useful rank the factors are
    one-hot but for the largest, and exact.

    Attributes:
        window: `joint` (one factor for the whole window: one depthwise convolution) or `split` (a factor an axis).
        starts: the first from the leading singular vectors, the others random; the best end is kept, so that with more
            of them the error never rises.
        sweeps: at most so many over all factors from each start.
        correct: where terms grow and cancel each other, bring them back at an error within 1 %.
    """

    iterates: ClassVar[bool] = True
    window: str = "joint"
    starts: Positive = 3
    sweeps: Positive = 100
    correct: bool = True

    def __post_init__(self) -> None:
        if self.window not in ("joint", "split"):
            raise TenfoldError(f"cp has no window '{self.window}'; use 'joint' or 'split'.")

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        window = [(*modes[axis],) for axis in spatial_axes(modes)]
        if self.window == "joint" and window:
            window = [tuple(x for part in window for x in part)]
        inputs, outputs = ([(x,) for x in modes[axis]] for axis in ("i", "o"))
        return tuple((*part, "r1") for part in (*inputs, *window, *outputs))

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        if net.sizes["r1"] >= global_bound(net, "r1"):
            return one_hot(tensor, net)
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))  # however many starts
        ends = [self.swept(tensor, net, start) for start in starts(tensor, net, self.starts, draw)]
        return min(ends, key=lambda cores: float((net.dense(cores) - tensor).square().sum()))

    def swept(self, tensor: Tensor, net: TensorNetwork, start: list[Tensor]) -> list[Tensor]:
        """The end of a start: sweeps, and the correction where it is asked for and needed."""
        cores, error = alternating_least_squares(tensor, net, start, sweeps=self.sweeps)
        if self.correct and degeneracy(net, cores) > DEGENERATE:
            return corrected(tensor, net, cores, error)
        return cores

    def concern(self, net: TensorNetwork, cores: Sequence[Tensor]) -> str | None:
        if not (self.correct and net.bonds):
            return None
        worst = max(degeneracy(one, part) for one, part in by_group(net, cores))
        return CONCERN if worst > DEGENERATE else None

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        return SVD() if is_pointwise(axes) else self

    def trial(self) -> Format:
        return replace(self, starts=1, sweeps=2 * TRIAL_SWEEPS, correct=False)


def one_hot(tensor: Tensor, net: TensorNetwork) -> list[Tensor]:
    """Exact factors: a term for every place in all but the largest core, which holds the tensor itself."""
    largest = max(range(len(net.cores)), key=lambda k: net.size(x for x in net.cores[k] if x in net.modes))
    rank, places = net.sizes["r1"], [x for k, core in enumerate(net.cores) if k != largest for x in core if x != "r1"]
    own = [x for x in net.cores[largest] if x != "r1"]
    count = net.size(places)
    values = tensor.permute([net.modes.index(x) for x in (*own, *places)]).reshape(*net.shape(own), count)
    cores = []
    for k, core in enumerate(net.cores):
        labels = tuple(x for x in core if x != "r1")
        at = torch.eye(count, dtype=tensor.dtype).reshape(*net.shape(places), count)
        hot = at.amax([d for d, x in enumerate(places) if x not in labels]) if len(labels) < len(places) else at
        full = torch.nn.functional.pad(values if k == largest else hot, (0, rank - count))
        cores.append(full.permute([(*labels, "r1").index(x) for x in core]).contiguous())
    return cores


def starts(tensor: Tensor, net: TensorNetwork, count: int, generator: torch.Generator) -> Iterator[list[Tensor]]:
    """So many starts; the first ones are the same whatever their number."""
    yield singular_start(tensor, net, generator)
    for _ in range(count - 1):
        yield drawn_start(tensor, net, generator)


def drawn_start(tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
    """The best of many random factors after sweeps over all of them, and more over the best quarter."""
    count = max(1, min(DRAWS, DRAWN // tensor.numel()))
    drawn = [torch.randn(count, *shape, generator=generator, dtype=torch.float64) for shape in net.shapes]
    for sweeps in (TRIAL_SWEEPS, 3 * TRIAL_SWEEPS) if count > 1 else ():
        for _ in range(sweeps):
            drawn, error = sweep(tensor, net, drawn)
        best = error.argsort()[: max(1, count // 4)]
        drawn = [core[best] for core in drawn]
    return [core[0] for core in drawn]


def random_start(net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
    """Gaussian factors."""
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in net.shapes]


def singular_start(tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
    """Leading left singular vectors of every factor's own unfolding, random columns beyond them."""
    cores = random_start(net, generator)
    for k, core in enumerate(net.cores):
        rows = [net.modes.index(x) for x in core if x in net.modes]
        rank = net.sizes["r1"]
        vectors = leading_vectors(unfolded(tensor, rows), rank)
        count = min(rank, vectors.shape[0])
        cores[k].reshape(-1, rank)[:, :count] = vectors[:, :count]
    return cores
