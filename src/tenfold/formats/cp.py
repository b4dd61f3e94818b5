"""CP: a sum of rank-one terms; on kernels 1x1, depthwise, 1x1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.documents import Positive
from tenfold.fitting import alternating_least_squares, balanced, corrected, degeneracy, leading_vectors
from tenfold.fitting.spectra import unfolded
from tenfold.formats.base import Axes, Format, by_group, is_pointwise, spatial_axes
from tenfold.formats.svd import SVD
from tenfold.network import Labels, TensorNetwork
from tenfold.protocols import TenfoldError

CONCERN = (
    "the terms of cp cancel each other; fine-tune at a low learning rate in full precision, or take a smaller rank, "
    "btd or tucker2."
)
DEGENERATE = 10.0  # of the terms' squared norms over that of their sum (METHODS E.2)
TRIAL_SWEEPS = 8  # of every start, before the best goes on


@dataclass(frozen=True)
class CP(Format):
    """Canonical polyadic decomposition by alternating least squares with several starts (METHODS E.2).

    Its one hyperedge stays in the state until its last core, so the window becomes a depthwise convolution.
    SVD stands in on matrices and 1x1 convolutions, where the two are one. At its largest useful rank the factors are
    one-hot but for the largest, and exact.

    Attributes:
        window: `joint` (one factor for the whole window: one depthwise convolution) or `split` (a factor an axis).
        starts: one from the leading singular vectors, the others random.
        sweeps: at most so many over all factors.
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
        if net.sizes["r1"] >= net.global_bound("r1"):
            return one_hot(tensor, net)
        starts = [singular_start(tensor, net, generator)]
        starts += [random_start(net, generator) for _ in range(self.starts - 1)]
        trial = min(TRIAL_SWEEPS, self.sweeps)
        tried = [alternating_least_squares(tensor, net, start, sweeps=trial) for start in starts]
        best, error = min(tried, key=lambda result: result[1])
        if self.sweeps > trial:
            best, error = alternating_least_squares(tensor, net, balanced(net, best), sweeps=self.sweeps - trial)
        if self.correct and degeneracy(net, best) > DEGENERATE:
            best = corrected(tensor, net, best, error)
        return best

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
