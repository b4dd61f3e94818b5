"""Layers: whatever the format, the partition and the geometry, a full-rank layer is its dense twin."""

import copy
import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tenfold import formats, layers
from tenfold.formats import Format
from tenfold.formats.base import Modes
from tenfold.layers import FactoredWeight, Layer
from tenfold.network import TensorNetwork

seeds = st.integers(0, 2**16)


def made(
    module: nn.Module, form: Format, stages: Sequence[Sequence[int]] = (), modes: Modes | None = None
) -> Layer:
    """The layer of a module in a format at full rank; one stage a core unless stages are given."""
    kind = layers.kind_of(module)
    assert kind is not None
    net = form.network(kind.axes(module)["weight"], modes=modes)
    cores = form.decompose(kind.dense_weight(module, "weight"), net)
    partition = stages or [(k,) for k in range(len(net.cores))]
    return kind.from_dense(module, {"weight": FactoredWeight(net, cores, partition)})


# ---- stage tensors that are kept
def test_what_autocast_kept_is_not_used_without_it() -> None:
    layer = made(nn.Conv2d(6, 8, 3), formats.TT(), [(0, 1), (2, 3)]).eval()
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_a_core_at_the_address_of_an_old_one_is_not_taken_for_it() -> None:
    layer = made(nn.Linear(64, 64), formats.SVD(), [(0, 1)]).eval()
    x = torch.randn(2, 64)
    with torch.no_grad():
        for _ in range(20):
            layer(x)
            for _ in range(2):
                for core in layer.weight.cores[:1]:
                    core.data = torch.randn(core.shape)
            assert torch.equal(layer(x), copy.deepcopy(layer)(x))


# ---- inputs at the border
@pytest.mark.parametrize(
    ("module", "form", "modes", "shape"),
    [
        (nn.Linear(7, 11), formats.CP(), {"i": (2, 4)}, (0, 7)),
        (nn.Linear(7, 11), formats.TT(order=2), None, (3, 0, 7)),
        (nn.Conv2d(7, 11, 3), formats.TT(layout="split", order=2), None, (0, 7, 5, 5)),
        (nn.Conv2d(14, 22, 3, groups=2), formats.TT(layout="pairs", order=2), None, (0, 14, 5, 5)),
        (nn.Conv2d(7, 11, 3), formats.CP(), {"i": (2, 4)}, (0, 7, 5, 5)),
    ],
)
def test_an_empty_batch_passes(module: nn.Module, form: Format, modes: Modes | None, shape: tuple[int, ...]) -> None:
    layer, x = made(module, form, modes=modes), torch.zeros(shape)
    assert layer(x).shape == layer.lower()(x).shape == module(x).shape
