"""The verbs in Python: what `compress` keeps, promises and hands on."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tenfold
from tenfold import api
from tenfold.formats import available
from tenfold.inputs import inputs_for
from tenfold.measure import inspect, macs, params
from tenfold.protocols import Data, Progress, TenfoldError
from tenfold.recovery import Step
from tenfold.surgery import lower

X = torch.randn(4, 2, 10, 10, generator=torch.Generator().manual_seed(3))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 20, (3, 2), stride=2),
        nn.ReLU(),
        nn.Conv2d(20, 20, 3, padding=1, groups=2),
        nn.Flatten(),
        nn.Linear(400, 16),
        nn.Linear(16, 10),
    ).eval()


MODEL = network()


def data() -> Data:
    draw = torch.Generator().manual_seed(1)
    y = torch.arange(48) % 10
    x = torch.randn(48, 2, 10, 10, generator=draw) + y.reshape(-1, 1, 1, 1) / 3
    batches = list(zip(x.split(12), y.split(12), strict=True))
    return Data(train=batches, inputs=x.split(12), validation=batches[:2], test=batches[2:])


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- compress
def test_the_argument_is_untouched() -> None:
    model = network().train()
    before = state(model)
    result = tenfold.compress(model, data(), params="2x", format="svd", epochs=1)
    assert same(state(model), before)
    assert model.training
    assert not result.model.training
    assert all(parameter.grad is None for parameter in model.parameters())


BUDGETS: list[dict[str, Any]] = [{"params": "2.5x"}, {"bytes": "40%"}, {"params": "2x", "macs": "1.5x"}, {"macs": "2x"}]
ASKED = [("svd", budgets) for budgets in BUDGETS]  # not every format reaches a budget on macs alone
ASKED += [(name, BUDGETS[k % 3]) for k, name in enumerate([*available(), "auto"]) if name != "svd"]


@pytest.mark.parametrize(("format", "budgets"), ASKED, ids=str)
def test_what_was_planned_is_what_was_measured(format: str, budgets: dict[str, Any]) -> None:
    result = tenfold.compress(MODEL, inputs=X, format=format, **budgets)
    expected = api.predicted(MODEL, result.plan, inspect(MODEL, X[:1], repeats=1))
    ratio = result.report.ratio
    assert ratio.params == expected.ratio.params == params(MODEL) / params(result.model)
    assert ratio.macs == expected.ratio.macs == macs(MODEL, X[:1]).total / macs(lower(result.model), X[:1]).total
    for name, asked in budgets.items():
        least = 2.5 if asked == "40%" else float(asked.rstrip("x"))
        assert getattr(expected.ratio, name) >= least


def test_a_report_says_what_was_asked(tmp_path: Path) -> None:
    result = tenfold.compress(
        MODEL, data(), params="2x", include=("3", "7"), layers={"7": "svd:4"}, format="svd", multiple=2, seed=3,
        settings={"data": "mine"},
    )  # fmt: skip
    document = json.loads(result.report.to_json())
    keys = {"schema", "dense", "compressed", "recovered", "ratio", "part", "layers", "settings", "planned", "course"}
    assert set(document) == keys
    said = document["settings"]
    assert (said["params"], said["include"], said["layers"], said["multiple"]) == ("2x", ["3", "7"], {"7": "svd:4"}, 2)
    assert (said["seed"], said["data"], said["epochs"], said["inputs"]) == (3, "mine", 0, [[2, 10, 10]])
    for name in ("dense", "compressed", "recovered"):  # batch norms were estimated anew
        assert document[name]["score"]["name"] == "top-1"
        assert document[name]["ms_per_batch"]["batch"] == 12
    assert any("times fewer parameters" in sentence for sentence in result.words)
    assert result.document.input == {"x": [2, 10, 10]}


def test_recovery_is_what_was_asked_for() -> None:
    untouched = tenfold.compress(MODEL, data(), params="2x", format="svd", bn=False, calibrate=0)
    assert untouched.report.recovered is None
    norms = tenfold.compress(MODEL, data(), params="2x", format="svd", calibrate=0)
    assert not torch.equal(norms.model[1].running_mean, untouched.model[1].running_mean)
    assert torch.equal(norms.model[7].bias, untouched.model[7].bias)
    steps: list[Step] = []

    def watch(given: Iterator[Step]) -> Iterator[Step]:
        for step in given:
            steps.append(step)
            yield step

    trained = tenfold.compress(MODEL, data(), params="2x", format="svd", epochs=2, distill=0.5, watch=watch)
    assert [step.step for step in steps if step.title.startswith("epoch")] == list(range(1, 9))
    assert not torch.equal(trained.model[7].bias, untouched.model[7].bias)
    assert trained.report.settings["distill"] == 0.5


# ---- calibration
def outputs_error(small: nn.Module) -> float:
    x = torch.cat([batch for batch, _ in data().test])
    with torch.no_grad():
        wanted = MODEL(x)
        return float((small(x) - wanted).square().sum() / wanted.square().sum())


def test_calibration_is_what_happens_where_there_is_data() -> None:
    asked: dict[str, Any] = {"params": "3x", "format": "svd,tucker2", "max_error": 1.0}
    titles: list[str] = []

    def watch(steps: Iterator[Progress]) -> Iterator[Progress]:
        for step in steps:
            titles.append(step.title)
            yield step

    calibrated = tenfold.compress(MODEL, data(), watch=watch, **asked)
    plain = tenfold.compress(MODEL, data(), calibrate=0, **asked)
    blocks = ["block 0", "block 3", "block 5", "block 7", "block 8", "all blocks"]
    assert [title for title in dict.fromkeys(titles) if "block" in title] == blocks
    assert outputs_error(calibrated.model) < 0.8 * outputs_error(plain.model)
    said = calibrated.report.settings
    assert (said["calibrate"], said["reconstruct"], said["distil"], said["bn"]) == (1000, True, 0, False)
    assert calibrated.report.ratio.params > 3
    titles.clear()
    tenfold.compress(MODEL, data(), watch=watch, distil=3, calibrate=24, **asked)
    trained = [title for title in titles if title in ("all blocks", "distillation")]
    assert trained[-4:] == ["all blocks", *["distillation"] * 3]
    titles.clear()
    tenfold.compress(MODEL, data(), watch=watch, reconstruct=False, **asked)
    assert not any("block" in title for title in titles)


def test_calibration_needs_no_labels_and_keeps_its_statistics(tmp_path: Path) -> None:
    plan = tenfold.plan(MODEL, inspect(MODEL, X), params="3x", format="svd", max_error=1.0)
    batches = data().inputs
    statistics = tenfold.calibrate(MODEL, batches, profile=tmp_path)
    assert (tmp_path / "statistics.safetensors").exists()
    again = tenfold.calibrate(MODEL, batches, profile=tmp_path)
    small, same_small, plain = (tenfold.decompose(MODEL, plan, statistics=each) for each in (statistics, again, None))
    assert same(state(small), state(same_small))
    assert outputs_error(small) < outputs_error(plain)
    before = outputs_error(small)
    tenfold.reconstruct(MODEL, small, batches)
    assert outputs_error(small) < before


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"calibrate": -1}, "cannot calibrate on -1 samples"),
        ({"distil": 5, "reconstruct": False}, "distil=5 steps follow the reconstruction"),
        ({"distil": 5, "calibrate": 0}, "distil=5 steps follow the reconstruction"),
    ],
)
def test_settings_of_calibration_that_make_no_sense_are_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TenfoldError, match=sentence):
        tenfold.compress(MODEL, data(), params="2x", **asked)
    with pytest.raises(TenfoldError, match="calibrate=5 needs inputs to take them from"):
        tenfold.compress(MODEL, params="2x", calibrate=5)


def test_samples_that_are_not_finite_are_refused_by_their_batch() -> None:
    batches = [batch.clone() for batch in data().inputs]
    batches[2][1, 0, 0, 0] = float("nan")
    with pytest.raises(TenfoldError, match="calibration: batch 3 of 12 samples holds NaN or infinity"):
        tenfold.calibrate(MODEL, batches)
    far = nn.Linear(4, 4)
    far.weight.data *= 1e38
    with pytest.raises(TenfoldError, match="the network's outputs on 5 samples are not finite"):
        tenfold.calibrate(far, [torch.full((5, 4), 1e4)])
    with pytest.raises(TenfoldError, match="there are no inputs to calibrate on"):
        tenfold.calibrate(MODEL, [])


def test_the_same_seed_gives_the_same_network() -> None:
    asked: dict[str, Any] = {"params": "2x", "format": "cp,svd", "epochs": 1, "seed": 5}
    a, b = (tenfold.compress(MODEL, data(), **asked) for _ in range(2))
    assert same(state(a.model), state(b.model))
    assert a.plan.rows == b.plan.rows


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "nothing was asked for"),
        ({"params": None, "include": ()}, "nothing was asked for"),
        ({"params": "2x", "plan": "p.yaml"}, "a plan was given and params too"),
        ({"plan": "nowhere.yaml"}, "'nowhere.yaml' cannot be read: it is not there"),
        ({"params": "2x", "epochs": 1}, "epochs=1 needs data"),
        ({"params": "2x", "epochs": -1}, "epochs=-1"),
        ({"params": "2x", "distill": 2.0}, "distill=2.0"),
        ({"params": "2x", "lr": float("nan")}, "lr=nan"),
        ({"params": "2x", "format": "tuker"}, "did you mean 'tucker'"),
        ({"params": "2x", "exclude": ["9"]}, "no layer matches '9'"),
        ({"macs": "2x"}, "a budget on macs needs inputs"),
    ],
)
def test_what_cannot_work_is_refused_before_the_network_runs(
    asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.api.plan.inspect", lambda *_: pytest.fail("measured"))
    with pytest.raises(TenfoldError, match=words):
        tenfold.compress(MODEL, **asked)


def test_none_is_as_if_not_given() -> None:
    made = tenfold.compress(MODEL, params="2x", format="svd", macs=None, energy=None, include=(), layers=None)
    again = tenfold.compress(MODEL, plan=made.plan, params=None)
    assert again.plan.rows == made.plan.rows


# ---- profiles
def test_a_second_budget_does_not_run_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs_for(MODEL, X)
    first = api.profiled(MODEL, x, profile=tmp_path)
    one = api.planned(MODEL, first, profile=tmp_path, params="2x", format="svd,tt")
    monkeypatch.setattr(nn.Module, "__call__", lambda *_: pytest.fail("ran"))
    kept = api.profiled(MODEL, x, profile=tmp_path)
    assert kept == first
    assert api.planned(MODEL, kept, profile=tmp_path, params="2x", format="svd,tt") == one
    before = (tmp_path / "curves.json").read_bytes()
    api.planned(MODEL, kept, profile=tmp_path, params="3x", format="svd,tt")
    assert (tmp_path / "curves.json").read_bytes() == before


def test_a_profile_of_other_weights_or_inputs_is_made_anew(tmp_path: Path) -> None:
    first = api.profiled(MODEL, inputs_for(MODEL, X), profile=tmp_path)
    other = copy.deepcopy(MODEL)
    with torch.no_grad():
        other[8].bias += 1
    found = api.profiled(other, inputs_for(MODEL, X), profile=tmp_path)
    assert found.weights_hash != first.weights_hash
    whole = api.profiled(other, inputs_for(MODEL, X[:2], "none"), profile=tmp_path)
    assert (whole.batch, whole.macs) == (1, 2 * (found.macs or 0))
    assert api.profiled(other, None, profile=tmp_path) == whole
    api.planned(other, found, profile=tmp_path, params="2x", format="svd")
    api.planned(MODEL, first, profile=tmp_path, params="2x", format="svd")


# ---- folders
@pytest.mark.parametrize("format", ["svd", "tt", "scada-tucker"])  # storage has every format
def test_saved_and_loaded_is_the_same_bit_for_bit(format: str, tmp_path: Path) -> None:
    result = tenfold.compress(MODEL, inputs=X, params="1.5x", format=format)
    tenfold.save(result, tmp_path / "small")
    loaded = tenfold.load(tmp_path / "small", model=network())
    with torch.no_grad():
        assert torch.equal(loaded(X), result.model(X))
    assert json.loads((tmp_path / "small/report.json").read_text()) == json.loads(result.report.to_json())
    with pytest.raises(TenfoldError, match="overwrite"):
        tenfold.save(result, tmp_path / "small")


def test_a_network_trained_further_is_saved_as_it_is(tmp_path: Path) -> None:
    result = tenfold.compress(MODEL, data(), params="2x", format="svd")
    tenfold.recover(result.model, data(), epochs=1, teacher=MODEL, lr=0.02)
    tenfold.save(result, tmp_path / "small")
    loaded = tenfold.load(tmp_path / "small", model=network())
    assert same(state(loaded), state(result.model))


# ---- the rest
def test_evaluate_one_and_several() -> None:
    one = tenfold.evaluate(MODEL, data())
    assert one.score is not None
    assert one.ms_per_batch is not None
    small = tenfold.compress(MODEL, params="2x", format="svd").model
    both = api.side_by_side({"dense": (MODEL, data()), "small": (small, None)})
    assert (both["dense"].score, both["small"].score) == (one.score, None)
    assert both["dense"].macs == one.macs
    assert tenfold.evaluate(MODEL).macs is None


def test_inputs_in_words() -> None:
    x = api.parse_inputs(["3x4x5"])
    assert x.shape == (64, 3, 4, 5)
    assert torch.equal(x[0], x[63])
    named = api.parse_inputs(["ids=7:int64", "mask=7:bool"])
    assert {key: (tuple(value.shape), value.dtype) for key, value in named.items()} == {
        "ids": ((64, 7), torch.int64),
        "mask": ((64, 7), torch.bool),
    }
    assert [tuple(part.shape) for part in api.parse_inputs(["3", "4"])] == [(64, 3), (64, 4)]
    for wrong in (["3x"], ["x3"], ["3x0"], ["a=3", "4"], ["3:int3"]):
        with pytest.raises(TenfoldError):
            api.parse_inputs(wrong)


@pytest.mark.parametrize(("format", "rule"), [("svd", {"energy": 0.5}), ("ht2", {"energy": 0.8}), ("tt", {"ranks": 3})])
def test_rules_in_place_of_budgets(format: str, rule: dict[str, Any]) -> None:
    result = tenfold.compress(MODEL, inputs=X, format=format, **rule)
    expected = api.predicted(MODEL, result.plan, inspect(MODEL, X[:1], repeats=1))
    assert result.report.ratio.params == expected.ratio.params > 1
    assert result.report.ratio.macs == expected.ratio.macs


# ---- what a first reader broke
def test_a_network_that_takes_steps_first_keeps_its_budget() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=False)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    result = tenfold.compress(model, inputs=torch.randn(12, 3, 16), macs="1.3x", format="svd")
    assert result.report.ratio.macs is not None
    assert result.report.ratio.macs >= 1.3
    assert tenfold.inspect(model, torch.randn(12, 3, 16)).batch == 3
    assert tenfold.compress(model, inputs=torch.randn(12, 3, 16), params="1.3x", format="svd", batch=4).plan.batch == 4


def test_a_table_alone_has_words_for_its_multiply_adds() -> None:
    model = nn.Sequential(nn.Embedding(500, 16))
    result = tenfold.compress(model, inputs=torch.randint(0, 500, (2, 5)), params="4x", format="svd")
    assert "The dense network takes no multiply-adds a sample; the compressed one does." in result.words


def test_a_plan_file_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(TenfoldError, match="nothing is called 'Batch'; did you mean 'batch'"):
        tenfold.Plan.from_yaml("schema: 1\nlayers: {}\nBatch: 4")


def test_a_module_with_several_weights_is_named_by_a_pattern() -> None:
    model = nn.Sequential(nn.GRU(8, 8))
    with pytest.raises(TenfoldError, match=r"'0' has several weights; write '0\.\*' for all of them"):
        tenfold.plan(model, tenfold.inspect(model), params="2x", exclude=["0"])
