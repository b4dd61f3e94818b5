"""The papers' counts, from the zoo's modules and our formats' networks; ranks are not capped, biases not counted."""

import math
from collections.abc import Callable
from functools import cache, partial

import pytest
from torch import nn

from tenfold.formats import HT, HT2, STR, STT, TR, TT, ADATucker
from tenfold.models import zoo_model
from tenfold.network import Stages, TensorNetwork

FACTORS = {
    3: (3,), 10: (10,), 16: (4, 2, 2), 32: (4, 4, 2), 64: (4, 4, 4), 160: (4, 5, 8), 320: (5, 8, 8), 640: (8, 8, 10),
}  # fmt: skip
Axes = dict[str, int]


@cache
def counted(name: str) -> tuple[tuple[Axes, ...], int]:
    """Axes of every weight of a zoo network, and the parameters of its batch norms."""
    model = zoo_model(name).build()
    weights = [p.shape for p in model.parameters() if p.ndim > 1]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    count = sum(p.numel() for module in norms for p in module.parameters())
    return tuple(dict(zip("oihw", shape, strict=False)) for shape in weights), count


def bare(axes: Axes) -> Axes:
    """Axes of length 1 left out: a 1 x 1 kernel as a matrix."""
    return {axis: size for axis, size in axes.items() if size > 1}


def window(axes: Axes) -> int:
    return math.prod(size for axis, size in axes.items() if axis in "hw")


