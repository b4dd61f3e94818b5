"""Foreseen errors beside what is saved: laws of the way, and that what is foreseen is what happens where it must be."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

import tenfold
from tenfold.planning import RATIOS, ErrorCurves, frontier, plan
from tenfold.planning.frontier import steps
from tenfold.protocols import TenfoldError
from tenfold.report import Frontier, FrontierRow, check_picture, frontier_table, layer_rows
from tenfold.surgery import Plan, sites

X = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    """Convolutions and matrices whose spectra fall."""
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10),
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for site in sites(model).values():
            weight = model.get_submodule(site.places[0].module).weight
            falling = torch.exp(-5 * torch.arange(weight.shape[0]) / weight.shape[0])
            turned = torch.randn(len(weight), len(weight), generator=draw) * falling
            weight.copy_(torch.tensordot(turned, torch.randn(weight.shape, generator=draw), dims=1))
    return model.eval()


def spoil(module: nn.Module) -> None:
    """One weight that is not a number."""
    if isinstance(module, nn.Linear):
        module.weight[0, 0] = torch.nan


MODEL = network()
PROFILE = tenfold.inspect(MODEL, X, repeats=1)
CURVES = ErrorCurves(PROFILE.weights_hash)
ratios = st.floats(1, 40, allow_nan=False).map(lambda ratio: round(ratio, 2))


# ---- the way
@given(st.dictionaries(st.sampled_from(["params", "macs", "bytes"]), ratios, min_size=1))
def test_budgets_tighten_up_to_those_asked_for(asked: dict[str, float]) -> None:
    way = steps(asked)
    assert way[-1] == asked
    for before, after in itertools.pairwise(way):
        assert all(before[name] <= after[name] <= asked[name] for name in asked)
        assert before != after
    assert all(max(step.values()) in RATIOS for step in way[:-1])


def test_shares_are_read_as_ratios() -> None:
    assert steps({"params": "50%", "macs": "1.5x"})[-2:] == [{"params": 1.5, "macs": 1.5}, {"params": 2, "macs": 1.5}]


BUDGETS: list[dict[str, Any]] = [
    {"params": "6x", "macs": "6x"},
    {"params": "8x"},
    {"macs": 3, "bytes": "20%"},
    {"deployed_params": "4x"},
]


@pytest.mark.parametrize("budgets", BUDGETS, ids="-".join)
@pytest.mark.parametrize("format", ["svd", "tucker2,tt", "cp"])
def test_errors_grow_costs_keep_to_budgets_and_rows_are_plans(budgets: dict[str, Any], format: str) -> None:
    found = tenfold.frontier(MODEL, inputs=X, format=format, max_error=1, **budgets)
    assert not found.end
    errors = [row.error for row in found.rows]
    assert errors == sorted(errors)
    assert errors[-1] > errors[0]
    for row in found.rows:
        assert all((row.ratio[name] or 0) >= asked * (1 - 1e-12) for name, asked in row.asked.items())
    for row in (found.rows[0], found.rows[-1]):
        assert row.plan == plan(MODEL, PROFILE, format=format, max_error=1, curves=CURVES, **row.asked)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_the_loss_of_svd_is_what_its_decomposition_loses(allocation: Any) -> None:
    for _, found, loss in frontier(
        MODEL, PROFILE, curves=CURVES, params=3.0, format="svd", multiple=2, allocation=allocation
    ):
        rows = layer_rows(MODEL, tenfold.decompose(MODEL, found), found, PROFILE)
        assert loss == pytest.approx(sum((row.rel_error or 0.0) ** 2 for row in rows), rel=1e-4)


def test_of_a_network_of_one_matrix_the_foreseen_error_is_that_of_its_outputs() -> None:
    """Nothing is first-order there; what is left is the scatter of random projections."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(8, 12, generator=draw) * torch.linspace(3, 0.1, 12))
    x = torch.randn(4000, 12, generator=draw) * torch.linspace(0.5, 2, 12)
    given: dict[str, Any] = {"inputs": x[:1], "calibrate": len(x), "calibration": x.split(500)}
    found = tenfold.frontier(model, params="2x", format="svd", **given)
    statistics = tenfold.calibrate(model, x.split(500), samples=len(x))
    assert found.calibrated
    for row in found.rows:
        small = tenfold.decompose(model, row.plan, statistics=statistics)
        with torch.no_grad():
            measured = float(torch.dist(small(x), model(x)) / model(x).norm())
        assert row.error == pytest.approx(measured, rel=0.03)


