"""What it costs in eval mode to see every change of the cores: ways to keep the stage tensors of a layer, in one run.

    python benchmarks/kept_stages.py

`FactoredWeight` keeps them beside copies of the cores, and builds them anew where a core differs from its copy
("compared"). "address" keeps them until an address or a version changes, and so does not see what is written through
`.data` or NumPy; "built" keeps nothing. On a CPU, float32, without gradients.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from table import printed
from tenfold.formats import SVD, TT, Format
from tenfold.layers import FactoredWeight, kind_of
from tenfold.measure.timing import Timing, paired, ratio
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


HEAD = (
    "layer", "cores, kB", "address, µs", "compared, µs", "built, µs", "lowered layer, µs", "compared / layer",
    "built / compared",
)  # fmt: skip
NOTE = """\
Medians over {rounds} rounds in which all four ran in turn, one thread, torch {version}. Ratios are taken round by
round: median ± the distance between the quartiles."""
ROUNDS = 400


def times_as_long(one: Timing, other: Timing) -> str:
    """How many times as long the one takes: median and spread."""
    found = ratio(one, other)
    return f"{found.median:.2f} ± {found.spread:.2f}"


def measured(
    name: str, module: nn.Module, form: Format, ranks: tuple[int, ...], partition: list[tuple[int, ...]],
    shape: tuple[int, ...],
) -> tuple[str, ...]:  # fmt: skip
    """A row of the table."""
    kind = kind_of(module)
    assert kind is not None
    net = form.network(kind.axes(module)["weight"], ranks)
    cores = random_cores(net, 0.1, generator=torch.Generator().manual_seed(0))
    weight = FactoredWeight(net, cores, partition)
    plain, x = kind.from_dense(module, {"weight": weight}).eval().lower(), torch.ones(shape)
    ways = {"address": versions(weight), "compared": weight, "built": built(weight), "layer": lambda: plain(x)}
    with torch.no_grad():
        found = paired(ways, repeats=ROUNDS)
    size = sum(core.nbytes for core in cores) / 1e3
    microseconds = (f"{1e6 * each.median:,.0f}" for each in found.values())
    over_layer = times_as_long(found["compared"], found["layer"])
    return name, f"{size:,.0f}", *microseconds, over_layer, times_as_long(found["built"], found["compared"])


def main() -> None:
    """Print the table, and keep it as a page."""
    torch.set_num_threads(1)
    note = NOTE.format(rounds=ROUNDS, version=torch.__version__)
    printed("kept-stages", "Stage tensors kept", HEAD, [measured(*case) for case in CASES], note, __doc__)


if __name__ == "__main__":
    main()
