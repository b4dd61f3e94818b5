"""Networks in other runtimes: the same outputs, or not at all; compiled only where that is faster."""

import logging
import time
from typing import Any

import pytest
import torch
from torch import nn

import tenfold
from tenfold.measure import runtimes
from tenfold.measure.runtimes import runtime_timings
from tenfold.protocols import TenfoldError
from tenfold.report import RuntimeTimes, runtimes_table
from tenfold.surgery.plan import COMPILE, EAGER, ONNXRUNTIME


def network(seconds: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Waits(seconds), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5)).eval()


class Waits(nn.Module):
    """Takes so long."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return x


class Quick(nn.Module):
    """The same without waiting, and with something added."""

    def __init__(self, model: nn.Module, added: float = 0.0) -> None:
        super().__init__()
        self.rest, self.added = nn.Sequential(*list(model.children())[1:]), added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.rest(x)
        return made + self.added


X = torch.randn(2, 3, 6, 6)


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_compiled_where_that_is_faster(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    model = network(seconds)
    monkeypatch.setattr(runtimes, "compiled", Quick if seconds else (lambda model: nn.Sequential(Waits(0.01), model)))
    fast = tenfold.lower(model, inputs=X, compile=True)
    assert isinstance(fast, Quick) == bool(seconds)
    assert torch.allclose(fast(X), model(X), atol=1e-6)


def test_what_gives_something_else_or_fails_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = network(0.01)

    def broken(model: nn.Module) -> nn.Module:
        raise ImportError("no compiler\nhere")

    for compiled, words in ((lambda m: Quick(m, 1e-2), "other outputs"), (broken, "ImportError: no compiler.")):
        monkeypatch.setattr(runtimes, "compiled", compiled)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            plain = tenfold.lower(model, inputs=X, compile=True)
        assert not isinstance(plain, Quick)
        assert words in caplog.text
    with pytest.raises(TenfoldError, match="give a batch as inputs="):
        tenfold.lower(model, compile=True)


def test_side_by_side_with_onnxruntime(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(runtimes, "compiled", lambda model: Quick(nn.Sequential(nn.Identity(), model), 1.0))

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": self.linear(x + y), "first": self.linear(x)}

    inputs: Any = {"y": torch.randn(3, 6), "x": torch.randn(3, 6)}
    times, refused = runtime_timings({"a": Named().eval()}, inputs, repeats=3)
    assert set(times) == {("a", EAGER), ("a", ONNXRUNTIME)}
    assert set(refused) == {("a", COMPILE)}
    assert all(record.levelno < logging.WARNING for record in caplog.records)

    found = RuntimeTimes.of({"net": network()}, tenfold.inputs.inputs_for(network(), X))
    assert runtimes_table(found).row_count == 2
    assert any("net runs fastest" in words for words in found.sentences)
    assert any("compile gives other outputs" in words for words in found.sentences)
    assert {each["runtime"] for each in found.document()} == {EAGER, COMPILE, ONNXRUNTIME}
