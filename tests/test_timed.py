"""Stages chosen by time: the fastest that was measured, within what the budgets allow, with the reason."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import tenfold
from tenfold import api
from tenfold.planning import timed
from tenfold.planning.asked import formats_asked
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, decompose, sites


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 40)).eval()


def with_clock(monkeypatch: pytest.MonkeyPatch, clock: Any) -> None:
    """Let `clock(partition)` say the milliseconds of every candidate."""

    def milliseconds(*given: Any) -> Mapping[Any, float]:
        return {timed.DENSE: 5.0, **{partition: clock(partition) for partition in given[3]}}

    monkeypatch.setattr(timed, "milliseconds", milliseconds)


def planned(inputs: Any, **asked: Any) -> Plan:
    model = network()
    return tenfold.plan(model, tenfold.inspect(model, torch.randn(1, 3, 8, 8)), inputs=inputs, **asked)


def test_the_fastest_stages_are_planned_with_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    with_clock(monkeypatch, len)
    plan = planned(torch.randn(6, 3, 8, 8), ranks=2, format="conv=tt(window=h w),linear=svd")
    assert plan.batch == 6
    assert Plan.from_yaml(plan.to_yaml()) == plan
    assert [len(row.stages) for row in plan.rows.values()] == [1, 1]
    assert plan.rows["0"].reason.endswith("; the weight rebuilt at 1 ms, dense 5 ms, 3 stages 3 ms")
    assert plan.rows["3"].reason.endswith("; the weight rebuilt at 1 ms, dense 5 ms, 2 stages 2 ms")
    assert decompose(network(), plan)(torch.randn(2, 3, 8, 8)).shape == (2, 40)


def test_a_little_faster_is_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    before = tenfold.plan(model, tenfold.inspect(model, torch.randn(1, 3, 8, 8)), params="3x", format="svd")
    kept = {row.stages for row in before.rows.values()}
    with_clock(monkeypatch, lambda partition: 1.0 if partition in kept else 0.96)
    after = planned(torch.randn(2, 3, 8, 8), params="3x", format="svd")
    assert [row.stages for row in after.rows.values()] == [row.stages for row in before.rows.values()]


@pytest.mark.parametrize("clock", [len, lambda partition: -len(partition)])
def test_a_budget_on_multiply_adds_holds_whatever_is_fastest(monkeypatch: pytest.MonkeyPatch, clock: Any) -> None:
    with_clock(monkeypatch, lambda partition: 10.0 + clock(partition))
    model, x = network(), torch.randn(2, 3, 8, 8)
    plan = planned(x, params="3x", macs="2x", format="tt", max_error=1)
    small = decompose(model, plan)
    macs = [tenfold.inspect(net, x[:1]).macs or 0 for net in (model, small)]
    assert macs[0] >= 2 * macs[1]


def test_candidates_are_timed_for_real() -> None:
    plan = planned(torch.randn(2, 3, 8, 8), ranks=2, format="svd")
    for name in ("0", "3"):
        row = plan.rows[name]
        site = sites(network())[name]
        every = [stages.partition for stages in site.evaluations(row.network(site.axes))]
        assert row.stages in every
        assert " ms, dense " in row.reason


def test_a_module_that_is_never_called_keeps_its_stages() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    model, x = Idle().eval(), torch.randn(3, 8)
    rows = {name: Row(name, "svd", ranks=(2,), stages=((0,), (1,))) for name in ("used", "idle")}
    found = timed.with_fastest_stages(model, Plan(rows), tenfold.inspect(model, x), x)
    assert found.rows["idle"] == rows["idle"]
    assert "ms" in found.rows["used"].reason


def test_a_batch_needs_inputs_and_no_plan() -> None:
    model = network()
    with pytest.raises(TenfoldError, match="stages for a batch of 4 are timed on inputs; give inputs"):
        api.planned(model, tenfold.inspect(model), batch=4, params="2x")
    with pytest.raises(TenfoldError, match="a plan was given and batch too; give one or the other"):
        tenfold.compress(model, plan=Plan({}), batch=4)


def test_a_batch_is_made_of_few_samples() -> None:
    result = tenfold.compress(network(), inputs=torch.randn(1, 3, 8, 8), params="2x", format="svd", batch=5)
    assert result.plan.batch == 5


@pytest.mark.parametrize("batch", [0, -1, "many", True])
def test_a_plan_for_no_batch_is_refused(batch: Any) -> None:
    with pytest.raises(TenfoldError, match="stands where a whole number of samples from 1 or nothing belongs"):
        Plan.from_yaml(f"schema: 1\nbatch: {str(batch).lower()}\nlayers: {{}}\n")


# ---- hybrid
def test_hybrid_is_a_tree_on_matrices_and_a_train_on_kernels() -> None:
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 1), nn.Flatten(), nn.Linear(64, 48)).eval()
    plan = tenfold.plan(model, tenfold.inspect(model), ranks=2, format="hybrid")
    assert [row.format for row in plan.rows.values()] == ["tt", "ht", "ht"]
    assert plan.rows["0"].options["layout"] == "pairs"


def test_hybrid_for_one_kind_leaves_the_others() -> None:
    assert set(formats_asked("conv=hybrid")) == {"conv"}
    with pytest.raises(TenfoldError, match="no format is called 'hybrid'"):
        formats_asked("hybrid(order=2)")
