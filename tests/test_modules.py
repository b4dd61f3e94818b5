"""Modules with their weights in cores from the start: torch's arguments, torch's functions, torch's random state."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tenfold
from tenfold.formats import BUILT_IN, TT
from tenfold.layers import Layer
from tenfold.protocols import TenfoldError

KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], tuple[int, ...], dict[str, Any], Tensor]] = {
    "linear": (tenfold.Linear, nn.Linear, (40, 30), {"bias": False}, torch.randn(2, 3, 40)),
    "conv1d": (tenfold.Conv1d, nn.Conv1d, (12, 16, 5), {"stride": 2}, torch.randn(2, 12, 9)),
    "conv2d": (tenfold.Conv2d, nn.Conv2d, (12, 16, 3), {"padding": 1, "groups": 2}, torch.randn(2, 12, 7, 7)),
    "conv3d": (tenfold.Conv3d, nn.Conv3d, (8, 8, 3), {"dilation": 2}, torch.randn(1, 8, 6, 6, 6)),
    "transposed": (tenfold.ConvTranspose2d, nn.ConvTranspose2d, (12, 16, 3), {"stride": 2}, torch.randn(2, 12, 4, 4)),
}


@pytest.mark.parametrize("init", ["dense", "cores"])
@pytest.mark.parametrize("format", BUILT_IN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_is_torchs_with_the_rebuilt_weight(kind: str, format: str, init: str) -> None:
    ours, theirs, sizes, named, x = KINDS[kind]
    torch.manual_seed(0)
    layer = ours(*sizes, **named, format=format, ranks=3, init=init, dtype=torch.float64)
    torch.manual_seed(0)
    dense = theirs(*sizes, **named, dtype=torch.float64)
    assert isinstance(layer, Layer)
    weight, exact = layer.weight.in_axes().detach(), init == "dense"  # else torch's weight was never drawn
    wanted = dense.weight.detach().square().mean().sqrt()
    assert math.isclose(weight.square().mean().sqrt(), wanted, rel_tol=1e-6 if exact else 0.1)
    dense.weight.data.copy_(weight.reshape(dense.weight.shape))
    if dense.bias is not None:
        assert torch.equal(layer.bias, dense.bias) or not exact
        assert layer.bias.std() < 2 * dense.bias.std()
        dense.bias.data.copy_(layer.bias)
    torch.testing.assert_close(layer(x.double()), dense(x.double()))


@pytest.mark.parametrize("format", [name for name in BUILT_IN if name not in ("btd", "tr", "str")])
@pytest.mark.parametrize("ratio", [2, 5])
def test_params_are_the_largest_ranks_within(format: str, ratio: int) -> None:
    layer = tenfold.Linear(96, 64, bias=False, format=format, params=f"{ratio}x", init="cores")
    count = sum(core.numel() for core in layer.parameters())
    assert count <= 96 * 64 / ratio
    ranks = layer.weight.net.ranks
    larger = tenfold.Linear(96, 64, bias=False, format=format, ranks=max(ranks) + 1, init="cores")
    assert sum(core.numel() for core in larger.parameters()) > 96 * 64 / ratio


LARGE: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], tuple[int, ...]]] = {
    "embedding": (tenfold.Embedding, nn.Embedding, (400, 24)),
    "bag": (tenfold.EmbeddingBag, nn.EmbeddingBag, (400, 24)),
    "lstm": (tenfold.LSTM, nn.LSTM, (30, 40)),
    "gru": (tenfold.GRU, nn.GRU, (30, 40)),
    "rnn": (tenfold.RNN, nn.RNN, (30, 40)),
}


@pytest.mark.parametrize("init", ["dense", "cores"])
@pytest.mark.parametrize("kind", LARGE)
def test_every_weight_of_a_module_is_in_cores_at_torchs_deviation(kind: str, init: str) -> None:
    ours, theirs, sizes = LARGE[kind]
    torch.manual_seed(0)
    layer, dense = ours(*sizes, format="tt", ranks=4, init=init), theirs(*sizes)
    assert isinstance(layer, Layer)
    assert not any(part.is_meta for part in (*layer.parameters(), *layer.buffers()))
    for name in layer.sizes:
        weight, wanted = layer.held(name).in_axes().detach(), getattr(dense, name).detach()
        assert math.isclose(weight.square().mean().sqrt(), wanted.square().mean().sqrt(), rel_tol=0.1)
    for name, bias in dense.named_parameters():
        if name.startswith("bias"):
            assert 0.5 < getattr(layer, name).std() / bias.std() < 2


def test_a_table_too_large_to_build() -> None:
    table = tenfold.Embedding(200_000_000, 512, format="tt", ranks=4, init="cores", padding_idx=0)
    rows = table(torch.tensor([0, 5, 199_999_999]))
    assert not rows[0].any()
    assert rows[1:].std() > 0.05
    with pytest.raises(IndexError):
        table(torch.tensor([200_000_000]))
    model = nn.Sequential(nn.Linear(8, 8, device="meta"))
    with pytest.raises(TenfoldError, match="use init='cores'"):
        tenfold.fresh(model, tenfold.Plan({"0": tenfold.Row("0", "svd", ranks=(2,))}))


def test_modes_options_and_ranks_for_each_bond() -> None:
    layer = tenfold.Linear(784, 300, format=TT(order=2), ranks=[5], modes={"i": (28, 28), "o": (15, 20)}, bias=False)
    assert sorted(core.numel() for core in layer.parameters()) == [28 * 15 * 5, 28 * 20 * 5]


def test_torchs_random_state_or_a_generator_draws() -> None:
    torch.manual_seed(3)
    first, second = (tenfold.Linear(8, 8, ranks=2).weight.in_axes() for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(tenfold.Linear(8, 8, ranks=2).weight.in_axes(), first)
    assert not torch.allclose(first, second)
    given = [
        tenfold.Linear(8, 8, ranks=2, generator=torch.Generator().manual_seed(7)).weight.in_axes() for _ in range(2)
    ]
    torch.testing.assert_close(given[0] / given[0].norm(), given[1] / given[1].norm())


def test_a_network_of_them_trains_and_is_lowered() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(tenfold.Linear(16, 32, format="ht", ranks=4), nn.ReLU(), tenfold.Linear(32, 4, params="2x"))
    x, y = torch.randn(32, 16), torch.randint(4, (32,))
    steps = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        steps.zero_grad()
        loss = functional.cross_entropy(net(x), y)
        loss.backward()
        steps.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    torch.testing.assert_close(tenfold.lower(net.eval())(x), net(x))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({}, "ranks=8 or params='10x', one of the two"),
        ({"ranks": 3, "params": "4x"}, "one of the two"),
        ({"ranks": 3, "format": "svdd"}, "no format is called 'svdd'; did you mean 'svd'"),
        ({"ranks": [3, 4]}, "2 ranks given, 1 wanted"),
        ({"ranks": 0}, "ranks 0 are no whole numbers from 1"),
        ({"params": "400x"}, "svd at rank 1 has 70 of 1200 numbers; params=400x is too few"),
        ({"params": "0.5x"}, "would not shrink"),
        ({"ranks": 3, "init": "corse"}, "no init is called 'corse'"),
        ({"ranks": 3, "modes": {"i": (2, 2)}}, "modes 2 x 2 of axis 'i' make 4, not 40"),
    ],
)
def test_mistakes_get_a_sentence(named: dict[str, Any], words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        tenfold.Linear(40, 30, **named)
    assert words in str(caught.value)
