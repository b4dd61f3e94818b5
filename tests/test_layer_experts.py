"""Experts in parameters of three dimensions: in any format, whatever the code that reads them, as the dense module."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from tenfold.formats import format_named
from tenfold.layers import Experts, kind_of
from tenfold.measure import macs
from tenfold.surgery import Plan, Row, sites, untaken

FORMATS = ("svd", "tucker", "tt", "ht", "cp", "btd")


class OneByOne(nn.Module):
    """Experts as code goes through them: one after the other, each on the rows that were routed to it."""

    def __init__(self, count: int, width: int, inner: int) -> None:
        super().__init__()
        self.num_experts, self.act = count, nn.SiLU()
        self.up = nn.Parameter(torch.randn(count, inner, width) / 4)
        self.down = nn.Parameter(torch.randn(count, width, inner) / 4)
        self.bias = nn.Parameter(torch.randn(count, inner))

    def inner(self, x: Tensor, expert: int) -> Tensor:
        return self.act(nn.functional.linear(x, self.up[expert], self.bias[expert]))

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        for expert in range(self.num_experts):
            row, _ = torch.where(chosen == expert)
            result = result.index_add(0, row, self.inner(x[row], expert) @ self.down[expert].T)
        return result


class AllAtOnce(OneByOne):
    """The same mathematics in two batched products."""

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        ones = torch.ones_like(chosen, dtype=x.dtype)
        gates = torch.zeros(len(x), self.num_experts, dtype=x.dtype).scatter_add(1, chosen, ones)
        inner = self.act(torch.einsum("nd,eid->eni", x, self.up) + self.bias[:, None])
        return torch.einsum("eni,edi,ne->nd", inner, self.down, gates)


class Routed(nn.Module):
    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(8, 4, bias=False), experts

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        return self.experts(rows, self.router(rows).topk(2).indices).reshape(x.shape)


def planned(model: nn.Module, name: str, *, full: bool) -> Plan:
    rows = {}
    for site in ("experts.up", "experts.down"):
        net = format_named(name).network(sites(model)[site].axes)
        given = format_named(name).default_modes(sites(model)[site].axes)
        modes = {axis: tuple(sizes) for axis, sizes in given.items()}
        rows[site] = Row(site, name, modes=modes, ranks=net.ranks if full else tuple(min(r, 2) for r in net.ranks))
    return Plan(rows)


@pytest.mark.parametrize("kind", [OneByOne, AllAtOnce])
@pytest.mark.parametrize("name", FORMATS)
def test_experts_in_cores_are_the_dense_ones(kind: Any, name: str) -> None:
    torch.manual_seed(0)
    model, x = Routed(kind(4, 8, 6)).double().eval(), torch.randn(3, 5, 8, dtype=torch.float64)
    assert kind_of(model.experts) is Experts
    small = tenfold.decompose(model, planned(model, name, full=True))
    assert isinstance(small.experts, Experts)
    assert torch.allclose(small(x), model(x), atol=1e-5 if name in ("cp", "btd") else 1e-12)
    lowered = tenfold.lower(small)
    assert type(lowered.experts) is kind
    assert torch.allclose(lowered(x), small(x), atol=1e-12)
    assert set(lowered.state_dict()) == set(model.state_dict())
    small(x).square().sum().backward()
    assert all(core.grad is not None for core in small.experts.held("up").cores)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 9))
def test_every_expert_is_fitted_by_itself(count: int, rank: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    experts = OneByOne(count, 8, 6).double()
    model = Routed(experts).double()
    left = torch.randn(count, 6, rank, generator=draw, dtype=torch.float64)
    right = torch.randn(count, rank, 8, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        experts.up.copy_(left @ right)
    small = tenfold.decompose(model, Plan({"experts.up": Row("experts.up", "svd", ranks=(rank,))}))
    assert torch.allclose(small.experts.up, experts.up, atol=1e-10)  # each expert has a basis of its own
    assert sum(core.numel() for core in small.experts.held("up").cores) == count * rank * (6 + 8)


def test_experts_are_counted_compressed_saved_and_loaded(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model, x = Routed(OneByOne(4, 8, 6)).eval(), torch.randn(3, 5, 8)
    assert untaken(model) == {}  # biases are no weights
    counted = macs(model, x)
    assert counted.weights["experts.up"].macs == 5 * 2 * 8 * 6
    assert counted.total == 5 * 2 * 8 * 6 * 2 + 5 * 8 * 4
    result = tenfold.compress(model, inputs=x, params="1.2x", format="svd")
    assert any(not row.is_dense for name, row in result.plan.rows.items() if name.startswith("experts"))
    assert result.report.ratio.macs == 1.0
    tenfold.save(result, tmp_path / "out")
    loaded = tenfold.load(tmp_path / "out", model=Routed(OneByOne(4, 8, 6)))
    assert torch.equal(loaded(x), result.model(x))


def test_three_dimensions_alone_make_no_experts() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.num_experts = nn.Parameter(torch.zeros(1, 9, 4)), 1

    assert kind_of(Tokens()) is None
