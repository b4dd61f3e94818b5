"""CP of a 256 x 256 x 3 x 3 kernel at 25 % of its parameters, beside tensorly's `parafac`, in one run.

    python benchmarks/cp_parafac.py

The kernel is a sum of 64 random rank-one terms whose weights fall as 1/k, plus noise of a tenth of its norm, so that
there is something to find and something to leave. Both work in float64 on the same tensor with the same rank.
"""

import time

import tensorly
import torch
from tensorly.decomposition import parafac

from table import printed
from tenfold.formats import CP

SIZES = {"o": 256, "i": 256, "h": 3, "w": 3}


def kernel() -> torch.Tensor:
    """The kernel, from seed 0."""
    draw = torch.Generator().manual_seed(0)
    factors = [torch.randn(size, 64, generator=draw, dtype=torch.float64) for size in SIZES.values()]
    weight = torch.einsum("or,ir,hr,wr,r->oihw", *factors, 1 / torch.arange(1, 65, dtype=torch.float64))
    noise = torch.randn(weight.shape, generator=draw, dtype=torch.float64)
    return weight + 0.1 * noise * weight.norm() / noise.norm()


def main() -> None:
    weight = kernel()
    rank = weight.numel() // 4 // sum(SIZES.values())
    rows = []
    for label, form in (("tenfold, 4 factors", CP(window="split")), ("tenfold, 3 factors (kh x kw joint)", CP())):
        net = form.network(SIZES, [rank])
        start = time.perf_counter()
        found = net.weight(form.decompose(weight, net))
        seconds = time.perf_counter() - start
        error = float((found - weight).norm() / weight.norm())
        rows.append((label, str(rank), f"{net.params / weight.numel():.1%}", f"{seconds:.1f}", f"{error:.4f}"))
    tensorly.set_backend("pytorch")
    start = time.perf_counter()
    found = tensorly.cp_to_tensor(parafac(weight, rank))
    seconds = time.perf_counter() - start
    error = float((found - weight).norm() / weight.norm())
    share = rank * sum(SIZES.values()) / weight.numel()
    rows.append(
        (
            f"tensorly {tensorly.__version__} parafac, its defaults",
            str(rank),
            f"{share:.1%}",
            f"{seconds:.1f}",
            f"{error:.4f}",
        )
    )
    head = ("solver", "rank", "parameters kept", "seconds", "relative error")
    printed(
        "cp-parafac", "CP of a 256 x 256 x 3 x 3 kernel", head, rows, f"{torch.get_num_threads()} threads.", __doc__
    )


if __name__ == "__main__":
    main()
