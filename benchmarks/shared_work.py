"""What work that is shared would save: vectors kept from a plan to the decomposition, fits of several layers at once.

    python benchmarks/shared_work.py

Neither is done. A plan alone would take longer, by spectra in single precision, and the vectors of a GPT-2 medium would
take a third of its weights' memory; and one batch saves time on small kernels, whose fits take the least of it. Random
weights, one thread, seconds of the processor: the least of `--repeats` by turns with the other way.

`kept`: the plan finds the eigenvectors of every unfolding beside the eigenvalues, in the precision of a decomposition,
which looks them up by the numbers of the Gram matrix: cores are the same to the last bit. `megabytes`: the vectors when
the plan is made.

`at once`: a sweep of alternating least squares over six kernels of one shape in one batch, at the ranks of a planner's
trial fits (of which those with more than 1,024 unknowns a row are left out), beside one after the other.
"""

import argparse
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import tenfold
from table import page, table, written
from tenfold.fitting import spectra
from tenfold.fitting.als import PROXIMAL, sweep
from tenfold.formats import BTD, CP, TR, Format
from tenfold.network import TensorNetwork, contract
from tenfold.planning.curves import TRIALS, rank_of_params

LAYERS = 6
MOST = 1024  # unknowns a row
Cores = Sequence[Tensor]  # of several layers: one more dimension in front
Way = Callable[[Tensor, TensorNetwork, Cores], object]
SVD = {"params": "2x", "format": "svd"}
MATRICES: Mapping[str, tuple[Sequence[tuple[int, int]], Mapping[str, Any]]] = {
    "12 of 512 x 512, svd": ([(512, 512)] * 12, SVD),
    "3 of 1024 x 4096, svd": ([(1024, 4096)] * 3, SVD),
    "2048 x 2048, svd": ([(2048, 2048)], SVD),
    "4 of 512 x 512, svd, tt, ht, tucker": ([(512, 512)] * 4, {"params": "2x", "format": "svd,tt,ht,tucker"}),
}
FORMATS: Mapping[str, Format] = {
    "cp": CP(), "btd, blocks of 4": BTD(block=4), "tr, closing 4": TR(ring="i hw o", closing=4),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 64, 256])
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = page(
        "Shared work",
        __doc__,
        table(("matrices", "plan, decompose", "kept: plan, decompose", "saves", "megabytes"), kept(given.repeats)),
        table(("kernels", "format", "milliseconds a sweep of each", "at once", "saves"),
              at_once(given.channels, given.repeats)),
    )  # fmt: skip
    print(text)
    written("shared-work", text)


def fastest(ways: Sequence[Callable[[], Sequence[float]]], repeats: int) -> list[list[float]]:
    """The least of the seconds that each way gives, all in turn."""
    rounds = [[way() for way in ways] for _ in range(repeats)]
    return [[min(parts) for parts in zip(*each, strict=True)] for each in zip(*rounds, strict=True)]


def saving(before: float, after: float) -> str:
    """`13 %`."""
    return f"{100 * (1 - after / before):.0f} %"


