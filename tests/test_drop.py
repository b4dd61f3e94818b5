"""The smallest network that loses at most so much: searched, judged, resumed."""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tenfold
from tenfold.api import drop
from tenfold.api.goal import OBJECTIVES
from tenfold.measure import Clock, Speedup
from tenfold.measure.score import score
from tenfold.protocols import Data, Progress, TenfoldError
from tenfold.report import Measurement

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


def quick(**more: Any) -> dict[str, Any]:
    return asked(**{"reconstruct": False, **more})


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which time goes with multiply-adds, and nothing else takes any."""
    monkeypatch.setattr(Clock, "seconds", lambda _, form, *rest: 1e-6 * form.given * form.made)
    monkeypatch.setattr(Clock, "timed", lambda *_: 1e-6 * (12 * 48 + 48 * 48 + 48 * 6))
    monkeypatch.setattr(Clock, "speedup", lambda *_: 10.0)


@pytest.mark.usefixtures("paced")
@pytest.mark.parametrize(("points", "objective"), [(3.0, "params"), (60.0, "params"), (60.0, "macs"), (60.0, "time")])
def test_what_is_found_loses_little_enough_and_the_next_attempt_too_much(
    trained: tuple[nn.Module, Data], points: float, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = trained
    if objective == "time":  # by a clock that finds all of them faster
        ticks = itertools.count(2)
        monkeypatch.setattr(drop.Search, "gain", lambda *_: float(next(ticks)))
    how = asked() if points == 3.0 else quick()
    result = tenfold.compress(model, data, max_drop=points, objective=objective, **how)
    dense, small = (score(each, data.validation, data) or 0.0 for each in (model, result.model))
    assert dense - small <= points
    said = result.report.settings
    assert (said["max_drop"], said["objective"]) == (points, objective)
    held = [each["ratio"] for each in said["attempts"] if (each["loss"] or 0) <= points]
    lost = [each["ratio"] for each in said["attempts"] if (each["loss"] or 0) > points]
    if objective != "time":
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
    monkeypatch.setattr(drop, "NEAR", 1.2)
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
    assert (
        made <= len(whole.report.settings["attempts"]) - 2 + 1
    )  # the first two are known, and made again if they are best
    assert resumed.report.settings["attempts"] == whole.report.settings["attempts"]
    assert all(torch.equal(value, state_of(whole.model)[name]) for name, value in state_of(resumed.model).items())
    tenfold.save(resumed, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_drop": 0.0}, "max_drop=0.0 is no number of points above 0"),
        ({"max_drop": float("nan")}, "max_drop=nan is no number"),
        ({"max_drop": "3"}, "max_drop is '3', where a number or None belongs"),
        ({"max_drop": 1.0, "objective": "tme"}, "objective 'tme' is unknown; did you mean 'time'"),
        ({"objective": "time", "params": "2x"}, "objective='time' says what max_drop gains; give max_drop, too"),
        ({"objective": "tme", "params": "2x"}, "objective='tme' says what max_drop gains; give max_drop, too"),
        ({"max_drop": 1.0, "params": "2x"}, "max_drop finds the ratio of params itself; leave params out"),
        ({"max_drop": 1.0, "objective": "time", "time": "2x"}, "leave time out"),
        ({"max_drop": 1.0, "energy": 0.9}, "leave energy out"),
        ({"max_drop": 1.0, "epochs": 1}, "networks that are not trained; leave epochs=1 out, and train the one that"),
    ],
)
def test_what_cannot_be_is_refused(trained: tuple[nn.Module, Data], options: dict[str, Any], sentence: str) -> None:
    model, data = trained
    with pytest.raises(TenfoldError, match=sentence):
        tenfold.compress(model, data, calibrate=96, **options)


def test_what_leaves_nothing_to_search_or_judge_by_is_refused(trained: tuple[nn.Module, Data]) -> None:
    model, data = trained
    plan = tenfold.plan(model, tenfold.inspect(model, X[:1]), params="2x")
    with pytest.raises(TenfoldError, match="a plan was given and max_drop too"):
        tenfold.compress(model, data, plan=plan, max_drop=1.0)
    with pytest.raises(TenfoldError, match="max_drop judges networks on data"):
        tenfold.compress(copy.deepcopy(model), inputs=X[:4], max_drop=1.0)
    with pytest.raises(TenfoldError, match="give data with a validation split, or inputs and calibrate=1000"):
        tenfold.compress(model, replace(data, validation=[]), max_drop=1.0, calibrate=0)
    uncounted = [(X[:4], torch.full((4,), -100))]
    with pytest.raises(TenfoldError, match="no target of the validation data counts for top-1"):
        tenfold.compress(model, replace(data, validation=uncounted), max_drop=1.0, **quick())


def test_where_every_network_loses_too_much_that_is_said(
    trained: tuple[nn.Module, Data], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(drop.Search, "loss", lambda *_: 5.0)
    told = (
        r"no network loses at most 2 points of top-1 on validation data: params at 1.0\dx \(loses 5.00\), .*allow more"
    )
    with pytest.raises(TenfoldError, match=told + ", or"):
        tenfold.compress(*trained, max_drop=2.0, **quick())
    with pytest.raises(TenfoldError, match=told + r" \(what was tried is kept, and not judged again\)"):
        tenfold.compress(*trained, max_drop=2.0, state=tmp_path, **quick())


@pytest.mark.usefixtures("paced")
def test_a_network_that_gains_nothing_is_not_taken(
    trained: tuple[nn.Module, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop.Search, "gain", lambda *_: 0.9)
    told = r"no network that loses at most 60 points of .* gains in time, the best comes to 0.9x: time at 2x \(loses"
    with pytest.raises(TenfoldError, match=told):
        tenfold.compress(*trained, max_drop=60.0, objective="time", **quick())


def test_ratios_out_of_reach_are_no_end_and_named(trained: tuple[nn.Module, Data]) -> None:
    """With one layer of three, 2x cannot be had; less can."""
    model, data = trained
    result = tenfold.compress(model, data, max_drop=60.0, include=["0"], **quick())
    assert 1 < (result.report.ratio.params or 0) < 1.3
    assert "2x (out of reach)" in result.words[0]
    assert result.report.settings["attempts"][-1] == {"ratio": 2.0, "loss": None, "gain": None}
    with pytest.raises(TenfoldError, match=r"format|suit|bond|no layer"):
        tenfold.compress(model, data, max_drop=60.0, include=["0"], **quick(format="tt(layout=odd)"))


def counting(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    """The arguments of every call of a method from now on."""
    calls: list[Any] = []
    method = getattr(owner, name)

    def counted(*args: Any) -> Any:
        calls.append(args)
        return method(*args)

    monkeypatch.setattr(owner, name, counted)
    return calls


def test_every_ratio_is_planned_once_and_every_plan_carried_out_once(
    trained: tuple[nn.Module, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop, "NEAR", 1.02)  # ratios that come to one plan
    planned = counting(monkeypatch, drop.Run, "planned")
    made = counting(monkeypatch, drop.Run, "carried_out")
    result = tenfold.compress(*trained, max_drop=60.0, bytes="3x", **quick())
    attempts = result.report.settings["attempts"]
    assert len(planned) == len(attempts)
    assert len({plan.to_yaml() for _, plan, _ in made}) == len(made) < len(attempts)
    best = max((each for each in attempts if each["loss"] <= 60.0), key=lambda each: each["gain"])
    assert result.report.ratio.params == best["gain"] > best["ratio"]
    assert "Of networks with bytes=3x and params at 2x (loses" in result.words[0]
    assert f"the one at {best['ratio']:.3g}x gains most" in result.words[0]
    assert result.words[0].endswith(f"of top-1 on validation data: {best['gain']:.3g}x in params.")


def test_a_network_whose_outputs_are_not_finite_loses_too_much(
    trained: tuple[nn.Module, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out = drop.Run.carried_out

    def broken(run: Any, plan: Any, state: Any) -> Any:
        networks = carried_out(run, plan, state)
        if not made:
            next(networks["compressed"].parameters()).data.fill_(float("nan"))
        made.append(plan)
        return networks

    monkeypatch.setattr(drop.Run, "carried_out", broken)
    for validation in (trained[1].validation, []):
        made: list[Any] = []
        result = tenfold.compress(trained[0], replace(trained[1], validation=validation), max_drop=60.0, **quick())
        assert "2x (cannot be judged)" in result.words[0]
        assert 1 < (result.report.ratio.params or 0) < 2


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A search of the first ratio alone; the networks that are judged from now on."""
    monkeypatch.setattr(drop, "NEAR", 10.0)
    monkeypatch.setattr(drop, "GROWTH", 1e9)
    return counting(monkeypatch, drop.Search, "judged")


