"""Planted tensor rings and planted shared cores: what comes back, beside tensorly's ring by alternating least squares.

    python benchmarks/rings_peers.py

Twenty rings of normal cores (seeds 0 to 19; 3 modes of 5 to 12 with ranks 2 to 4, or 4 modes of 5 to 8 with ranks 2 or
3), then one of 20 x 18 x 19 with ranks 6, 7, 8, of normal and of uniform cores. Ours is `tr` at its defaults; theirs
is the best of `tensor_ring_als` from its seeds 100 to 103, at its defaults and with 1000 sweeps and no tolerance. The
seeds differ from those of the rings: tensorly starts from `random_tr`, whose seed 0 is the planted ring itself where
that was drawn so. SCADA: three 24 x 24 weights of order 3 with orthonormal factors and one core of 4 x 4 x 4 (seeds 0
to 4); tensorly has no such fit.
"""

import time
from collections.abc import Callable, Sequence

import tensorly
import torch
from tensorly.decomposition import tensor_ring_als
from torch import Tensor

from table import page, table, written
from tenfold.formats import TR, SCADATucker
from tenfold.network import TensorNetwork

FOUND = 1e-5  # relative error
AXES = "oihw"


def drawn_ring(sizes: Sequence[int], ranks: Sequence[int], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """The ring of cores r0 x n1 x r1, r1 x n2 x r2, .. as a dense tensor."""
    turned = [*ranks[1:], ranks[0]]
    cores = [draw((one, size, two)) for one, size, two in zip(ranks, sizes, turned, strict=True)]
    chain = cores[0]
    for core in cores[1:]:
        chain = torch.tensordot(chain, core, dims=1)
    return chain.movedim(-1, 1).diagonal(dim1=0, dim2=1).sum(-1)


def cases() -> list[tuple[str, Tensor, tuple[int, ...]]]:
    """Name, tensor and ranks (closing bond first) of every planted ring."""
    found = []
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        count = int(torch.randint(3, 5, (1,), generator=draw))
        sizes = torch.randint(5, 13 if count == 3 else 9, (count,), generator=draw).tolist()
        ranks = torch.randint(2, 5 if count == 3 else 4, (count,), generator=draw).tolist()
        found.append((f"{seed}", drawn_ring(sizes, ranks, normal(draw)), tuple(ranks)))
    for name, kind in (("normal cores", normal), ("uniform cores", uniform)):
        found.append((name, drawn_ring((20, 18, 19), (6, 7, 8), kind(torch.Generator().manual_seed(20))), (6, 7, 8)))
    return found


def normal(draw: torch.Generator) -> Callable[[tuple[int, ...]], Tensor]:
    """Cores of normal numbers."""
    return lambda shape: torch.randn(shape, generator=draw, dtype=torch.float64)


def uniform(draw: torch.Generator) -> Callable[[tuple[int, ...]], Tensor]:
    """Cores of numbers between 0 and 1."""
    return lambda shape: torch.rand(shape, generator=draw, dtype=torch.float64)


def ours(tensor: Tensor, ranks: Sequence[int]) -> Tensor:
    """`tr` with one core an axis, the axes in the tensor's order around the ring."""
    window = AXES[2 : tensor.ndim]
    axes = dict(zip(("o", "i", *window), tensor.shape, strict=True))
    form = TR(ring=" ".join(("o", "i", *window)))
    net = form.network(axes, ranks)
    return net.weight(form.decompose(tensor, net))


def theirs(tensor: Tensor, ranks: Sequence[int], **effort: float) -> Tensor:
    """The best of four of tensorly's."""
    closed = [*ranks, ranks[0]]
    tries = (tensor_ring_als(tensor, closed, random_state=seed, **effort) for seed in range(100, 104))
    return min((tensorly.tr_to_tensor(each) for each in tries), key=lambda found: torch.dist(found, tensor))


def measured(fit: Callable[[], Tensor], tensor: Tensor) -> tuple[float, float]:
    """Relative error and seconds."""
    start = time.perf_counter()
    found = fit()
    seconds = time.perf_counter() - start
    return float(torch.dist(found, tensor) / tensor.norm()), seconds


def ring_rows() -> list[tuple[str, ...]]:
    """A row a ring, and how many of the first twenty each solver finds."""
    rows, errors = [], []
    for name, tensor, ranks in cases():
        each = [
            measured(lambda t=tensor, r=ranks: ours(t, r), tensor),
            measured(lambda t=tensor, r=ranks: theirs(t, r), tensor),
            measured(lambda t=tensor, r=ranks: theirs(t, r, n_iter_max=1000, tol=1e-14), tensor),
        ]
        errors.append([error for error, _ in each])
        cells = (f"{error:.1e} ({seconds:.1f})" for error, seconds in each)
        rows.append((name, " x ".join(map(str, tensor.shape)), " ".join(map(str, ranks)), *cells))
    counts = (f"{sum(row[k] < FOUND for row in errors[:20])} of 20" for k in range(3))
    return [*rows, ("found, of the first 20", "", "", *counts)]


def shared_rows() -> list[tuple[str, str, str]]:
    """A row a group of three weights: the largest of their errors."""
    rows = []
    for seed in range(5):
        nets, weights = shared(seed)
        start = time.perf_counter()
        draw = torch.Generator().manual_seed(0)
        found = SCADATucker(order=3).decompose_group(weights, nets, [None] * 3, generator=draw)
        seconds = time.perf_counter() - start
        each = [net.weight(cores) for net, cores in zip(nets, found, strict=True)]
        error = max(float(torch.dist(a, b) / b.norm()) for a, b in zip(each, weights, strict=True))
        rows.append((str(seed), f"{error:.1e}", f"{seconds:.1f}"))
    return rows


def shared(seed: int) -> tuple[list[TensorNetwork], list[Tensor]]:
    """Three weights with orthonormal factors and one core."""
    draw = torch.Generator().manual_seed(seed)
    net = SCADATucker(order=3).network({"o": 24, "i": 24}).with_ranks([4, 4, 4])
    core = torch.randn(4, 4, 4, generator=draw, dtype=torch.float64)
    weights = []
    for _ in range(3):
        random = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in net.shapes[:3]]
        weights.append(net.weight([*(torch.linalg.qr(factor).Q for factor in random), core]))
    return [net] * 3, weights


def main() -> None:
    tensorly.set_backend("pytorch")
    head = ("ring", "sizes", "ranks", "tenfold", f"tensorly {tensorly.__version__}", "tensorly, 1000 sweeps")
    note = f"Relative error, and seconds in brackets; {torch.get_num_threads()} thread(s)."
    cores = table(("seed", "largest relative error", "seconds"), shared_rows())
    text = page("Planted rings and shared cores", __doc__, table(head, ring_rows()), note, "## SCADA-Tucker", cores)
    print(text)
    written("rings-peers", text)


if __name__ == "__main__":
    main()
