"""What it costs in eval mode to see every change of the cores: microseconds of a layer, by ways to keep its stages.

`python benchmarks/kept_stages.py` prints a table. "compared" is what `FactoredWeight` does: the stage tensors are kept
beside copies of the cores, and built anew where a core differs from its copy. "address" (and version) does not see
what is written through `.data` or NumPy.
"""

import timeit
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tenfold.formats import SVD, TT, Format
from tenfold.layers import FactoredWeight, kind_of
from tenfold.network import random_cores

CASES: list[tuple[str, nn.Module, Format, tuple[int, ...], list[tuple[int, ...]], tuple[int, ...]]] = [
    ("linear 512, svd 64, chain, 1 row", nn.Linear(512, 512), SVD(), (64,), [(0,), (1,)], (1, 512)),
    ("linear 512, svd 64, chain, 64 rows", nn.Linear(512, 512), SVD(), (64,), [(0,), (1,)], (64, 512)),
    ("linear 512, svd 64, rebuilt, 1 row", nn.Linear(512, 512), SVD(), (64,), [(0, 1)], (1, 512)),
    ("linear 2048, svd 256, chain, 1 row", nn.Linear(2048, 2048), SVD(), (256,), [(0,), (1,)], (1, 2048)),
    ("linear 2048, svd 256, rebuilt, 1 row", nn.Linear(2048, 2048), SVD(), (256,), [(0, 1)], (1, 2048)),
    ("conv 64 3x3, tt, 4 stages, 32x32", nn.Conv2d(64, 64, 3), TT(), (16, 16, 16), [(0,), (1,), (2,), (3,)],
     (1, 64, 32, 32)),
    ("conv 64 3x3, tt, 2 stages, 32x32", nn.Conv2d(64, 64, 3), TT(), (16, 16, 16), [(0, 1), (2, 3)], (1, 64, 32, 32)),
]  # fmt: skip


def versions(weight: FactoredWeight) -> Callable[[], list[Tensor]]:
    """Stages kept until an address or a version changes."""
    kept: tuple[tuple[object, ...], list[Tensor]] | None = None

    def stages() -> list[Tensor]:
        nonlocal kept
        key = tuple(x for core in weight.cores for x in (core.data_ptr(), core._version, core.dtype, core.device))
        if kept is None or kept[0] != key:
            kept = key, weight.stages.tensors(list(weight.cores), weight.builds)
        return kept[1]

    return stages


def built(weight: FactoredWeight) -> Callable[[], list[Tensor]]:
    """Stages built at every call."""
    return lambda: weight.stages.tensors(list(weight.cores), weight.builds)


def main() -> None:
    """Print the table."""
    print(f"{'microseconds of one call':38} {'address':>9} {'compared':>9} {'built':>9} {'lowered, all':>13}")
    for name, module, form, ranks, partition, shape in CASES:
        kind = kind_of(module)
        assert kind is not None
        net = form.network(kind.axes(module)["weight"], ranks)
        cores = random_cores(net, 0.1, generator=torch.Generator().manual_seed(0))
        weight = FactoredWeight(net, cores, partition)
        plain, x = kind.from_dense(module, {"weight": weight}).eval().lower(), torch.ones(shape)
        calls = [versions(weight), weight, built(weight), lambda plain=plain, x=x: plain(x)]
        with torch.no_grad():
            spent = [min(timeit.repeat(call, number=20, repeat=30)) / 20 * 1e6 for call in calls]
        print(f"{name:38} " + " ".join(f"{each:9.1f}" for each in spent))


if __name__ == "__main__":
    main()
