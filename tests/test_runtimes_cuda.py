"""Networks on a GPU: recorded as graphs, timed in them, and in coarser types."""

import pytest
import torch
from torch import nn

import tenfold
from tenfold.inputs import inputs_for
from tenfold.measure import Clock
from tenfold.measure.runtimes import prepared, rounding, runtime_timings, runtimes_on
from tenfold.surgery.plan import CUDA_GRAPH, EAGER

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")


def network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(32 * 16, 5)
    return nn.Sequential(*layers).eval().to("cuda", dtype)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_graph_gives_what_the_network_gives(dtype: torch.dtype) -> None:
    model, x = network(dtype), torch.randn(2, 8, 8, 8, device="cuda", dtype=dtype)
    with torch.no_grad():
        found = prepared(CUDA_GRAPH, model, inputs_for(model, x))()
        assert torch.allclose(found, model(x), atol=rounding(found))
    times, refused = runtime_timings({"net": model}, x, [EAGER, CUDA_GRAPH], repeats=3)
    assert set(times) == {("net", EAGER), ("net", CUDA_GRAPH)}
    assert not refused


@gpu
def test_plans_by_a_clock_of_graphs() -> None:
    model, x = network(torch.float32), torch.randn(4, 8, 8, 8, device="cuda")
    clock = Clock.of(model, x, CUDA_GRAPH)
    plan = tenfold.plan(model, tenfold.inspect(model, x), params="2x", clock=clock, inputs=x)
    assert plan.runtime == CUDA_GRAPH
    assert all(seconds > 0 for seconds in clock.known.values())


def test_what_another_order_of_sums_may_change() -> None:
    assert rounding(torch.zeros(1)) == rounding(torch.zeros(1, dtype=torch.int64)) == 1e-5
    assert rounding(torch.zeros(1, dtype=torch.float64)) == 1e-5
    assert 1e-5 < rounding(torch.zeros(1, dtype=torch.float16)) < rounding(torch.zeros(1, dtype=torch.bfloat16)) < 0.1


def test_runtimes_of_a_device() -> None:
    assert runtimes_on("cpu") == ["eager", "compile", "onnxruntime"]
    assert runtimes_on("cuda") == ["eager", "compile", "cuda-graph"]
