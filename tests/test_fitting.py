"""Numbers on cores: exact where closed, bounded where truncated, never worse where iterated."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold import formats
from tenfold.fitting import (
    Metric, alternating_least_squares, balanced, energies, leading_vectors, tail, tree_decomposition,
)  # fmt: skip
from tenfold.fitting.spectra import unfolded
from tenfold.network import Fold, TensorNetwork
from tenfold.protocols import TenfoldError

seeds = st.integers(0, 2**16)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def ring(sizes: tuple[int, ...], rank: int) -> TensorNetwork:
    """A tensor ring with one mode a core."""
    count, names = len(sizes), tuple(f"n{k}" for k in range(len(sizes)))
    cores = tuple((f"b{k}", names[k], f"b{(k + 1) % count}") for k in range(count))
    axes = dict(zip(names, sizes, strict=True))
    bonds = {f"b{k}": rank for k in range(count)}
    return TensorNetwork(cores, {**axes, **bonds}, axes, tuple(Fold((n,), (n,)) for n in names))


def relative(net: TensorNetwork, cores: list[Tensor], tensor: Tensor) -> float:
    return float(torch.dist(net.dense(cores), tensor) / tensor.norm())


# ---- alternating least squares
def test_sweeps_go_on_while_the_error_falls() -> None:
    net = formats.CP().network({"o": 6, "i": 5, "h": 3}, (3,))
    tensor = net.dense(net.draw(1.0, generator=generator(1), dtype=torch.float64))
    start = net.draw(1.0, generator=generator(2), dtype=torch.float64)
    _, once = alternating_least_squares(tensor, net, start, sweeps=1)
    _, often = alternating_least_squares(tensor, net, start, sweeps=50)
    assert often < 0.1 * once