def digits(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Slow and fast digit of every mode: 2 where the mode is even."""
    return [(n // 2, 2) if n % 2 == 0 else (n, 1) for n in sizes]


def flat(pairs: list[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(x for pair in pairs for x in pair)


def train(axes: Axes) -> TensorNetwork:
    """i1 i2 i3 (h w) o1 o2 o3 at rank 14."""
    modes = {axis: FACTORS[axes[axis]] for axis in ("i", "o")}
    net = TT(layout="split").network(axes, None, modes)
    return net.with_ranks([14] * len(net.bonds))


def semi_train(axes: Axes) -> TensorNetwork:
    """The same with t = 2; the bond into the window is whole."""
    i, o = (digits(FACTORS[axes[axis]]) for axis in ("i", "o"))
    i[0] = (math.prod(i[0]), 1)
    fast = [*(t for _, t in i[1:]), 1, *(t for _, t in o)]
    return STT(layout="split").network(axes, [14 // t for t in fast], {"i": flat(i), "o": flat(o)})


def padded_semi_train(axes: Axes) -> TensorNetwork:
    """The same with the nine positions of the window padded to 5 x 2, as the last mode of the input side."""
    i, o = (digits(FACTORS[axes[axis]]) for axis in ("i", "o"))
    i = [(math.prod(i[0]), 1), *i[1:], (5, 2)]
    matrix = {"o": axes["o"], "i": axes["i"] * window(axes)}
    ranks = [14 // t for _, t in (*i[1:], *o)]
    return STT(layout="split").network(matrix, ranks, {"i": flat(i), "o": flat(o)})


def ring(axes: Axes, rank: int) -> TensorNetwork:
    """TR-Nets' ring."""
    net = TR().network(axes, None, {axis: FACTORS[axes[axis]] for axis in ("i", "o")})
    return net.with_ranks([rank] * len(net.bonds))


def semi_ring(axes: Axes, whole_exit: bool) -> TensorNetwork:
    """The semi-tensor ring of rank 16, t = 2; `whole_exit`: the bond that leaves the window is not split."""
    i, o = (digits(FACTORS[axes[axis]]) for axis in ("i", "o"))
    if whole_exit and "h" in axes:
        o[0] = (math.prod(o[0]), 1)
    net = STR().network(axes, None, {"i": flat(i), "o": flat(o)})
    fast = [*(t for _, t in i), *([1] if "h" in axes else []), *(t for _, t in o)]  # bond k leads into core k
    return net.with_ranks([16 // fast[int(bond[1:])] for bond in net.bonds])


def ratio(name: str, network: Callable[[Axes], TensorNetwork], *, norms: bool = False, linear: bool = True) -> float:
    """Dense parameters over those of networks; the linear layer dense on request, batch norms counted on request."""
    weights, bn = counted(name)
    dense, kept = (
        sum(math.prod(axes.values()) for axes in which) for which in (weights, [] if linear else weights[-1:])
    )
    small = sum(network(bare(axes)).params for axes in (weights if linear else weights[:-1]))
    return (dense + norms * bn) / (small + kept + norms * bn)


# ---- semi-tensor formats (PAPERS 3): abstract 3x -> 9x at rank 14, 99x -> 179x at rank 16
@pytest.mark.parametrize(
    ("network", "wanted"),
    [(train, (3.2, 3.3, 3.5)), (semi_train, (5.7, 6.0, 6.2)), (padded_semi_train, (11.7, 12.4, 12.8))],
)
def test_trains_on_cifar_resnets(network: Callable[[Axes], TensorNetwork], wanted: tuple[float, ...]) -> None:
    for name, ours in zip(("resnet20", "resnet32", "resnet56"), wanted, strict=True):
        assert abs(ratio(name, network, linear=False) - ours) < 0.1


@pytest.mark.parametrize(
    ("network", "without", "with_norms"),
    [
        (partial(ring, rank=16), 103, 98),
        (partial(ring, rank=10), 263, 233),  # TR-Nets publishes 243
        (partial(semi_ring, whole_exit=False), 218, 197),
        (partial(semi_ring, whole_exit=True), 196, 179),
    ],
)
def test_rings_on_a_wide_resnet(network: Callable[[Axes], TensorNetwork], without: int, with_norms: int) -> None:
    assert round(ratio("wrn28-10", network)) == without
    assert round(ratio("wrn28-10", network, norms=True)) == with_norms


# ---- HT-2 (METHODS D.1)
@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_ht2_counts_what_the_paper_does_on_every_kernel(name: str) -> None:
    kernels = [axes for axes in counted(name)[0] if window(axes) > 1]
    assert len(kernels) > 15
    for axes in kernels:
        o, i, h, w = axes.values()
        r1, r13, r3 = max(1, i // 2), max(1, min(i, o) // 3), o // 2
        net = HT2().network(axes, [r1, r13, r3])
        assert net.params == i * r1 + r1 * h * r13 + r13 * w * r3 + r3 * o
        stages = Stages.of(net, [(k,) for k in range(4)])
        rows, columns, new_rows, new_columns = 32, 28, 16, 14
        macs = rows * columns * i * r1 + new_rows * columns * r1 * h * r13
        macs += new_rows * new_columns * (r13 * w * r3 + r3 * o)
        assert stages.macs({"h": (rows, new_rows), "w": (columns, new_columns)}) == macs


# ---- hybrid decomposition and ADA-Tucker (METHODS A.2, B.2)
def test_a_long_input_takes_half_the_numbers_in_ht() -> None:
    axes, modes = {"o": 1024, "i": 57600}, {"i": (8, 20, 20, 18), "o": (16, 4, 4, 4)}
    assert (TT().network(axes, [4] * 3, modes).params, HT().network(axes, [4] * 6, modes).params) == (3360, 1584)


@pytest.mark.parametrize(
    ("name", "at", "order", "rank", "params"),
    [
        ("lenet300", 0, 3, 5, 1055), ("lenet300", 0, 4, 4, 612), ("lenet5", 2, 3, 8, 2280), ("lenet5", 2, 4, 5, 1128),
    ],
)  # fmt: skip
def test_ada_tucker_of_the_first_linear_layer(name: str, at: int, order: int, rank: int, params: int) -> None:
    axes = counted(name)[0][at]
    net = ADATucker(order=order, align=False).network(axes).with_ranks([rank] * order)
    assert abs(net.params - params) <= params * 0.01
