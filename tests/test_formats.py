"""One suite for every format: exact at full rank, true to planted ranks, and a sentence for every mistake."""

import itertools
import math
from collections.abc import Mapping

import pytest
import tensorly
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.decomposition import parafac, tensor_train
from tensorly.decomposition import tucker as tensorly_tucker
from torch import Tensor

from tenfold import formats
from tenfold.fitting import Metric, energies, tail
from tenfold.fitting.spectra import unfolded
from tenfold.formats import BUILT_IN, CP, HT2, SVD, TT, Format, Tucker, Tucker2, format_named
from tenfold.formats.base import options_of
from tenfold.network import TensorNetwork
from tenfold.protocols import TenfoldError

seeds = st.integers(0, 2**16)


def normal(axes: Mapping[str, int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(axes.values()), generator=draw, dtype=torch.float64).to(dtype)


def relative(net: TensorNetwork, cores: list[Tensor], weight: Tensor) -> float:
    return float(torch.dist(net.weight([core.double() for core in cores]), weight.double()) / weight.double().norm())


# ---- mistakes
MATRIX, KERNEL, GROUPED = {"o": 6, "i": 5}, {"o": 6, "i": 5, "h": 4, "w": 3}, {"g": 2, "o": 6, "i": 5, "h": 3, "w": 3}


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "tucker"])
def test_modes_that_cross_axes_get_a_sentence(name: str) -> None:
    with pytest.raises(TenfoldError, match="modes of 'o i' cross the borders of axes"):
        format_named(name).network(MATRIX, None, {"o i": (5, 6)})


@pytest.mark.parametrize("name", BUILT_IN)
def test_modes_of_the_groups_get_a_sentence(name: str) -> None:
    with pytest.raises(TenfoldError, match=r"axis 'g' \(the groups\) is not split"):
        format_named(name).network(GROUPED, None, {"g": (2, 1)})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("svd", {"first": 3}, "option 'first' of format 'svd' takes text or nothing, not 3."),
        ("svd", {"frist": "i"}, "format 'svd' has no option 'frist'; did you mean 'first'?"),
        ("tt", {"order": "two"}, "option 'order' of format 'tt' takes a whole number or nothing, not 'two'."),
        ("tt", {"order": True}, "option 'order' of format 'tt' takes a whole number or nothing, not True."),
        ("tt", {"order": 0}, "no order 0; axes are split into 1 mode or more."),
        ("tt", {"layout": "pair"}, "tt has no layout 'pair'; did you mean 'pairs'?"),
        ("cp", {"window": "splitt"}, "cp has no window 'splitt'; use 'joint' or 'split'."),
        ("cp", {"starts": 0}, "cp needs 1 start and 1 sweep or more, not 0 and 100."),
        ("tuker", {}, "no format is called 'tuker'; did you mean 'tucker' or 'tucker2'?"),
    ],
)
def test_wrong_options_get_a_sentence(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        format_named(name, **options)
    assert str(caught.value) == words


@pytest.mark.parametrize("first", ["o", "h w", "i i", "i x", "", "i h w o"])
def test_a_first_core_that_cannot_be_gets_a_sentence(first: str) -> None:
    with pytest.raises(TenfoldError, match="SVD's first core cannot hold"):
        SVD(first).network(KERNEL)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_window_axis_in_modes_is_applied_in_one_stage(name: str) -> None:
    net = format_named(name).network(KERNEL, None, {"h": (2, 2)})
    assert [len(partition) for partition in net.partitions()] == [1]
    with pytest.raises(TenfoldError, match="split a window are applied in one stage"):
        net.stages([(k,) for k in range(len(net.cores))])


# ---- corners
@pytest.mark.parametrize("name", BUILT_IN)
def test_one_core_is_the_weight(name: str) -> None:
    net = format_named(name).network(MATRIX, [None] * len(format_named(name).network(MATRIX).bonds))
    assert len(net.cores) == 1
    weight = normal(MATRIX)
    assert torch.equal(net.weight(format_named(name).decompose(weight, net)), weight)


@pytest.mark.parametrize(("window", "rank"), [("joint", 6), ("split", 30)])
def test_the_largest_factor_bounds_the_rank_of_cp(window: str, rank: int) -> None:
    assert CP(window=window).network({"o": 3, "i": 2, "h": 5, "w": 5}).ranks == (rank,)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_zero_weight_can_still_be_trained(name: str) -> None:
    net = format_named(name).network(KERNEL)
    cores = [core.requires_grad_() for core in format_named(name).decompose(torch.zeros(6, 5, 4, 3), net)]
    weight = net.weight(cores)
    assert not weight.any()
    (weight - 1).square().sum().backward()
    assert any(core.grad.any() for core in cores)
