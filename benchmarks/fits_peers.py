"""Fits of small kernels beside those of tensorly: CP from 1, 3 and 8 starts, sweeps of Tucker and the tensor train.

    python benchmarks/fits_peers.py

CP: 24 kernels from seeds, half of them a planted sum of terms plus noise of 0.3 of its norm, half noise alone. Relative
errors; tensorly's is the best of four runs of `parafac` with its defaults (`svd` and three `random`), on the same
tensor. Ours are without the correction of terms that cancel, which tensorly has not, but for the last column: as a rule
up to 1 % of the error is given for it. Sweeps: a kernel of noise, one sweep from the truncation; memory is what the
process grew by. In float64, with one thread; the machine was shared, so read the seconds as ratios.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import tensorly
import torch
from tensorly.decomposition import parafac
from tensorly.decomposition import tucker as tensorly_tucker
from torch import Tensor

from fits import geometric_mean
from table import page, table, written
from tenfold.fitting import alternating_least_squares, balanced, orthogonal_iterations, tree_decomposition
from tenfold.formats import CP, TT, Format, Tucker, format_named
from tenfold.network import TensorNetwork, random_cores

OURS: dict[str, dict[str, Any]] = {
    "1 start": {"starts": 1, "correct": False},
    "3 starts": {"starts": 3, "correct": False},
    "8 starts": {"starts": 8, "correct": False},
    "default": {},
}
INITS = (("svd", 0), ("random", 0), ("random", 1), ("random", 2))
SIZES = ((8, 6, 3, 3), (16, 8, 3, 3), (12, 12, 3, 3))
KERNEL = {"o": 64, "i": 64, "h": 3, "w": 3}
TREES: tuple[tuple[str, Format, list[int]], ...] = (
    ("tucker", Tucker(), [32, 3, 3, 32]),
    ("tt", TT(), [32, 48, 32]),
    ("tt", TT(), [32, 96, 32]),
)
ROOT = 3  # of these trees: the core of Tucker, the end of the train
SMALL = {"o": 6, "i": 5, "h": 4, "w": 3}
REPEATS = 50


@dataclass(frozen=True)
class Case:
    """A kernel and the CP network it is fitted by."""

    kind: str
    window: str
    net: TensorNetwork
    weight: Tensor

    def error(self, dense: Tensor) -> float:
        """Relative to the norm."""
        return float(torch.dist(dense.reshape(self.weight.shape), self.weight) / self.weight.norm())


def normal(axes: dict[str, int], seed: int) -> Tensor:
    """Noise of deviation 1."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(axes.values()), generator=draw, dtype=torch.float64)


def cases() -> Iterator[Case]:
    """The 24 kernels."""
    every = product(("joint", "split"), SIZES, (4, 8), ("planted", "noise"))
    for seed, (window, sizes, rank, kind) in enumerate(every):
        axes = dict(zip("oihw", sizes, strict=True))
        net, weight = CP(window=window).network(axes, [rank]), normal(axes, seed)
        if kind == "planted":
            terms = net.weight(
                random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            )
            weight = terms + 0.3 * weight * terms.norm() / weight.norm()
        yield Case(kind, window, net, weight)


def peer(case: Case) -> float:
    """The least error of tensorly's runs."""
    tensor = (case.weight if case.window == "split" else case.weight.flatten(2)).numpy()
    runs = [parafac(tensor, case.net.sizes["r1"], init=init, random_state=seed) for init, seed in INITS]
    return min(case.error(torch.from_numpy(tensorly.cp_to_tensor(run))) for run in runs)