# ---- vectors kept
class Kept:
    """Eigen-decompositions by the numbers of the matrix; each is taken once."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, tuple[Tensor, Tensor]] = {}
        self.eigh, self.megabytes = torch.linalg.eigh, 0.0

    def energies(self, matrix: Tensor) -> Tensor:
        """For the plan, kept."""
        square = spectra.gram(matrix)
        square = square.float() if len(square) >= spectra.LARGE else square
        values, vectors = self.pairs[digest(square)] = self.eigh(square)
        self.megabytes += vectors.nbytes / 1e6
        return values.double().flip(0).clamp_min(0)

    def taken(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """For the decomposition."""
        return self.pairs.pop(digest(square), None) or self.eigh(square)


def digest(square: Tensor) -> bytes:
    """Of the numbers of a matrix."""
    return hashlib.blake2b(square.numpy().tobytes()).digest()


def kept(repeats: int) -> Iterator[tuple[str, ...]]:
    """A row for each set of matrices."""
    for name, (shapes, asked) in MATRICES.items():
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(*shape) for shape in shapes)).eval()
        ways = partial(plain, model, asked), partial(keeping, model, asked)
        before, after = fastest(ways, repeats)
        seconds = (", ".join(f"{part:.2f}" for part in parts[:2]) for parts in (before, after))
        yield name, *seconds, saving(sum(before), sum(after[:2])), f"{after[2]:.0f}"


def plain(model: nn.Module, asked: Mapping[str, Any]) -> tuple[float, ...]:
    """Seconds of a plan and a decomposition."""
    profile = tenfold.inspect(model)
    began = time.process_time()
    plan = tenfold.plan(model, profile, **asked)
    middle = time.process_time()
    tenfold.decompose(model, plan, quiet=True)
    return middle - began, time.process_time() - middle


def keeping(model: nn.Module, asked: Mapping[str, Any]) -> tuple[float, ...]:
    """The same with vectors kept, and their megabytes."""
    keeps = Kept()
    with patch("tenfold.planning.curves.energies", keeps.energies), patch("torch.linalg.eigh", keeps.taken):
        return *plain(model, asked), keeps.megabytes


# ---- fits at once
def at_once(channels: Sequence[int], repeats: int) -> Iterator[tuple[str, ...]]:
    """A row for each width and format: a sweep at all trial ranks together."""
    draw = torch.Generator().manual_seed(0)
    for width, (name, maker) in itertools.product(channels, FORMATS.items()):
        nets = trials(maker, {"o": width, "i": width, "h": 3, "w": 3})
        dense = torch.randn(LAYERS, *nets[0].shape(nets[0].modes), generator=draw, dtype=torch.float64)
        starts = [[torch.randn(LAYERS, *shape, generator=draw, dtype=torch.float64) for shape in net.shapes]
                  for net in nets]  # fmt: skip
        ways = [partial(timed, way, dense, nets, starts) for way in (one_by_one, swept)]
        (before,), (after,) = fastest(ways, repeats)
        each = (f"{1e3 * part / LAYERS:.1f}" for part in (before, after))
        yield f"{LAYERS} of {width} x {width} x 3 x 3", name, *each, saving(before, after)


def timed(way: Way, dense: Tensor, nets: Sequence[TensorNetwork], starts: Sequence[Cores]) -> tuple[float]:
    """Of sweeps over all networks."""
    began = time.process_time()
    for net, cores in zip(nets, starts, strict=True):
        way(dense, net, cores)
    return (time.process_time() - began,)


def one_by_one(tensors: Tensor, net: TensorNetwork, starts: Cores) -> None:
    """As it is done."""
    for tensor, *cores in zip(tensors, *starts, strict=True):
        sweep(tensor, net, cores)


def trials(maker: Format, axes: Mapping[str, int]) -> list[TensorNetwork]:
    """The networks of a planner's trial fits."""
    whole = maker.network(axes)

    def at(rank: int) -> TensorNetwork:
        return whole.with_ranks(maker.common_ranks(whole, rank))

    size = whole.size(whole.modes)
    nets = [at(rank) for rank in sorted({rank_of_params(at, share * size) for share in TRIALS})]
    return [net for net in nets if max(unknowns(net)) <= MOST]


def unknowns(net: TensorNetwork) -> list[int]:
    """The size of every core's normal matrix."""
    return [net.size(x for x in core if x in net.bonds) for core in net.cores]


def swept(tensors: Tensor, net: TensorNetwork, starts: Cores) -> list[Tensor]:
    """`sweep` over several tensors at once, each with cores of its own."""
    cores, count = list(starts), len(tensors)
    for k, labels in enumerate(net.cores):
        bonds, rows = (tuple(x for x in labels if (x in net.bonds) is bond) for bond in (True, False))
        names, size = ("layer", *rows, *bonds), net.size(bonds)
        others = [(core, ("layer", *net.cores[j])) for j, core in enumerate(cores) if j != k]
        primed = [(core, tuple(f"{x}'" if x in net.bonds else x for x in each)) for core, each in others]
        gram = contract([*others, *primed], ("layer", *bonds, *(f"{x}'" for x in bonds))).reshape(count, size, size)
        seen = contract([(tensors, ("layer", *net.modes)), *others], names).reshape(count, -1, size)
        old = contract([(cores[k], ("layer", *labels))], names).reshape(count, -1, size)
        ridge = PROXIMAL * gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        factor = torch.linalg.cholesky_ex(gram + ridge * torch.eye(size, dtype=gram.dtype)).L
        found = torch.cholesky_solve((seen + ridge * old).mT, factor).mT.reshape(count, *net.shape(names[1:]))
        cores[k] = found.permute([names.index(x) for x in ("layer", *labels)]).contiguous()
    return cores


if __name__ == "__main__":
    main()
