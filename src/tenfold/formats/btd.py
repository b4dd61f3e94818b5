"""Block terms: a sum of small Tucker-2 terms; on kernels 1x1, grouped k x k, 1x1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tenfold.documents import Natural, Positive
from tenfold.fitting import alternating_least_squares, balanced, quasi_newton, tree_decomposition
from tenfold.formats.base import Axes, Format, is_pointwise, spatial_axes
from tenfold.formats.svd import SVD
from tenfold.formats.tr import EXACT, stirred
from tenfold.network import Labels, TensorNetwork, closing, full_rank

TRIAL_SWEEPS = 6  # from each start, before the best goes on
BLOCKS = (4, 8, 16)


@dataclass(frozen=True)
class BTD(Format):
    """Block term decomposition of a kernel (De Lathauwer, SIAM J. Matrix Anal. Appl. 30, 2008; METHODS E.6).

    The label `n` of the blocks is on all cores and stays in the state until the last: the window becomes a convolution
    with as many groups as there are blocks. Blocks of 1 are CP, one block is Tucker-2. Starts: Tucker-2 with its core
    split, CP with its terms grouped, and random; then alternating least squares over all cores. The ranks are `n`,
    then what a block takes in and gives out. SVD stands in on matrices and 1x1 convolutions.

    Attributes:
        block: channels of a block, in and out, where one number for the ranks is asked for (it is then the number of
            blocks); a planner tries 4, 8 and 16.
        starts: the first from Tucker-2, the second from CP, the others random; the best after a few sweeps goes on.
        sweeps: alternating least squares sweeps at most; the error never rises.
        refine: quasi-Newton steps over all cores after the sweeps.
    """

    iterates: ClassVar[bool] = True
    in_auto: ClassVar[bool] = False
    block: Positive | None = None
    starts: Positive = 3
    sweeps: Natural = 50
    refine: Natural = 0

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        window = tuple(x for axis in spatial_axes(modes) for x in modes[axis])
        if not window:
            return (*modes["i"], "n"), ("n", *modes["o"])
        return (*modes["i"], "n", "r1"), ("n", "r1", *window, "r2"), ("n", "r2", *modes["o"])

    def common_ranks(self, net: TensorNetwork, rank: int) -> Sequence[int]:
        full, block = full_rank(net).sizes, self.block or BLOCKS[1]
        return [rank if bond == "n" else min(block, full[bond]) for bond in net.bonds]

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        if not closing(net):  # a matrix
            return tree_decomposition(tensor, net, root=len(net.cores) - 1)
        whole = len(net.cores) == 3 and "n" in net.bonds
        split = split_tucker(tensor, net) if whole else self.drawn(net, generator)
        total = float(tensor.square().sum())
        lost = float((net.dense(split) - tensor).square().sum())
        if not self.sweeps or lost <= EXACT * total:
            return split
        starts = [split, *([grouped_cp(tensor, net, generator)] if whole and self.starts > 1 else [])]
        starts = [
            [stirred(core, noise) for core, noise in zip(start, self.drawn(net, generator), strict=True)]
            for start in starts
        ]
        starts += [self.drawn(net, generator) for _ in range(self.starts - len(starts))]
        trial = min(TRIAL_SWEEPS, self.sweeps)
        tried = [alternating_least_squares(tensor, net, balanced(net, start), sweeps=trial) for start in starts]
        best, error = min(tried, key=lambda result: result[1])
        if self.sweeps > trial:
            best, error = alternating_least_squares(tensor, net, balanced(net, best), sweeps=self.sweeps - trial)
        best = best if error * total < lost else split
        if not self.refine:
            return best
        return quasi_newton(net.to_axes(tensor), net, balanced(net, best), steps=self.refine)[0]

    @staticmethod
    def drawn(net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        """Gaussian cores."""
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in net.shapes]

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        return SVD() if is_pointwise(axes) else self

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        return tuple(replace(self, block=block) for block in (BLOCKS if self.block is None else (self.block,)))

    def trial(self) -> Format:
        return replace(self, starts=1, sweeps=min(self.sweeps, TRIAL_SWEEPS), refine=0)


def split_tucker(tensor: Tensor, net: TensorNetwork) -> list[Tensor]:
    """Tucker-2 with as many ranks as all blocks together, of whose core the diagonal blocks are kept."""
    count, one, two = (net.sizes[x] for x in ("n", "r1", "r2"))
    tucker = net.without(("n",))
    tucker = tucker.with_ranks([count * one, count * two])
    first, core, last = tree_decomposition(tensor, tucker, root=1)
    blocks = core.reshape(count, one, *core.shape[1:-1], count, two)
    kept = blocks.diagonal(dim1=0, dim2=blocks.ndim - 2)  # (r1, *window, r2, n)
    outer = first.reshape(*first.shape[:-1], count, one), last.reshape(count, two, *last.shape[1:])
    return [outer[0], kept.movedim(-1, 0).contiguous(), outer[1]]


def grouped_cp(tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
    """CP with a term for every channel of every block, like windows in one block.

    An oblong block has as many terms as its shorter side; the other channels are zero.
    """
    count, one, two = (net.sizes[x] for x in ("n", "r1", "r2"))
    block = min(one, two)
    labels = tuple((*(x for x in core if x in net.modes), "n") for core in net.cores)
    sizes = {x: n for x, n in net.sizes.items() if x not in ("r1", "r2")} | {"n": count * block}
    cp = TensorNetwork(labels, sizes, net.axes, net.folds)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in cp.shapes]
    found, _ = alternating_least_squares(tensor, cp, start, sweeps=TRIAL_SWEEPS)
    first, window, last = balanced(cp, found)
    order = like_windows(window.reshape(-1, count * block), block)
    first, window, last = (
        factor[..., order].reshape(*factor.shape[:-1], count, block) for factor in (first, window, last)
    )
    core = torch.diag_embed(window).movedim(-3, 0).movedim(-2, 1)  # (n, block, *window, block)
    core = functional.pad(core.movedim(1, -2), (0, two - block, 0, one - block)).movedim(-2, 1)
    inner = functional.pad(first, (0, one - block))  # (*i, n, r1)
    outer = functional.pad(last, (0, two - block)).movedim(-2, 0).movedim(-1, 1)  # (n, r2, *o)
    return [inner.contiguous(), core.contiguous(), outer.contiguous()]


def like_windows(windows: Tensor, block: int) -> list[int]:
    """An order of the columns in which each block holds the first that is left and those most parallel to it."""
    unit = windows / windows.norm(dim=0).clamp_min(1e-300)
    parallel = (unit.mT @ unit).abs()
    left, order = list(range(windows.shape[1])), []
    while left:
        nearest = sorted(left, key=lambda k: -float(parallel[left[0], k]))[:block]
        order += nearest
        left = [k for k in left if k not in nearest]
    return order