def test_a_part_is_counted_by_itself() -> None:
    found = tenfold.frontier(MODEL, inputs=X, params="3x", of=["7"], format="svd", max_error=1)
    losses = [loss for _, _, loss in frontier(MODEL, PROFILE, of=["7"], params="3x", format="svd", max_error=1)]
    assert [row.error**2 for row in found.rows] == pytest.approx(losses)  # of one weight
    for row in found.rows:
        (rank,) = row.plan.rows["7"].ranks
        assert row.ratio["params"] == (384 * 10 + 10) / ((384 + 10) * (rank or 0) + 10)
        assert all(each.is_dense for name, each in row.plan.rows.items() if name != "7")


def test_what_is_out_of_reach_ends_the_way_in_one_sentence() -> None:
    found = tenfold.frontier(MODEL, inputs=X, format="svd")
    reached = [row.asked["params"] for row in found.rows]
    assert reached == list(RATIOS[: len(reached)])
    assert 0 < len(reached) < len(RATIOS)
    assert f"{RATIOS[len(reached)]:g}x cannot be met; the largest reachable ratio" in found.end
    with pytest.raises(TenfoldError, match="largest reachable ratio"):
        tenfold.frontier(MODEL, inputs=X, format="svd", max_error=0.001)


def test_budgets_are_gone_through_and_rules_refused() -> None:
    assert {*tenfold.frontier(MODEL, inputs=X, format="svd").rows[0].asked} == {"params", "macs"}
    with pytest.raises(TenfoldError, match="energy is a rule that has none; leave it out"):
        tenfold.frontier(MODEL, inputs=X, energy=0.5)
    with pytest.raises(TenfoldError, match="a budget on macs needs inputs"):
        tenfold.frontier(MODEL, macs="2x")
    assert {*tenfold.frontier(MODEL, format="svd").rows[0].asked} == {"params"}  # nothing says what macs are
    with pytest.raises(TenfoldError, match="NaN"):
        tenfold.frontier(nn.Sequential(nn.Linear(8, 8)).requires_grad_(False).apply(spoil), params="2x")


# ---- as a table, as JSON, as a picture
def made(errors: list[float], end: str = "") -> Frontier:
    rows = [
        FrontierRow({"params": 2.0 + k, "macs": 2}, {"params": 2.1 + k, "macs": 2.5, "bytes": 2.1 + k}, error, Plan({}))
        for k, error in enumerate(errors)
    ]
    return Frontier(tuple(rows), calibrated=True, end=end)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=12))
def test_table_and_json_say_the_same(errors: list[float]) -> None:
    found = made(errors, "further is out of reach.")
    written = json.loads(found.to_json())
    assert (written["meaning"], written["end"]) == (found.meaning, found.end)
    console = Console(width=80, color_system=None)
    with console.capture() as shown:
        console.print(frontier_table(found))
    lines = shown.get().splitlines()[3:]
    bars = []
    for line, row in zip(lines, written["rows"], strict=False):
        asked = " ".join(dict.fromkeys(f"{ratio:g}x" for ratio in row["asked"].values()))
        numbers = f"{row['ratio']['params']:.2f}x {row['ratio']['macs']:.2f}x {row['error']:.3f}"
        assert " ".join(line.split()).startswith(f"{asked} {numbers}")
        bars.append(line.count("█"))
    assert sorted(bars) == [bar for _, bar in sorted(zip(errors, bars, strict=True))]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_the_same_each_time_and_replaces_its_own_kind_only(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new" / f"curve.{ending}"
    made([0.1, 0.2]).draw(path, title="net")
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    with pytest.raises(TenfoldError, match="exists; --overwrite replaces it"):
        made([0.1, 0.3]).draw(path)
    assert path.read_bytes() == before
    made([0.1, 0.2]).draw(path, title="net", overwrite=True)
    assert path.read_bytes() == before
    made([0.1, 0.3]).draw(path, overwrite=True)
    assert path.read_bytes() != before
    path.write_bytes(b"mine")
    with pytest.raises(TenfoldError, match="was not drawn by tenfold, so it is never replaced"):
        made([0.1]).draw(path, overwrite=True)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "words"), [("curve.gif", r"ends in \.png or \.svg"), ("curve", "no picture"), ("a.png", "is a folder")]
)
def test_a_place_for_a_picture_is_checked(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(TenfoldError, match=words):
        check_picture(tmp_path / name, True)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TenfoldError, match=r"needs matplotlib, .* pip install 'tenfold\[report\]'"):
        made([0.1]).draw(tmp_path / "curve.png")
    assert frontier_table(made([0.1])).row_count == 1
