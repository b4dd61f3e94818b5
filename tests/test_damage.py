"""What a network loses: how far outputs went, no weight given up, recurrent matrices dearer, budgets of what runs."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from tenfold.api import predicted
from tenfold.layers.recurrence import MOST_STEPS
from tenfold.measure import inspect, output_errors, params
from tenfold.planning import ErrorCurves
from tenfold.protocols import TenfoldError
from tenfold.report import layer_rows
from tenfold.surgery import decompose, lower, sites


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- how far outputs went
class Pair(NamedTuple):
    logits: Any
    state: Any


@dataclass
class Answer:
    logits: Any
    state: Any


CONTAINERS = [Pair, Answer, lambda a, b: {"logits": a, "state": b}]


@given(st.floats(0.01, 3), st.integers(2, 5), st.integers(2, 5), st.integers(0, 99))
def test_outputs_are_compared_as_defined(size: float, n: int, classes: int, seed: int) -> None:
    before, noise = drawn(n, classes, seed=seed), size * drawn(n, classes, seed=seed + 100)
    error = output_errors(before, before + noise)["output"]
    assert error.relative_error == pytest.approx(float(noise.norm() / before.norm()))
    after = before + noise
    assert error.cosine == pytest.approx(float((before * after).sum() / before.norm() / after.norm()))
    assert error.agreement == pytest.approx(float((before.argmax(1) == after.argmax(1)).double().mean()))
    grown = output_errors(before, (1 + size) * before)["output"]
    assert grown.relative_error == pytest.approx(size)
    assert (grown.cosine, grown.agreement) == (pytest.approx(1.0), 1.0)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((7,), None), ((3, 5), 1), ((3, 1), None), ((2, 4, 6), 2), ((2, 3, 4, 4), 1), ((2, 3, 2, 2, 2), 1)],
)
def test_the_largest_entry_is_that_of_a_class_or_a_token(shape: tuple[int, ...], axis: int | None) -> None:
    error = output_errors(drawn(*shape), drawn(*shape))["output"]
    assert error.axis == axis
    assert error.agreement == (None if axis is None else 1.0)


@pytest.mark.parametrize("made", CONTAINERS)
def test_every_floating_tensor_of_any_outputs_is_compared_by_its_name(made: Any) -> None:
    a, b = drawn(2, 3), drawn(2, 4, seed=1)
    before = made(a, [(b, torch.arange(3)), {"more": a}, None])
    after = made(2 * a, [(b, torch.arange(3) + 1), {"more": -a}, None])
    found = output_errors(before, after)
    assert {name: error.relative_error for name, error in found.items()} == {
        "logits": pytest.approx(1.0), "state.0.0": 0.0, "state.1.more": pytest.approx(2.0),
    }  # fmt: skip


def test_what_is_not_finite_is_masked_before_and_lost_after() -> None:
    before = torch.tensor([[1.0, 2.0, -torch.inf], [2.0, 1.0, -torch.inf]])
    assert output_errors(before, before)["output"].relative_error == 0.0
    assert output_errors(before, before)["output"].agreement == 1.0
    broken = output_errors(before, torch.full((2, 3), torch.nan))["output"]
    assert (broken.relative_error, broken.cosine) == (1.0, 0.0)
    assert output_errors(torch.zeros(2, 3), torch.zeros(2, 3))["output"].cosine == 1.0
    assert output_errors(before, before[:1])["output"].relative_error is None


def test_compress_says_that_it_destroyed_a_network_and_which_layers(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(48, 48, bias=False), nn.Tanh(), nn.Linear(48, 48, bias=False)).double()
    x = drawn(16, 48)
    result = tenfold.compress(model, inputs=x, ranks=1, format="svd")
    small = result.model
    error = result.report.compressed.outputs["output"]
    assert error.relative_error == pytest.approx(
        float(torch.dist(small(x), model(x)).detach() / model(x).norm().detach())
    )
    assert result.words[0].startswith("DESTROYED: next to nothing of the dense network is left in the outputs")
    assert "ALMOST NOTHING IS LEFT of the weights of 0, 2" in result.words[1]
    tenfold.save(result, tmp_path / "small")
    page = (tmp_path / "small" / "README.md").read_text()
    assert all(f"- {sentence}\n" in page for sentence in result.words)
    kept = tenfold.compress(model, inputs=x, ranks=40, format="svd")
    assert not any("DESTROYED" in each or "ALMOST" in each for each in kept.words)
    assert "was not measured" in " ".join(tenfold.compress(model, ranks=4, format="svd").words)


# ---- no weight is given up
def decaying(rows: int, columns: int, fall: float, seed: int) -> Tensor:
    """A matrix whose singular values fall like exp(-fall k)."""
    u = torch.linalg.qr(drawn(rows, rows, seed=seed))[0]
    v = torch.linalg.qr(drawn(columns, columns, seed=seed + 1))[0]
    count = min(rows, columns)
    return u[:, :count] @ torch.diag(torch.exp(-fall * torch.arange(count).double())) @ v[:count]


def uneven() -> nn.Sequential:
    """One large matrix with a flat spectrum, which a sum of squares that caps at 1 gives up, among falling ones."""
    model = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 96), nn.Linear(96, 16)).double()
    with torch.no_grad():
        for layer, fall in zip(model, (0.04, 0.0, 0.04), strict=True):
            layer.weight.copy_(decaying(*layer.weight.shape, fall, seed=3))
    return model.eval()


MODEL = uneven()
PROFILE = inspect(MODEL, drawn(1, 64), repeats=1)
CURVES = ErrorCurves(PROFILE.weights_hash)


def worst(plan: Any, model: nn.Module = MODEL) -> float:
    return max(row.rel_error or 0.0 for row in layer_rows(model, decompose(model, plan), plan))


def test_a_layer_that_was_given_up_no_longer_is() -> None:
    """At 3x the flat matrix was cut to rank 1, its relative error 0.99; now it keeps what others can spare."""
    given_up = tenfold.plan(MODEL, PROFILE, params="3x", format="svd", curves=CURVES, max_error=1)
    assert worst(given_up) > 0.98
    assert given_up.rows["1"].ranks == (1,)
    kept = tenfold.plan(MODEL, PROFILE, params="3x", format="svd", curves=CURVES)
    assert worst(kept) <= 0.9
    assert predicted(MODEL, kept, PROFILE).ratio.params >= 3


@settings(max_examples=15, deadline=None)
@given(st.floats(0.3, 1.0), st.floats(1.1, 8.0), st.sampled_from(["svd", "tt", "svd,ht", "cp"]))
def test_no_weight_errs_more_than_the_cap_or_the_budget_is_refused(cap: float, ratio: float, format: str) -> None:
    asked = {"format": format, "curves": CURVES, "max_error": cap}
    try:
        plan = tenfold.plan(MODEL, PROFILE, params=ratio, **asked)
    except TenfoldError as error:
        assert cap == 1 or f"no weight's relative error above {cap:g} (--max-error) is" in str(error)  # noqa: PT017
        reachable = float(str(error).split(" is ")[1].rstrip("x."))
        assert reachable < ratio
        if reachable > 1:
            assert (
                predicted(MODEL, tenfold.plan(MODEL, PROFILE, params=reachable, **asked), PROFILE).ratio.params
                >= reachable
            )
        return
    estimated = 0.05 if format == "cp" else 1e-9  # true fits at a few ranks, interpolated
    assert worst(plan) <= cap + estimated
    assert predicted(MODEL, plan, PROFILE).ratio.params >= ratio * (1 - 1e-9)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"max_error": 0}, "max_error 0 is no relative error above 0 and up to 1"),
        ({"max_error": 1.5}, "max_error 1.5 is no relative error"),
        (
            {"max_error": 0.5, "allocation": "uniform"},
            "--max-error limits what budgets choose, and --allocation uniform",
        ),
        ({"max_error": 0.5, "params": None, "ranks": 3}, "--max-error limits what budgets choose, and --ranks"),
    ],
)
def test_caps_that_say_nothing_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(TenfoldError, match=words):
        tenfold.plan(MODEL, PROFILE, **{"params": "2x", "format": "svd", **asked})


# ---- errors that come back
class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(32, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y


@pytest.mark.parametrize(("steps", "gain"), [(None, MOST_STEPS), (1, 1), (5, 5), (400, MOST_STEPS)])
def test_an_error_of_a_recurrent_matrix_counts_once_a_step(steps: int | None, gain: int) -> None:
    model = Reader()
    profile = inspect(model, None if steps is None else torch.zeros(2, steps, 32), repeats=1)
    row = profile.layers["lstm.weight_hh_l0"]
    assert sites(model)["lstm.weight_hh_l0"].error_gain(row.positions, row.calls) == gain
    assert sites(model)["lstm.weight_ih_l0"].error_gain(row.positions, row.calls) == 1


def test_a_cell_is_called_once_a_step() -> None:
    assert sites(nn.GRUCell(8, 8))["model.weight_hh"].error_gain({"tokens": (1, 1)}, 7) == 7
    assert sites(nn.GRUCell(8, 8))["model.weight_ih"].error_gain({"tokens": (1, 1)}, 7) == 1


@pytest.mark.parametrize("x", [None, torch.zeros(2, 40, 32)])
def test_of_two_equal_matrices_the_recurrent_one_is_spared(x: Tensor | None) -> None:
    model = Reader().eval()
    with torch.no_grad():
        model.lstm.weight_ih_l0.copy_(decaying(128, 32, 0.05, seed=1))
        model.lstm.weight_hh_l0.copy_(model.lstm.weight_ih_l0)
    plan = tenfold.plan(model, inspect(model, x, repeats=1), params="1.6x", format="svd")
    errors = {row.name: row.rel_error or 0.0 for row in layer_rows(model, decompose(model, plan), plan)}
    assert errors["lstm.weight_hh_l0"] < errors["lstm.weight_ih_l0"] <= 0.9


# ---- what runs
class Words(nn.Module):
    """An embedding, a recurrence and an output layer, tied or not."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(120, 32)
        self.lstm = nn.LSTM(32, 32, batch_first=True)
        self.out = nn.Linear(32, 120)
        if tied:
            self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.out(self.lstm(self.table(ids))[0])
        return y


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.Flatten(), nn.Linear(384, 20)
    )