CHANGED: dict[str, dict[str, Any]] = {
    "objective": {"objective": "time"},
    "seed": {"seed": 1},
    "samples": {"calibrate": 80},
    "reconstruction": {"reconstruct": True},
    "distillation": {"distil": 2},
    "batch norms": {"bn": True},
    "budget": {"bytes": "3x"},
}


@pytest.mark.usefixtures("paced")
@pytest.mark.parametrize("what", [*CHANGED, "inputs", "validation", "labels"])
def test_what_was_tried_is_taken_from_the_same_search_only(
    trained: tuple[nn.Module, Data], one_attempt: list[Any], tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each case by itself: only a budget is seen by the plan."""
    monkeypatch.setattr(drop.Search, "gain", lambda *_: 2.0)
    if what != "budget":
        monkeypatch.setattr(drop.Run, "about", lambda *_: {})
    model, data = trained
    how = quick(bn=False, reconstruct=what == "distillation")
    options = {"max_drop": 60.0, "objective": "macs", "state": tmp_path, **how}
    tenfold.compress(model, data, **options)
    assert len(one_attempt) == 1
    tenfold.compress(model, data, **{**options, "max_drop": 70.0, "memory": "1GB"})
    assert len(one_attempt) == 1
    batches = list(data.validation)
    others = {
        "inputs": replace(data, inputs=X.flip(0).split(48)),
        "validation": replace(data, validation=batches[:3]),
        "labels": replace(data, validation=[]),
    }
    tenfold.compress(model, others.get(what, data), **{**options, **CHANGED.get(what, {})})
    assert len(one_attempt) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"loss": 1.0, "gain": []}', '{"loss": "x", "gain": 2}', "\ud800"])
def test_a_damaged_file_of_an_attempt_is_as_if_it_were_not_there(
    trained: tuple[nn.Module, Data], one_attempt: list[Any], tmp_path: Path, text: str
) -> None:
    tenfold.compress(*trained, max_drop=60.0, state=tmp_path, **quick())
    (file,) = tmp_path.glob("ratio-*/attempt.json")
    whole = file.read_bytes()
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    tenfold.compress(*trained, max_drop=60.0, state=tmp_path, **quick())
    assert len(one_attempt) == 2
    assert file.read_bytes() == whole


def test_saving_deletes_what_a_search_without_calibration_kept(
    trained: tuple[nn.Module, Data], one_attempt: list[Any], tmp_path: Path
) -> None:
    result = tenfold.compress(*trained, max_drop=60.0, state=tmp_path / "state", **quick(calibrate=0))
    assert any((tmp_path / "state").iterdir())
    tenfold.save(result, tmp_path / "small")
    assert not (tmp_path / "state").exists()


def test_an_error_that_grows_is_said_to_be_lost(trained: tuple[nn.Module, Data], one_attempt: list[Any]) -> None:
    model, data = trained
    with torch.no_grad():
        numbers = [(x, model(x)) for x, _ in data.validation]
    known = replace(data, task="regression", train=(), test=(), validation=numbers)
    said = tenfold.compress(model, known, max_drop=1e9, bn=False, **quick()).words[0]
    assert score(model, numbers, known) == 0
    assert re.search(
        r"params at 2x \(loses [1-9][0-9.]*\), .* at most 1e\+09 of mean squared error on validation data", said
    )


def test_networks_are_judged_with_the_batch_norms_that_they_end_with(
    trained: tuple[nn.Module, Data], one_attempt: list[Any]
) -> None:
    model, data = copy.deepcopy(trained[0]), trained[1]
    norm = nn.BatchNorm1d(48)
    with torch.no_grad():
        norm.running_mean, norm.running_var = torch.full((48,), 0.3), torch.full((48,), 0.5)
    assert isinstance(model, nn.Sequential)
    model.insert(3, norm.eval())
    result = tenfold.compress(model, data, max_drop=90.0, **quick(calibrate=0))
    dense, small = (score(each, data.validation, data) or 0.0 for each in (model, result.model))
    assert result.report.settings["attempts"][0]["loss"] == dense - small
    assert not any(torch.equal(buffer, norm.running_mean) for buffer in result.model.buffers())


@pytest.mark.parametrize(("median", "spread", "gain"), [(1.3, 0.1, 1.3), (1.05, 0.2, 1.0), (0.8, 0.1, 0.8)])
def test_what_is_within_the_noise_of_the_clock_gains_no_time(median: float, spread: float, gain: float) -> None:
    measured = Measurement(1, None, None, None, None, None, 1, speedup=Speedup(median, spread))
    assert OBJECTIVES["time"].of(measured, measured) == gain
    assert OBJECTIVES["time"].of(measured, replace(measured, speedup=None)) is None
