"""The calibration where the network is on a GPU and batches come on the CPU: nothing else may be seen of it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import tenfold
from tenfold.inputs import Inputs, call, first_samples
from tenfold.protocols import Data
from tenfold.recovery import reconstruct
from tenfold.recovery.reconstruction import Refinement
from tenfold.recovery.reconstruction.shelf import Shelf
from tenfold.statistics import Statistics, gather
from tenfold.surgery import sites

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU"),
    # cuDNN would have all weights in one piece; those of a recurrence are computed at every call
    pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk:UserWarning"),
]
DEVICE = torch.device("cuda:0")
HOW = Refinement(steps=8, batch=16)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def packed(*lengths: int) -> PackedSequence:
    return pack_padded_sequence(noise(max(lengths), len(lengths), 4), torch.tensor(lengths), enforce_sorted=False)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.unit, self.out = (
            nn.Embedding(9, 6, padding_idx=0),
            nn.LSTM(6, 6, bidirectional=True),
            nn.Linear(12, 5),
        )

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.out(self.unit(self.table(ids))[0].tanh())
        return y


class OfPacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unit, self.out = nn.LSTM(4, 6), nn.Linear(6, 5)

    def forward(self, x: PackedSequence) -> Tensor:
        y: Tensor = self.out(self.unit(x)[0].data)
        return y


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def tokens() -> nn.Module:
    layers = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(2)]
    return nn.Sequential(nn.Linear(6, 8), *layers, nn.Linear(8, 4))


CASES: dict[str, tuple[Any, Inputs]] = {
    "images": (images, Inputs(noise(40, 2, 6, 6), (0,))),
    "tokens": (tokens, Inputs(noise(40, 5, 6), (0,))),
    "recurrent": (Recurrent, Inputs(torch.randint(9, (7, 40), generator=torch.Generator().manual_seed(0)), (1,))),
    "packed": (OfPacked, Inputs((packed(3, 5, 2),), (None,) * 4)),
}


def made(name: str) -> tuple[nn.Module, list[Inputs]]:
    """A network in double on the CPU, and chunks there."""
    build, whole = CASES[name]
    model = build().double().eval()
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=k) * 0.4)
    return model, [whole.at(range(k, k + 8)) for k in range(0, 40, 8)] if whole.is_cut else [whole, whole]


def moments(found: Statistics) -> dict[str, Tensor]:
    return {f"{name} {key}": m for name, metric in found.metrics.items() for key, m in metric.moments.items()}


def planned(model: nn.Module) -> tenfold.Plan:
    return tenfold.Plan({name: tenfold.Row(name, "svd", ranks=(2,)) for name in sites(model)})


def on(chunks: list[Inputs]) -> list[Inputs]:
    return [chunk.to(DEVICE) for chunk in chunks]


@pytest.mark.parametrize("name", CASES)
def test_statistics_and_what_is_fitted_by_them_are_those_of_the_cpu(name: str) -> None:
    model, chunks = made(name)
    there = copy.deepcopy(model).to(DEVICE)
    here, found = gather(model, chunks), gather(there, on(chunks))
    assert moments(here).keys() == moments(found).keys()
    for key, moment in moments(here).items():
        assert moments(found)[key].device.type == "cpu"
        assert torch.allclose(moments(found)[key], moment, rtol=1e-5, atol=1e-6 * float(moment.abs().max()))
    plan = planned(model)
    small, ours = tenfold.decompose(model, plan, statistics=here), tenfold.decompose(there, plan, statistics=found)
    assert {parameter.device for parameter in ours.parameters()} == {DEVICE}
    with torch.no_grad():
        ends = call(small, chunks[0].value), call(ours, on(chunks)[0].value)
    assert torch.dist(ends[0], ends[1].cpu()) <= 0.01 * ends[0].norm()


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_refined_there_within_any_budget(name: str) -> None:
    model, chunks = made(name)
    dense, chunks = model.to(DEVICE), on(chunks)
    ends = []
    for memory in (None, None, 0, 20_000):
        small = tenfold.decompose(dense, planned(dense))
        assert all(step.loss >= 0 for step in reconstruct(dense, small, chunks, how=HOW, memory=memory))
        assert {parameter.device for parameter in small.parameters()} == {DEVICE}
        ends.append(small.state_dict())
    for other in ends[1:]:
        for key, value in ends[0].items():
            assert torch.allclose(value, other[key], rtol=1e-6, atol=1e-9)  # (some gradients are summed in any order)


def test_what_does_not_fit_the_device_lies_on_the_host_and_comes_back() -> None:
    x = noise(4, 3, 2).to(DEVICE).mT
    shelf = Shelf(0)
    found = shelf.keep({"x": x})["x"]
    assert found.device.type == "cpu"
    assert found.stride() == x.stride()
    assert shelf.out(found).device == shelf.home(found) == DEVICE
    assert torch.equal(shelf.out(found), x)
    assert Shelf(10**6).keep(x) is x


def test_batches_come_on_the_cpu_and_all_of_it_runs() -> None:
    model, _ = made("images")
    x, y = CASES["images"][1].value, torch.arange(40) % 10
    batches = list(zip(x.split(10), y.split(10), strict=True))
    data = Data(train=batches, inputs=x.split(10), validation=batches[:1], test=batches[2:])
    assert all(
        chunk.value.device == DEVICE for chunk in first_samples(copy.deepcopy(model).to(DEVICE), x.split(10), 30)
    )
    result = tenfold.compress(model, data, params="1.5x", format="svd", calibrate=30, distil=2, device=DEVICE)
    assert {parameter.device for parameter in result.model.parameters()} == {DEVICE}
    assert next(model.parameters()).device.type == "cpu"