NETWORKS = {
    "words": (lambda: Words(tied=False), torch.zeros(2, 9, dtype=torch.long)),
    "tied": (lambda: Words(tied=True), torch.zeros(2, 9, dtype=torch.long)),
    "pictures": (convolutional, torch.zeros(2, 3, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("format", ["svd", "tt"])
@pytest.mark.parametrize("ratio", [1.15, 1.5])
def test_a_budget_on_what_runs_holds_for_the_lowered_network(name: str, format: str, ratio: float) -> None:
    build, x = NETWORKS[name]
    model = build().eval()
    try:
        plan = tenfold.plan(model, inspect(model, x, repeats=1), deployed_params=ratio, format=format, max_error=1)
    except TenfoldError as error:
        assert "deployed_params" in str(error)  # noqa: PT017
        assert "largest reachable ratio" in str(error)  # noqa: PT017
        assert name == "tied"  # each of its places holds tensors of its own
        return
    small = decompose(model, plan)
    assert params(lower(model)) >= ratio * params(lower(small))
    profile = inspect(model, x, repeats=1)
    found = predicted(model, plan, profile).ratio
    folded = params(model) - params(lower(model))
    assert profile.params / found.deployed_params == pytest.approx(params(lower(small)) + folded)


def test_stages_timed_for_a_batch_keep_to_what_may_run() -> None:
    model = convolutional().eval()
    x = torch.zeros(2, 3, 8, 8)
    plan = tenfold.plan(model, inspect(model, x, repeats=1), deployed_params=2, format="svd", max_error=1, inputs=x)
    assert params(lower(model)) >= 2 * params(lower(decompose(model, plan)))


# ---- a part of the network


class TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 48), nn.LayerNorm(48))
        self.head = nn.Linear(48, 40)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(x))
        return y


