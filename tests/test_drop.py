"""The smallest network that loses at most so much: searched, judged, resumed."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tenfold
from tenfold.api import drop
from tenfold.measure.score import score
from tenfold.protocols import Data, Progress, TenfoldError

DRAW = torch.Generator().manual_seed(0)
X, TARGETS = torch.randn(192, 12, generator=DRAW), torch.randint(0, 6, (192,), generator=DRAW)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Data]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 6))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(X), TARGETS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    batches = list(zip(X.split(48), TARGETS.split(48), strict=True))
    return model.eval(), Data(train=batches, inputs=X.split(48), validation=batches, test=batches[:1])


def asked(**more: Any) -> dict[str, Any]:
    return {"format": "svd", "calibrate": 96, "max_error": 1.0, **more}


@pytest.mark.parametrize(("points", "objective"), [(3.0, "params"), (20.0, "params"), (10.0, "macs"), (10.0, "time")])
def test_what_is_found_loses_little_enough_and_the_next_attempt_too_much(
    trained: tuple[nn.Module, Data], points: float, objective: str
) -> None:
    model, data = trained
    result = tenfold.compress(model, data, max_drop=points, objective=objective, **asked())
    dense, small = (score(each, data.validation, data) or 0.0 for each in (model, result.model))
    assert dense - small <= points
    said = result.report.settings
    assert (said["max_drop"], said["objective"]) == (points, objective)
    held = [each["ratio"] for each in said["attempts"] if each["loss"] <= points]
    lost = [each["ratio"] for each in said["attempts"] if each["loss"] > points]
    if objective != "time":  # the clock may prefer another that holds
        ratio = result.report.ratio.params if objective == "params" else result.report.ratio.macs
        assert ratio == max(each["gain"] for each in said["attempts"] if each["loss"] <= points)
        assert ratio is not None
        assert ratio >= max(held)
    assert not lost or min(lost) / max(held) <= drop.NEAR
    assert "top-1 on validation data" in result.words[0]


def test_without_labels_networks_agree_with_the_dense_one(trained: tuple[nn.Module, Data]) -> None:
    model, data = trained
    result = tenfold.compress(model, replace(data, validation=[]), max_drop=5.0, **asked())
    with torch.no_grad():
        x = X[96:]  # what was not calibrated on
        same = (model(x).argmax(1) == result.model(x).argmax(1)).double().mean()
    assert 100 * (1 - float(same)) <= 5.0
    assert "agreement with the dense network" in result.words[0]


class Stopped(Exception):  # noqa: N818
    """What a run is stopped by."""


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_stopped_search_goes_on_to_the_same_network(
    trained: tuple[nn.Module, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = trained
    whole = tenfold.compress(model, data, max_drop=8.0, **asked())
    made = 0
    carried_out = drop.Run.carried_out

    def counted(run: Any, plan: Any, state: Any) -> Any:
        nonlocal made
        made += 1
        return carried_out(run, plan, state)

    monkeypatch.setattr(drop.Run, "carried_out", counted)

    def stopping(steps: Iterator[Progress]) -> Iterator[Progress]:
        for step in steps:
            if made == 3 and step.step == 2:
                raise Stopped
            yield step

    with pytest.raises(Stopped):
        tenfold.compress(model, data, max_drop=8.0, state=tmp_path, watch=stopping, **asked())
    assert made == 3
    made = 0
    resumed = tenfold.compress(model, data, max_drop=8.0, state=tmp_path, **asked())
    assert made <= len(whole.report.settings["attempts"]) - 2 + 1  # the first two are known; the best is made again
    assert resumed.report.settings["attempts"] == whole.report.settings["attempts"]
    assert all(torch.equal(value, state_of(whole.model)[name]) for name, value in state_of(resumed.model).items())
    tenfold.save(resumed, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_drop": 0.0}, "max_drop=0.0 is no number of points above 0"),
        ({"max_drop": float("nan")}, "max_drop=nan is no number"),
        ({"max_drop": 1.0, "objective": "tme"}, "objective 'tme' is unknown; did you mean 'time'"),
        ({"max_drop": 1.0, "params": "2x"}, "max_drop finds the ratio of params itself; leave params out"),
        ({"max_drop": 1.0, "objective": "time", "macs": "2x"}, "leave macs out"),
        ({"max_drop": 1.0, "energy": 0.9}, "leave energy out"),
    ],
)
def test_what_cannot_be_is_refused(trained: tuple[nn.Module, Data], options: dict[str, Any], sentence: str) -> None:
    model, data = trained
    with pytest.raises(TenfoldError, match=sentence):
        tenfold.compress(model, data, calibrate=96, **options)
    plan = tenfold.plan(model, tenfold.inspect(model, X[:1]), params="2x")
    with pytest.raises(TenfoldError, match="a plan was given and max_drop too"):
        tenfold.compress(model, data, plan=plan, max_drop=1.0)
    with pytest.raises(TenfoldError, match="max_drop judges networks on data"):
        tenfold.compress(copy.deepcopy(model), inputs=X[:4], max_drop=1.0)


def test_where_every_network_loses_too_much_that_is_said(
    trained: tuple[nn.Module, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop.Search, "loss", lambda *_: 5.0)
    with pytest.raises(TenfoldError, match=r"no network loses at most 2 points of .*: params at 1.0\dx loses 5.00"):
        tenfold.compress(*trained, max_drop=2.0, reconstruct=False, **asked())


def test_ratios_out_of_reach_are_no_end(trained: tuple[nn.Module, Data]) -> None:
    """With one layer of three, 2x cannot be had; less can."""
    model, data = trained
    result = tenfold.compress(model, data, max_drop=60.0, include=["0"], reconstruct=False, **asked())
    assert 1 < (result.report.ratio.params or 0) < 1.3
    with pytest.raises(TenfoldError, match=r"format|suit|bond|no layer"):
        tenfold.compress(model, data, max_drop=60.0, include=["0"], reconstruct=False, **asked(format="tt(layout=odd)"))
