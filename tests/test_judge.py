"""What networks of a search are judged by: scores, agreement, or errors of the outputs."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tenfold.api.calibrate import Calibrated, calibrated
from tenfold.api.judge import Judge, judge_of
from tenfold.measure.score import score
from tenfold.protocols import Data
from tenfold.tasks import Objective

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))


class Pair(nn.Module):
    """Two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": self.a(x), "b": self.b(x)}


def data_of(**more: Any) -> Data:
    return Data(**{"train": [], "inputs": X.split(16), "validation": [], "test": [], **more})


def noisy(model: nn.Module, size: float, *names: str) -> nn.Module:
    """Weights with noise; those whose names begin so, where names are given."""
    small, draw = copy.deepcopy(model), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in small.named_parameters():
            if not names or name.startswith(names):
                weight += size * torch.randn(weight.shape, generator=draw)
    return small


def known_of(model: nn.Module, data: Data | None) -> Calibrated:
    found = calibrated(model, data, X.split(16), 32, seed=0, profile=None)
    assert found is not None
    return found


def further(model: nn.Module) -> Tensor:
    """Outputs for what is not calibrated on."""
    with torch.no_grad():
        found: Tensor = model(X[32:])
    return found


@pytest.mark.parametrize("task", ["classification", None])
def test_without_labels_classes_agree_with_those_of_the_dense_network(task: str | None) -> None:
    model = nn.Linear(5, 4)
    data = None if task is None else data_of(task=task)
    judge = judge_of(model, data, known_of(model, data))
    small = noisy(model, 0.3)
    differ = (further(model).argmax(1) != further(small).argmax(1)).double().mean()
    assert judge.loss(model) == 0
    assert judge.loss(small) == pytest.approx(100 * float(differ), abs=1e-12)
    assert 0 < differ < 1
    assert (judge.name, judge.in_points) == ("agreement with the dense network", True)
    assert math.isnan(judge.loss(noisy(model, math.nan)))


@pytest.mark.parametrize(("task", "columns"), [("regression", 4), ("regression", 1), ("classification", 1), (None, 1)])
def test_without_classes_outputs_are_judged_by_their_relative_error(task: str | None, columns: int) -> None:
    model = nn.Linear(5, columns)
    data = None if task is None else data_of(task=task)
    judge = judge_of(model, data, known_of(model, data))
    small = noisy(model, 0.1)
    wanted = further(model).double()
    each = [
        ((further(small) - wanted)[at : at + 16].norm() / wanted[at : at + 16].norm()) ** 2 for at in range(0, 32, 16)
    ]
    assert judge.loss(model) == 0
    assert judge.loss(small) == pytest.approx(100 * math.sqrt(float(sum(each)) / 2), rel=1e-5)
    assert (judge.name, judge.in_points) == ("relative error of the outputs", True)
    assert not math.isfinite(judge.loss(noisy(model, math.nan)))


def test_only_the_output_that_counts_is_judged() -> None:
    model = Pair()
    for output, name in (("a", "agreement"), ("b", "relative error")):
        data = data_of(output=output)
        judge = judge_of(model, data, known_of(model, data))
        assert judge.name.startswith(name)
        other = "b" if output == "a" else "a"
        assert judge.loss(noisy(model, 3.0, other)) == 0
        assert judge.loss(noisy(model, 3.0, output)) > 0


@pytest.mark.parametrize("lower", [True, False])
def test_a_worse_score_is_a_loss_whichever_way_it_counts(lower: bool) -> None:
    model = nn.Linear(5, 2)
    with torch.no_grad():
        data = data_of(task="regression", score=None if lower else "R2", validation=[(X, model(X))])
    small = noisy(model, 0.1)
    judge = judge_of(model, data, None)
    worse = abs((score(small, data.validation, data) or 0) - (score(model, data.validation, data) or 0))
    assert judge.loss(small) == worse > 0
    assert judge.most(0.25) == f"at most 0.25 of {Objective.of(data).score.name} on validation data"


def test_marks_tell_validation_data_apart() -> None:
    model = nn.Linear(5, 2)
    targets = torch.zeros(64, dtype=torch.long)
    datas = [
        data_of(validation=[(x, t)])
        for x, t in ((X, targets), (X[:9], targets[:9]), (X, targets + 1), (X + 1, targets))
    ]
    marks = [judge_of(model, each, None).mark for each in datas]
    assert all(a != b for at, a in enumerate(marks) for b in marks[:at])
    assert marks[0] == judge_of(model, datas[0], None).mark


@pytest.mark.parametrize(
    ("in_points", "loss", "shown"),
    [
        (True, 0.294, "0.29"),
        (True, -0.001, "nothing"),
        (True, 0.0, "nothing"),
        (True, -2.0, "nothing"),
        (True, 12.5, "12.50"),
        (False, 0.00294, "0.00294"),
        (False, -0.1, "nothing"),
    ],
)
def test_losses_are_shown_in_the_digits_of_the_score(in_points: bool, loss: float, shown: str) -> None:
    judge = Judge("top-1", in_points, lambda _: 0.0, "")
    assert judge.shown(loss) == shown
    assert judge.most(0.5) == ("at most 0.5 points of top-1" if in_points else "at most 0.5 of top-1")
