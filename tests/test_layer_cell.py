"""Cells: in any format and any stages a cell is torch's module, with a batch and without, one step or many."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from tenfold import formats
from tenfold.layers import Cell, FactoredWeight
from tenfold.measure import macs
from tenfold.network import partitions_of, random_cores

CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
FORMATS = ("svd", "tt", "ht", "tucker", "cp")


def factored(weight: Tensor, name: str, seed: int, one_stage: bool) -> FactoredWeight:
    maker = formats.format_named(name)
    net = maker.network({"o": weight.shape[0], "i": weight.shape[1]})
    cores = random_cores(net, 0.3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    partition = list(partitions_of(net))[0 if one_stage else -1]
    return FactoredWeight(net, cores, partition)


def states(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(CELLS), st.sampled_from(FORMATS), st.sampled_from(["weight_ih", "weight_hh", "both"]),
    st.booleans(), st.booleans(), st.booleans(), st.integers(0, 9),
)  # fmt: skip
def test_a_cell_in_cores_is_torchs_cell(
    build: Any, name: str, which: str, bias: bool, batched: bool, one_stage: bool, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    dense = build(4, 6, bias=bias).double()
    chosen = ("weight_ih", "weight_hh") if which == "both" else (which,)
    weights = {part: factored(getattr(dense, part), name, seed, one_stage) for part in chosen}
    layer = Cell.from_dense(dense, weights).eval()
    with torch.no_grad():
        for part, weight in weights.items():
            getattr(dense, part).copy_(weight.in_axes())
    lowered = layer.lower()
    state: Any = None
    x = torch.randn((3, 4) if batched else (4,), generator=draw, dtype=torch.float64)
    for _ in range(3):
        wanted = dense(x, state)
        for form in (layer, lowered):
            for one, other in zip(states(form(x, state)), states(wanted), strict=True):
                assert torch.allclose(one, other, atol=1e-12)
        state = wanted


class Stepping(nn.Module):
    """A network that steps through a sequence by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return self.head(state[0])


def test_a_network_of_cells_is_compressed_counted_and_loaded(tmp_path: Any) -> None:
    model, x = Stepping().eval(), torch.randn(5, 7, 8)
    counted = macs(model, x)
    assert counted.weights["cell.weight_ih"].macs == 7 * 64 * 8
    assert counted.weights["cell.weight_hh"].macs == 7 * 64 * 16
    assert counted.other == 0
    result = tenfold.compress(model, inputs=x, params="1.5x", macs="1.5x", format="svd")
    assert result.report.ratio.macs is not None
    assert result.report.ratio.macs >= 1.5
    tenfold.save(result, tmp_path / "out")
    assert torch.equal(tenfold.load(tmp_path / "out", model=Stepping())(x), result.model(x))


@pytest.mark.parametrize("form", ["layer", "lowered"])
def test_sizes_that_do_not_go_together_are_refused(form: str) -> None:
    dense = nn.GRUCell(4, 6).double()
    layer = Cell.from_dense(dense, {"weight_ih": factored(dense.weight_ih, "svd", 0, False)})
    cell = layer if form == "layer" else layer.lower()
    with pytest.raises(RuntimeError, match="expected 4 features, got 5"):
        cell(torch.zeros(2, 5, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"expected a hidden state of \[2, 6\]"):
        cell(torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64))
