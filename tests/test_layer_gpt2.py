"""GPT-2's linear layer, whose weight lies as (in, out): a stand-in under the name of transformers' own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from tenfold import formats, layers
from tenfold.layers import Layer
from tenfold.surgery import Plan, Row, sites
from test_layers import assert_close, gradients, made, noise, ordered_partitions


class Conv1D(nn.Module):
    """What transformers' class does, in its own words."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf) / nx**0.5)
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight)
        return rows.view(*x.size()[:-1], self.nf)


Conv1D.__module__, Conv1D.__qualname__ = "transformers.pytorch_utils", "Conv1D"
EXACT = [name for name, kind in formats.BUILT_IN.items() if not kind.iterates and name != "cp"]


@settings(max_examples=60)
@given(st.data(), st.sampled_from(EXACT), st.sampled_from([(6, 4), (5, 7), (8, 8)]), st.integers(0, 2))
def test_a_layer_is_its_dense_twin(data: st.DataObject, name: str, sizes: tuple[int, int], lead: int) -> None:
    module = Conv1D(*sizes).double()
    nn.init.normal_(module.bias)
    form = formats.format_named(name)
    net = form.network(layers.Linear.axes(module)["weight"])
    stages = [range(len(net.cores))] if net.straddles else data.draw(ordered_partitions(len(net.cores)))
    layer = made(module, form, stages)
    x = noise(*(2, 3)[:lead], sizes[1])
    for found, wanted in zip(gradients(layer, x), gradients(module, x), strict=True):
        assert_close(found, wanted)
    assert_close(layer.eval().lower()(x), module(x))
    assert_close(layer.weight.in_axes(), module.weight)


def test_both_names_of_the_class_are_known() -> None:
    class Old(Conv1D):
        pass

    assert layers.kind_of(Old(4, 4)) is None
    Old.__module__, Old.__qualname__ = "transformers.modeling_utils", "Conv1D"
    assert layers.kind_of(Old(4, 4)) is layers.Linear


@pytest.mark.parametrize("name", ["svd", "tt"])
def test_a_network_of_them_is_compressed_saved_and_lowered(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Conv1D(96, 48), nn.GELU(), Conv1D(48, 96)).eval(), torch.randn(2, 7, 48)
    assert tenfold.inspect(model, x).macs == 2 * 7 * 48 * 96
    result = tenfold.compress(model, inputs=x, params="3x", format=f"linear={name}")
    tenfold.save(result, tmp_path / "small")
    with torch.no_grad():
        assert torch.equal(tenfold.load(tmp_path / "small", model=model)(x), result.model(x))
        plain = tenfold.lower(result.model)
        assert not any(isinstance(module, Layer) for module in plain.modules())
        assert_close(plain(x), result.model(x), 1e-5)


class Tied(nn.Module):
    """A square weight that a `Conv1D` and an `nn.Linear` share: one applies the other's transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = Conv1D(8, 8), nn.Linear(8, 8)
        self.back.weight = self.there.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.there(x).relu())


def test_a_square_weight_tied_to_its_transpose_is_not_taken_for_itself() -> None:
    model, x = Tied().double().eval(), noise(3, 8)
    assert [place.mirrored for place in sites(model)["there"].places] == [False, True]
    exact = tenfold.decompose(model, Plan({"there": Row("there", "svd", ranks=(8,))}))
    assert_close(exact(x), model(x))
    rebuilt = tenfold.decompose(model, Plan({"there": Row("there", "svd", ranks=(8,), stages=((0, 1),))}))
    assert_close(rebuilt(x), model(x))
    assert_close(tenfold.lower(rebuilt)(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("stages", [[(0,), (1,)], [(0, 1)]])
def test_layers_export_and_compile(compiler: None, stages: list[tuple[int, ...]]) -> None:
    module, x = Conv1D(6, 4), torch.randn(2, 3, 4)
    layer = made(module, formats.SVD(), stages).eval()
    assert_close(torch.export.export(layer, (x,)).module()(x), module(x), 1e-6)
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), module(x), 1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(layer(x).float(), module(x).float(), 0.04)
