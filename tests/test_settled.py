"""The plan of a calibrated run: of two ways to spend the budgets, the one that held-out outputs prefer."""

import pytest
import torch
from torch import nn

import tenfold
from tenfold.api import planned, settled
from tenfold.api.calibrate import Calibrated
from tenfold.inputs import Inputs
from tenfold.statistics import Statistics, gather
from tenfold.statistics.gradients import ALL, floating


class Averaged(nn.Module):
    """The mean over tokens of two layers: errors of the one add up, those of the other have changing signs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.same, self.turned = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs = torch.ones(x.shape[1], dtype=x.dtype)
        signs[1::2] = -1
        found: torch.Tensor = (self.same(x) + signs[:, None] * self.turned(x)).mean(1)
        return found


MODEL = Averaged().double().eval()
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(40, 1, 16, generator=DRAW, dtype=torch.float64) + 0.3 * torch.randn(
    40, 6, 16, generator=DRAW, dtype=torch.float64
)  # tokens of a sample are alike
CHUNKS = [Inputs(X[:16], (0,)), Inputs(X[16:32], (0,))]
STATISTICS = gather(MODEL, CHUNKS)
KNOWN = Calibrated(CHUNKS, floating, ALL, [Inputs(X[32:36], (0,)), Inputs(X[36:], (0,))], STATISTICS)
PROFILE = tenfold.inspect(MODEL, X[:1])
ASKED = {"params": "2x", "format": "svd"}


def test_without_slopes_costs_differ_by_a_factor_a_weight_alone() -> None:
    apart = STATISTICS.position_by_position
    assert apart.position_by_position == apart
    ratios = []
    for name, metric in STATISTICS.metrics.items():
        own, other = metric.moments, apart.metrics[name].moments
        assert own.keys() == other.keys()
        factors = torch.stack([own[key].sum() / other[key].sum() for key in own])
        assert all(torch.allclose(own[key], f * other[key]) for key, f in zip(own, factors, strict=True))
        ratios.append(float(factors.prod()))
    assert max(ratios) > 1.5 * min(ratios)  # or nothing would be planned otherwise


def test_the_plan_that_errs_less_on_held_out_outputs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(statistics: Statistics, **more: str) -> tenfold.Plan:
        return planned(MODEL, PROFILE, statistics=statistics, **ASKED, **more)

    plans = [made(STATISTICS), made(STATISTICS.position_by_position, allocation="clipped")]
    assert plans[0] != plans[1]
    for wanted in range(2):
        errors = iter([float(at != wanted) for at in range(2)])
        monkeypatch.setattr(settled, "error", lambda *given, left=errors: next(left))
        plan, small = settled.settled(MODEL, PROFILE, KNOWN, **ASKED)
        assert plan == plans[wanted]
        assert small is not None


def test_an_allocation_that_was_asked_for_is_not_settled() -> None:
    plan, small = settled.settled(MODEL, PROFILE, KNOWN, **ASKED, allocation="clipped")
    assert small is None
    assert plan == planned(MODEL, PROFILE, statistics=KNOWN.statistics, **ASKED, allocation="clipped")
