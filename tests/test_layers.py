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
from tenfold.layers import FactoredWeight, Layer
from tenfold.network import TensorNetwork

seeds = st.integers(0, 2**16)


def made(
    module: nn.Module, given_format: Format, stages: Sequence[Sequence[int]] = (), ranks: Sequence[int] | None = None
) -> Layer:
    """The layer of a module in a format, at full rank unless ranks are given; one stage a core unless stages are."""
    kind = layers.kind_of(module)
    assert kind is not None
    net = given_format.network(kind.axes(module)["weight"], ranks)
    cores = given_format.decompose(kind.dense_weight(module, "weight"), net)
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
