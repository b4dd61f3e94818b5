"""Every format planned under a budget, carried out, lowered and read back: one small network, no names."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tenfold
from tenfold.formats import BUILT_IN
from tenfold.planning.candidates import few_merges, interpolated
from tenfold.planning.curves import rank_of_params
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, decompose, lower


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(),
        nn.Conv2d(24, 16, 3, padding=1, groups=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 10),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_format_is_planned_and_carried_out(name: str) -> None:
    model, x = network(), torch.randn(2, 3, 8, 8)
    profile = tenfold.inspect(model, x)
    plan = tenfold.plan(model, profile, params="1.8x", format=name)
    assert Plan.from_yaml(plan.to_yaml()) == plan
    small = decompose(model, plan)
    params = [sum(p.numel() for p in net.parameters()) for net in (model, small)]
    assert params[0] >= 1.8 * params[1]
    assert any(not row.is_dense for row in plan.rows.values())
    with torch.no_grad():
        wanted = small(x)
        assert torch.dist(lower(small)(x), wanted) < 1e-4 * wanted.norm()
        assert torch.dist(wanted, model(x)) < 0.9 * model(x).norm()


def test_ranks_by_one_number_serve_a_ring() -> None:
    model = network()
    profile = tenfold.inspect(model, torch.randn(2, 3, 8, 8))
    rows = tenfold.plan(model, profile, ranks=3, format="tr").rows
    assert rows["2"].ranks == (8, 3, 3)  # the closing bond has its own: the one that errs less
    with pytest.raises(TenfoldError, match="2 ranks given, 1 wanted, for the bonds r1 = r2; one number"):
        tenfold.plan(model, profile, layers={"2": "tr:3,4"}, ranks=3, format="svd")


def test_a_group_has_one_parameter_for_its_core() -> None:
    model = network()
    ranks = (3, 3, 3)
    modes = {"2": {"o i h w": (15, 15, 16)}, "7": {"o i": (12, 13, 14)}}
    rows = {name: Row(name, "scada-tucker", modes=modes[name], ranks=ranks, group="all") for name in modes}
    small = decompose(model, Plan(rows))
    first, second = (small.get_submodule(name).weight.cores for name in modes)
    assert first[3] is second[3]
    assert sum(p.numel() for p in small.parameters()) == sum(
        p.numel() for name, p in model.named_parameters() if name not in ("2.weight", "7.weight")
    ) + 27 + 3 * (46 + 39)  # fmt: skip


# ---- the pieces
def test_a_core_that_hands_a_bond_on_is_merged_away_with_every_other() -> None:
    net = BUILT_IN["ht"](order=3).network({"o": 8, "i": 27, "h": 3, "w": 3})
    assert net.bonds == ("r1", "r2", "r1.2", "r3.4", "r3", "r4")
    found = list(few_merges(net))
    assert (True,) * 6 in found
    assert (True, True, False, True, True, True) in found  # the root
    assert (False, True, False, True, True, True) in found  # the root and the window
    assert len(found) == len(set(found)) == 7 + 5


def test_the_common_rank_of_a_count_is_the_nearest() -> None:
    ring = BUILT_IN["tr"]().network({"o": 8, "i": 8, "h": 3, "w": 3})

    def at(rank: int) -> object:
        return ring.with_ranks([rank] * len(ring.bonds))

    for wanted in (1, 84, 100, 300, 5000):
        found = rank_of_params(at, wanted)
        assert min(range(1, 40), key=lambda rank: abs(at(rank).params - wanted)) == found
    curve = interpolated([(2, 0.5), (4, 0.1)], 8)
    assert (curve[0], curve[8]) == (1, 0)
    assert abs(curve[3] ** 2 - 0.05) < 1e-12


# ---- options that suit some layers only, and settings that a rule chooses among
@pytest.mark.parametrize("rule", [{"ranks": 2}, {"energy": 0.3}, {"params": "1.5x"}], ids=str)
@pytest.mark.parametrize("asked", ["svd(first=i h)", "tr(ring=i hw o,sweeps=5)", "ht(tree=((1 2) 3))"])
def test_an_option_that_suits_some_layers_is_refused_by_name_only(asked: str, rule: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv1d(12, 20, 3), nn.Flatten(), nn.Linear(40, 30))
    profile = tenfold.inspect(model)
    rows = tenfold.plan(model, profile, format=asked, **rule).rows
    assert all(row.reason for row in rows.values())
    assert any(not row.is_dense for row in rows.values())
    with pytest.raises(TenfoldError, match=r"layer '3': (SVD's first core cannot|ring|tree) "):
        tenfold.plan(model, profile, format="svd", layers={"3": asked}, **rule)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 12), st.integers(2, 40), st.integers(2, 5), st.integers(1, 4))
def test_rules_choose_among_the_settings_of_a_format(i: int, o: int, window: int, rank: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(i, o, window))
    profile = tenfold.inspect(model)
    firsts = ["i", "i h w", "i h", "i w"]
    each = [tenfold.plan(model, profile, ranks=rank, format=f"svd(first={first})") for first in firsts]
    chosen = tenfold.plan(model, profile, ranks=rank, format="svd")
    gain = [made for made in each if not made.rows["0"].is_dense]
    assert chosen.rows["0"].is_dense == (not gain)
    if gain:
        assert lost(model, chosen) <= min(lost(model, made) for made in gain) * (1 + 1e-5)
    small = [
        kept(model, tenfold.plan(model, profile, energy=0.5, format=f"svd{first}"))
        for first in ["", *(f"(first={first})" for first in firsts)]
    ]
    assert small[0] == min(small)


def lost(model: nn.Sequential, plan: Plan) -> float:
    """Relative error of the only layer."""
    with torch.no_grad():
        found = decompose(model, plan)[0].weight.in_axes()
        return float(torch.dist(found, model[0].weight) / model[0].weight.norm())


def kept(model: nn.Module, plan: Plan) -> int:
    """Parameters."""
    return sum(p.numel() for p in decompose(model, plan).parameters())


def test_the_first_setting_that_is_too_large_leaves_no_layer_dense() -> None:
    model = nn.Sequential(nn.Conv2d(2, 40, 5))
    for rule in ({"ranks": 2}, {"layers": {"0": "svd:2"}, "ranks": 30}):
        assert not tenfold.plan(model, tenfold.inspect(model), format="svd", **rule).rows["0"].is_dense