def ours(case: Case, options: dict[str, Any]) -> float:
    """Our error with these options."""
    return case.error(case.net.weight(CP(window=case.window, **options).decompose(case.weight, case.net)))


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """What comes back, and the seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def cp_table() -> str:
    """Errors of every case, then their means and the seconds."""
    found = [
        (case, [timed(partial(peer, case)), *(timed(partial(ours, case, options)) for options in OURS.values())])
        for case in cases()
    ]
    rows = [
        (case.kind, case.window, " x ".join(map(str, case.weight.shape)), str(case.net.sizes["r1"]),
         *(f"{error:.4f}" for error, _ in runs))
        for case, runs in found
    ]  # fmt: skip
    columns = list(zip(*(runs for _, runs in found), strict=True))
    ratios = [[own[0] / theirs[0] for own, theirs in zip(column, columns[0], strict=True)] for column in columns]
    seconds = [f"{sum(spent for _, spent in column):.1f}" for column in columns]
    rows += [
        ("mean over tensorly's", "", "", "", *(f"{geometric_mean(each):.4f}" for each in ratios)),
        ("largest over tensorly's", "", "", "", *(f"{max(each):.4f}" for each in ratios)),
        ("larger by 0.01 % or more", "", "", "", *(str(sum(x > 1.0001 for x in each)) for each in ratios)),
        ("smaller by 0.01 % or more", "", "", "", *(str(sum(x < 0.9999 for x in each)) for each in ratios)),
        ("seconds for all", "", "", "", *seconds),
    ]
    return table(("kernel", "window", "o i h w", "rank", "tensorly", *OURS), rows)


def in_a_process(work: Callable[[], float]) -> tuple[float, float, float]:
    """What comes back, its seconds and the bytes that the process grew by, in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(grown, (work,))


def grown(work: Callable[[], float]) -> tuple[float, float, float]:
    """The same in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error, seconds = timed(work)
    return error, seconds, 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def by_iterations(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor]) -> float:
    """Relative error after one of our sweeps."""
    return relative(tensor, net.dense(orthogonal_iterations(tensor, net, cores, ROOT, sweeps=1)))


def by_normal_equations(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor]) -> float:
    """Relative error after one sweep of alternating least squares."""
    return relative(tensor, net.dense(alternating_least_squares(tensor, net, cores, sweeps=1)[0]))


def by_tensorly(tensor: Tensor, ranks: Sequence[int]) -> float:
    """Relative error after one of tensorly's Tucker sweeps, its truncation included."""
    found = tensorly_tucker(tensor.numpy(), rank=list(ranks), n_iter_max=1)
    return relative(tensor, torch.from_numpy(tensorly.tucker_to_tensor(found)))


def relative(tensor: Tensor, dense: Tensor) -> float:
    """Distance over the norm of the first."""
    return float(torch.dist(dense, tensor) / tensor.norm())


def sweeps_table() -> str:
    """One sweep of every tree, by each route."""
    rows = []
    for name, form, ranks in TREES:
        net = form.network(KERNEL, ranks)
        tensor = net.to_modes(normal(KERNEL, 0))
        start = tree_decomposition(tensor, net, ROOT)
        routes: dict[str, Callable[[], float]] = {
            "orthogonal iterations": partial(by_iterations, tensor, net, start),
            "alternating least squares": partial(by_normal_equations, tensor, net, start),
        }
        if name == "tucker":
            routes["tensorly, truncation included"] = partial(by_tensorly, normal(KERNEL, 0), [32, 32, 3, 3])
        for route, work in routes.items():
            error, seconds, grew = in_a_process(work)
            rows.append(
                (name, " ".join(map(str, ranks)), route, f"{seconds:.3f}", f"{grew / 2**20:.0f}", f"{error:.5f}")
            )
    return table(("format", "ranks", "one sweep", "seconds", "MiB", "relative error"), rows)


def small_table() -> str:
    """What a small fit takes, and how much of it is balancing."""
    rows = []
    for name in ("svd", "tucker", "tt", "ht"):
        form = format_named(name)
        net, weight = form.network(SMALL), normal(SMALL, 0)
        net = net.with_ranks([min(3, rank) for rank in net.ranks])
        cores = form.fit(net.to_modes(weight), net, torch.Generator())
        each = [least_of(partial(form.decompose, weight, net)), least_of(partial(balanced, net, cores))]
        rows.append((name, *(f"{1000 * seconds:.2f}" for seconds in each)))
    return table(("format", "ms a fit", "of which balancing"), rows)


def least_of(work: Callable[[], object]) -> float:
    """The fewest seconds of some runs."""
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def main() -> None:
    torch.set_num_threads(1)
    sweeps = sweeps_table()  # first: memory that the others have freed would hide growth
    text = page(
        "Fits beside tensorly", __doc__, "## CP", cp_table(),
        "## One sweep on a 64 x 64 x 3 x 3 kernel", sweeps,
        "## A 6 x 5 x 4 x 3 kernel at ranks of 3 at most", small_table(),
        f"tensorly {tensorly.__version__}.",
    )  # fmt: skip
    print(text)
    written("fits-peers", text)


if __name__ == "__main__":
    main()
