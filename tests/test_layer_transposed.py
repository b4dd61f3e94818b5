"""Transposed convolutions: the laws of every layer over their own geometry, output sizes, and ties to convolutions."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tenfold
from tenfold import formats
from tenfold.layers import FactoredWeight, Layer
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, sites
from test_layers import Case, assert_close, gradients, made, noise, seeds, twins

MODULES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CHANNELS = st.sampled_from([1, 2, 3, 5, 7])


@st.composite
def transposed(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    dims = draw(st.sampled_from([1, 2, 2, 3]))
    each = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(dims))  # noqa: E731
    kernel, stride, dilation, size = each(1, 4 if dims < 3 else 3), each(1, 3), each(1, 2), each(2, 4)
    extra = tuple(min(p, max(s, d) - 1) for p, s, d in zip(each(0, 2), stride, dilation, strict=True))
    padding = tuple(min(p, d * (k - 1) // 2) for p, d, k in zip(each(0, 2), dilation, kernel, strict=True))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    i, o = (1, 1) if draw(st.integers(0, 5)) == 0 else (draw(CHANNELS), draw(CHANNELS))
    module = MODULES[dims - 1](
        groups * i, groups * o, kernel, stride, padding, extra, groups, draw(st.booleans()), dilation,
        dtype=torch.float64,
    )  # fmt: skip
    return module, noise(*draw(st.sampled_from([(), (1,), (2,)])), groups * i, *size, seed=draw(seeds))


@settings(max_examples=100)
@given(twins(transposed()))
def test_a_layer_is_its_dense_twin(case: Case) -> None:
    for found, wanted in zip(gradients(case.layer, case.x), gradients(case.dense, case.x), strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            assert_close(found, wanted)
    cores = [core.detach().clone().requires_grad_() for core in case.layer.weight.cores]
    net = case.layer.weight.net
    net.weight(cores).backward(case.dense.weight.grad.reshape(tuple(net.axes.values())))
    for core, wanted in zip(case.layer.weight.cores, cores, strict=True):
        assert torch.dist(core.grad, wanted.grad) <= 1e-11 * case.dense.weight.grad.norm() * (1 + wanted.norm())


@settings(max_examples=50)
@given(twins(transposed()), st.integers(0, 2))
def test_a_layer_takes_an_output_size_and_so_does_its_lowered_form(case: Case, more: int) -> None:
    layer, dense = case.layer.eval(), case.dense
    x = case.x.unsqueeze(0) if case.x.ndim == layer.spatial + 1 else case.x
    plain = copy.deepcopy(dense)
    plain.output_padding = (0,) * layer.spatial
    with torch.no_grad():
        size = [n + min(more, s - 1) for n, s in zip(plain(x).shape[2:], dense.stride, strict=True)]
        wanted = dense(x, size)
        assert_close(layer(x, size), wanted)
        assert_close(layer(x, output_size=wanted.shape), wanted)
        assert_close(layer(x[0], size), wanted[0])
        assert_close(layer.lower()(x, output_size=size), wanted)
        with pytest.raises(TenfoldError, match=r"no output of \[.*\] from \[.*\]; use \[.*\] to \["):
            layer(x, [n + s + 3 for n, s in zip(size, dense.stride, strict=True)])


@settings(max_examples=60)
@given(twins(transposed()))
def test_a_lowered_layer_is_the_layer_and_costs_what_the_stages_say(case: Case) -> None:
    layer, lowered = case.layer.eval(), case.layer.lower()
    x = case.x
    assert not any(isinstance(module, Layer | FactoredWeight) for module in lowered.modules())
    with torch.no_grad():
        wanted = layer(x)
        with FlopCounterMode(display=False) as counter:
            assert_close(lowered(x), wanted)
        with FlopCounterMode(display=False) as whole:
            case.dense(x)
    stages, kind = layer.weight.stages, type(layer)
    assert sum(p.numel() for p in lowered.parameters()) == stages.params + (
        0 if layer.bias is None else layer.bias.numel()
    )
    positions, samples = kind.positions(case.dense, "weight", [x], wanted)
    macs = kind.mac_count("weight", stages, positions)(stages.net.sizes)
    assert counter.get_total_flops() == 2 * samples * macs
    assert whole.get_total_flops() == 2 * samples * kind.dense_macs("weight", stages.net.axes, positions)


def example(**geometry: Any) -> tuple[nn.Module, Tensor]:
    generator = torch.Generator().manual_seed(0)
    module = nn.ConvTranspose2d(12, 10, (4, 3), **{"stride": 2, "padding": 1, **geometry})
    return module, torch.randn(2, 12, 5, 4, generator=generator)


@pytest.mark.parametrize("name", [name for name in formats.BUILT_IN if not formats.BUILT_IN[name].iterates])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_decomposed_layer_is_the_module_it_came_from(name: str, groups: int) -> None:
    module, x = example(groups=groups)
    layer = made(module.double(), formats.format_named(name))
    assert_close(layer(x.double()), module(x.double()))
    assert_close(layer.weight.in_axes().flatten(), module.weight.flatten())
    assert layer.bias is module.bias


def test_half_precision_copies_and_states() -> None:
    module, x = example(output_padding=1)
    layer = made(module, formats.TT(), [(0, 1), (2,), (3,)]).eval()
    wanted = module(x)
    assert_close(layer(x), wanted, 1e-6)
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert_close(layer(x).float(), wanted, 0.04)
    half = made(copy.deepcopy(module).to(torch.bfloat16), formats.TT(), [(0, 1), (2,), (3,)])
    assert_close(half(x.to(torch.bfloat16)).float(), wanted, 0.04)


STAGES = [[(0, 1, 2, 3)], [(0,), (1,), (2,), (3,)], [(0, 1), (2, 3)]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("lowered", [False, True])
def test_layers_export_and_compile(compiler: None, stages: list[tuple[int, ...]], lowered: bool) -> None:
    module, x = example()
    layer: nn.Module = made(module, formats.TT(), stages).eval()
    layer = layer.lower() if lowered else layer
    for call in ((x,), (x, [11, 8])):
        wanted = module(*call)
        assert_close(torch.export.export(layer, call).module()(*call), wanted, 1e-6)
        assert_close(torch.compile(layer, fullgraph=True, backend="eager")(*call), wanted, 1e-6)


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_agrees(compiler: None) -> None:
    module, x = example()
    layer = made(module, formats.TT(), STAGES[1]).eval()
    assert_close(torch.compile(layer)(x), layer(x), 1e-5)


# ---- in a network
def decoder() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.ConvTranspose2d(16, 12, 4, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 3, stride=2, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3, bias=False),
    ).eval()  # fmt: skip
    return model, torch.randn(2, 16, 3, 3)


def test_the_counts_are_those_of_the_flop_counter() -> None:
    model, x = decoder()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    profile = tenfold.inspect(model, x)
    assert 2 * len(x) * profile.macs == counter.get_total_flops()
    assert profile.layers["0"].macs == 16 * 12 * 16 * 9
    assert [name for name, row in profile.layers.items() if row.first] == ["0"]


@pytest.mark.parametrize("name", formats.BUILT_IN)
def test_every_format_is_planned_saved_and_lowered(name: str, tmp_path: Any) -> None:
    model, x = decoder()
    plan = tenfold.plan(model, tenfold.inspect(model, x), params="1.5x", format=name, include=["0"])
    assert not plan.rows["0"].is_dense
    result = tenfold.compress(model, inputs=x, plan=plan)
    tenfold.save(result, tmp_path / "small")
    small = result.model
    with torch.no_grad():
        assert torch.equal(tenfold.load(tmp_path / "small", model=model)(x), small(x))
        plain = tenfold.lower(small)
        assert not any(isinstance(module, Layer) for module in plain.modules())
        assert torch.dist(plain(x), small(x)) <= 1e-5 * small(x).norm()
        plain = tenfold.lower(small, fold=False)
        with FlopCounterMode(display=False) as counter:
            plain(x)
    assert 2 * len(x) * tenfold.inspect(small, x).macs == counter.get_total_flops()


def test_batch_norms_disappear_into_plain_transposed_convolutions() -> None:
    model, x = decoder()
    for norm in (model[1], model[4]):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.normal_(norm.weight)
    plain = tenfold.lower(model)
    left = [name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["4"]  # after groups: torch's fusion scales an axis that is not there
    with torch.no_grad():
        assert torch.dist(plain(x), model(x)) <= 1e-5 * model(x).norm()


class Autoencoder(nn.Module):
    """Down and up again by one parameter."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(12, 12, 4, stride=2, padding=1, groups=groups)
        self.up = nn.ConvTranspose2d(12, 12, 4, stride=2, padding=1, groups=groups)
        self.up.weight = self.down.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x).relu())


@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_tied_to_a_convolution_shares_its_cores(groups: int) -> None:
    model, x = Autoencoder(groups).double().eval(), noise(2, 12, 6, 6)
    site = sites(model)["down"]
    assert [(place.module, place.mirrored) for place in site.places] == [("down", False), ("up", True)]
    exact = tenfold.decompose(model, Plan({"down": Row("down", "tt", ranks=(None, None, None))}))
    assert_close(exact(x), model(x))
    assert all(a is b for a, b in zip(exact.up.weight.cores, list(exact.down.weight.cores)[::-1], strict=True))
    small = tenfold.decompose(model, Plan({"down": Row("down", "tt", ranks=(3, 4, 3))}))
    macs = tenfold.inspect(small, x).macs
    plain = tenfold.lower(small)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain(x)
    assert 2 * len(x) * macs == counter.get_total_flops()
    positions = tenfold.inspect(model, x).layers["down"].positions
    assert site.mac_count(small.down.weight.stages, positions)(small.down.weight.net.sizes) == macs
    assert site.dense_macs(positions) == tenfold.inspect(model, x).macs