@pytest.mark.parametrize("of", [["encoder"], ["encoder.*"], ["re:encoder.[03]", "encoder.2"]])
@pytest.mark.parametrize("budget", ["params", "macs", "bytes", "deployed_params"])
def test_a_budget_of_a_part_counts_the_part_alone(of: list[str], budget: str) -> None:
    model = TwoParts().eval()
    result = tenfold.compress(model, inputs=torch.randn(4, 24), **{budget: "1.7x"}, of=of, format="svd")
    report = result.report
    assert report.part is not None
    assert report.part.of == tuple(of)
    assert getattr(report.part, budget) >= 1.7
    assert result.plan.rows["head"].is_dense
    assert all(repr(pattern) in result.plan.rows["head"].reason for pattern in of)
    assert params(model.encoder) / params(result.model.encoder) == pytest.approx(report.part.params)
    assert params(model) / params(result.model) == pytest.approx(report.ratio.params)
    assert report.ratio.params < report.part.params
    assert tenfold.report.Report.from_json(report.to_json()) == report
    assert any(f"{report.part.params:.2f}x parameters (" in sentence for sentence in result.words)


def test_a_part_is_used_to_its_budget() -> None:
    model = TwoParts().eval()
    profile = inspect(model, torch.zeros(1, 24), repeats=1)
    plan = tenfold.plan(model, profile, params="2x", of=["encoder.*"], format="svd")
    found = predicted(model, plan, profile, of=["encoder.*"]).part
    assert found is not None
    assert 2 <= found.params <= 2.1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"of": ["encodr.*"]}, r"no layer matches 'encodr.\*'; did you mean 'encoder"),
        ({"of": ["encoder"], "layers": {"head": "svd:2"}}, "no layer matches 'head'"),
        ({"of": ["encoder.1"]}, "there is no layer that can be compressed"),
    ],
)
def test_a_part_that_is_not_there_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(TenfoldError, match=words):
        tenfold.compress(TwoParts(), params="2x", **asked)
