"""Layers: whatever the format, the partition and the geometry, a full-rank layer is its dense twin."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tenfold import formats, layers
from tenfold.formats import Format
from tenfold.formats.base import Modes
from tenfold.layers import FactoredWeight, Layer
from tenfold.network import Stages, partitions_of, random_cores

seeds = st.integers(0, 2**16)


def made(module: nn.Module, form: Format, stages: Sequence[Sequence[int]] = (), modes: Modes | None = None) -> Layer:
    """The layer of a module in a format at full rank; one stage a core unless stages are given."""
    kind = layers.kind_of(module)
    assert kind is not None
    net = form.network(kind.axes(module)["weight"], modes=modes)
    cores = form.decompose(kind.dense_weight(module, "weight"), net)
    each = [tuple(range(len(net.cores)))] if net.straddles else [(k,) for k in range(len(net.cores))]
    return kind.from_dense(module, {"weight": FactoredWeight(net, cores, stages or each)})


# ---- generated layers
@dataclass(frozen=True)
class Case:
    """A layer of random cores, the dense module with the weight that they stand for, and an input."""

    layer: Layer
    dense: nn.Module
    x: Tensor

    def __repr__(self) -> str:
        net = self.layer.weight.net
        return f"{self.dense}, {net.cores}, {net.shapes}, {self.layer.weight.stages.partition}, x={tuple(self.x.shape)}"


KERNEL_FORMATS: tuple[Format, ...] = (
    *(kind() for kind in formats.BUILT_IN.values()), formats.CP(window="split"), formats.TT(layout="pairs", order=2),
    formats.TT(layout="split", order=2), formats.TT(layout="split", order=3),
)  # fmt: skip
MATRIX_FORMATS: tuple[Format, ...] = (
    *(kind() for name, kind in formats.BUILT_IN.items() if name not in ("tucker2", "ht2")),
    formats.TT(order=3), formats.TT(layout="split", order=2),
)  # fmt: skip


@st.composite
def twins(draw: st.DrawFn, modules: st.SearchStrategy[tuple[nn.Module, Tensor]]) -> Case:
    """A layer in any format, of any ranks, some bonds merged, its cores in stages of any order."""
    module, x = draw(modules)
    kind = layers.kind_of(module)
    assert kind is not None
    axes = kind.axes(module)["weight"]
    form = draw(st.sampled_from(KERNEL_FORMATS if module.weight.ndim > 2 else MATRIX_FORMATS))
    form = draw(st.sampled_from(form.variants(axes)))
    split = (
        {"i": (2, -(-axes["i"] // 2))}
        if isinstance(form, formats.CP | formats.Tucker) and draw(st.booleans())
        else None
    )
    net = form.network(axes, modes=split)
    net = net.with_ranks([min(rank, draw(st.integers(1, 3))) for rank in net.ranks])
    for bond in net.bonds:
        if bond in net.bonds and not net.is_hyperedge(bond) and draw(st.integers(0, 3)) == 0:
            net = net.merged(bond)
    generator = torch.Generator().manual_seed(draw(seeds))
    cores = random_cores(net, 1.0, generator=generator, dtype=x.dtype)
    partition = [range(len(cores))] if net.straddles else draw(ordered_partitions(len(cores)))
    with torch.no_grad():
        module.weight.copy_(net.weight(cores).reshape(module.weight.shape))
    return Case(kind.from_dense(copy.deepcopy(module), {"weight": FactoredWeight(net, cores, partition)}), module, x)


@st.composite
def ordered_partitions(draw: st.DrawFn, count: int) -> list[list[int]]:
    """Sets of cores in any order, neighbours or not."""
    order = draw(st.permutations(range(count)))
    borders = [0, *sorted(draw(st.sets(st.integers(1, count - 1)) if count > 1 else st.just(set()))), count]
    return [order[a:b] for a, b in pairwise(borders)]


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNELS = st.sampled_from([1, 2, 3, 5, 7, 11])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    dims = draw(st.sampled_from([1, 2, 2, 2, 3]))
    each = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(dims))  # noqa: E731
    kernel, dilation = each(1, 3 if dims == 3 else 5), each(1, 2)
    size = tuple(d * (k - 1) + 1 + extra for d, k, extra in zip(dilation, kernel, each(1, 4), strict=True))
    padding: Any = draw(st.sampled_from(["same", "valid", None]))
    padding = tuple(min(n - 1, p) for n, p in zip(size, each(0, 2), strict=True)) if padding is None else padding
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depthwise = draw(st.integers(0, 5)) == 0
    i, o = (1, draw(st.integers(1, 2))) if depthwise else (draw(CHANNELS), draw(CHANNELS))
    module = CONVOLUTIONS[dims - 1](
        groups * i, groups * o, kernel, stride=1 if padding == "same" else each(1, 2), padding=padding,
        dilation=dilation, groups=groups, bias=draw(st.booleans()), dtype=torch.float64,
        padding_mode=draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"])),
    )  # fmt: skip
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return module, noise(*batch, groups * i, *size, seed=draw(seeds))


@st.composite
def linears(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    i, o = draw(CHANNELS), draw(CHANNELS)
    lead = draw(st.sampled_from([(), (2,), (2, 3), (2, 1, 3)]))
    return nn.Linear(i, o, bias=draw(st.booleans()), dtype=torch.float64), noise(*lead, i, seed=draw(seeds))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(found: Tensor, wanted: Tensor, share: float = 1e-12) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert torch.dist(found.detach(), wanted.detach()) <= share * wanted.detach().norm() + 1e-300


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Output, gradient of the input, gradient of the bias; those of the parameters stay on them."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = module(x)
    (y * noise(*y.shape, seed=7).to(y.dtype)).sum().backward()
    assert x.grad is not None
    return y, x.grad, None if module.bias is None else module.bias.grad


EVEN = "ignore:Using padding='same' with even kernel lengths:UserWarning"  # torch's own, about the dense twin


@pytest.mark.filterwarnings(EVEN)
@settings(max_examples=300)
@given(twins(st.one_of(convolutions(), convolutions(), linears())))
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


@pytest.mark.filterwarnings(EVEN)
@settings(max_examples=150)
@given(twins(st.one_of(convolutions(), convolutions(), linears())))
def test_a_lowered_layer_is_the_layer_and_costs_what_the_stages_say(case: Case) -> None:
    layer, lowered, x = case.layer.eval(), case.layer.lower(), case.x
    assert not any(isinstance(module, Layer | FactoredWeight) for module in lowered.modules())
    assert not {id(module) for module in layer.modules()} & {id(module) for module in lowered.modules()}
    with torch.no_grad():
        wanted = layer(x)
        with FlopCounterMode(display=False) as counter:
            assert_close(lowered(x), wanted)
    stages = layer.weight.stages
    biases = 0 if layer.bias is None else layer.bias.numel()
    assert sum(p.numel() for p in lowered.parameters()) == stages.params + biases
    positions, samples = layer.positions(case.dense, "weight", [x], wanted)
    macs = samples * stages.macs(positions)
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.filterwarnings(EVEN)
@settings(max_examples=40)
@given(twins(st.one_of(convolutions(), linears())))
def test_single_precision_stays_close(case: Case) -> None:
    with torch.no_grad():
        wanted = case.dense(case.x)
        layer = case.layer.float()
        found = layer(case.x.float()).double()
    scale = case.dense.weight.abs().sum() / case.dense.weight.shape[0] * case.x.abs().max()  # of an output's terms
    assert (found - wanted).abs().max() <= 1e-5 * (scale + wanted.abs().max())


# ---- stage tensors that are kept
def test_what_autocast_kept_is_not_used_without_it() -> None:
    layer = made(nn.Conv2d(6, 8, 3), formats.TT(), [(0, 1), (2, 3)]).eval()
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_a_core_at_the_address_of_an_old_one_is_not_taken_for_it() -> None:
    layer = made(nn.Linear(64, 64), formats.SVD(), [(0, 1)]).eval()
    x = torch.randn(2, 64)
    with torch.no_grad():
        for _ in range(20):
            layer(x)
            for _ in range(2):
                for core in layer.weight.cores[:1]:
                    core.data = torch.randn(core.shape)
            assert torch.equal(layer(x), copy.deepcopy(layer)(x))


# ---- inputs at the border
@pytest.mark.parametrize(
    ("module", "form", "modes", "shape"),
    [
        (nn.Linear(7, 11), formats.CP(), {"i": (2, 4)}, (0, 7)),
        (nn.Linear(7, 11), formats.TT(order=2), None, (3, 0, 7)),
        (nn.Conv2d(7, 11, 3), formats.TT(layout="split", order=2), None, (0, 7, 5, 5)),
        (nn.Conv2d(14, 22, 3, groups=2), formats.TT(layout="pairs", order=2), None, (0, 14, 5, 5)),
        (nn.Conv2d(7, 11, 3), formats.CP(), {"i": (2, 4)}, (0, 7, 5, 5)),
    ],
)
def test_an_empty_batch_passes(module: nn.Module, form: Format, modes: Modes | None, shape: tuple[int, ...]) -> None:
    layer, x = made(module, form, modes=modes), torch.zeros(shape)
    assert layer(x).shape == layer.lower()(x).shape == module(x).shape


def test_stages_of_any_order_can_be_trained() -> None:
    net = formats.TT().network({"o": 2, "i": 1, "h": 2, "w": 1}, [1, 2, 2])
    cores = random_cores(net, 1.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = FactoredWeight(net, cores, [(3,), (2,), (1, 0)])
    assert all(tensor.is_contiguous() for tensor in weight())
    layer = layers.Conv.from_dense(nn.Conv2d(1, 2, (2, 1), bias=False, dtype=torch.float64), {"weight": weight})
    layer(noise(1, 1, 3, 2)).sum().backward()  # torch: slow_conv2d: grad_weight must be contiguous


def test_a_grouped_kernel_in_one_core_is_still_grouped() -> None:
    module = nn.Conv1d(4, 2, 1, groups=2)
    net = formats.SVD().network(layers.Conv.axes(module)["weight"], [None])
    cores = formats.SVD().decompose(layers.Conv.dense_weight(module, "weight"), net)
    x = torch.randn(3, 4, 5)
    assert_close(layers.Conv.from_dense(module, {"weight": FactoredWeight(net, cores, [(0,)])})(x), module(x), 1e-6)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(6, 4),
        nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=1),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Conv1d(5, 7, 3),
    ],
)
@pytest.mark.parametrize("name", formats.BUILT_IN)
def test_a_decomposed_layer_is_the_module_it_came_from(module: nn.Module, name: str) -> None:
    module = module.double()
    layer = made(module, formats.format_named(name))
    x = noise(2, module.weight.shape[1] * getattr(module, "groups", 1), *[7] * layer.spatial)
    assert_close(layer(x), module(x))
    assert_close(layer.lower()(x), module(x))
    assert_close(layer.weight.in_axes().flatten(), module.weight.flatten())
    assert layer.bias is module.bias


@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.Conv2d(2, 2, 2, padding="valid")])
def test_gradients_of_cores_are_those_of_finite_differences(module: nn.Module) -> None:
    layer = made(module.double(), formats.Tucker())
    x = noise(2, module.weight.shape[1], *[3] * layer.spatial)

    def output(*cores: Tensor) -> Tensor:
        names = [f"weight.cores.{k}" for k in range(len(cores))]
        return torch.func.functional_call(layer, dict(zip(names, cores, strict=True)), (x,))

    cores = [core.detach().clone().requires_grad_() for core in layer.weight.cores]
    assert torch.autograd.gradcheck(output, tuple(cores))


# ---- stages that are kept between passes without gradients
def evaluated(layer: Layer, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x)


def assert_fresh(layer: Layer, x: Tensor) -> None:
    """What the layer gives is what a copy that has kept nothing gives."""
    assert torch.equal(evaluated(layer, x), evaluated(copy.deepcopy(layer), x))


def pair(kind: str = "tucker2") -> tuple[Layer, Tensor]:
    layer = made(nn.Conv2d(4, 6, 3), formats.format_named(kind), [(0, 1), (2,)]).eval()
    return layer, torch.randn(2, 4, 6, 6)


def test_stages_are_built_once_until_a_core_changes() -> None:
    layer, x = pair()
    first = evaluated(layer, x)
    kept = layer.weight.kept
    assert torch.equal(evaluated(layer, x), first)
    assert kept is not None
    assert layer.weight.kept is kept
    assert torch.allclose(layer(x), first)
    layer.train()
    assert layer.weight.kept is None
    assert "kept" not in layer.state_dict()


def test_cores_that_hold_nan_are_kept_like_others() -> None:
    layer, x = pair()
    layer.weight.cores[0].data[0, 0] = torch.nan
    evaluated(layer, x)
    kept = layer.weight.kept
    evaluated(layer, x)
    assert kept is not None
    assert layer.weight.kept is kept


def test_kept_stages_follow_every_change_of_the_cores() -> None:
    layer, x = pair()
    first = evaluated(layer, x)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(x).square().sum().backward()
    optimizer.step()
    assert_fresh(layer, x)
    assert not torch.equal(evaluated(layer, x), first)
    for assign in (False, True):
        layer.load_state_dict(pair()[0].state_dict(), assign=assign)
        assert_fresh(layer, x)
    layer.weight.cores[1] = nn.Parameter(torch.zeros_like(layer.weight.cores[1]))
    assert torch.equal(evaluated(layer, x), layer.bias.detach().reshape(-1, 1, 1).expand(2, 6, 4, 4))
    layer = layer.double()
    assert_fresh(layer, x.double())
    with torch.inference_mode():
        layer(x.double())
    assert_fresh(layer, x.double())


def behind_the_back() -> dict[str, Callable[[Tensor], object]]:
    """Ways to write to a core that leave its address and its version as they were."""
    average = lambda core: core.data.mul_(0.9).add_(torch.ones_like(core), alpha=0.1)  # noqa: E731
    return {
        "data": lambda core: core.data.add_(1.0),
        "an average": average,
        "numpy": lambda core: np.add(core.detach().numpy(), 1.0, out=core.detach().numpy()),
        "one number": lambda core: core.data.view(-1)[-1:].fill_(7.0),
        "a sign of zero": lambda core: core.data.zero_(),
    }


@pytest.mark.parametrize("way", behind_the_back())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_kept_stages_follow_what_is_written_behind_the_back_of_autograd(way: str, dtype: torch.dtype) -> None:
    if way == "numpy" and dtype == torch.bfloat16:
        pytest.skip("NumPy has no bfloat16")
    layer, x = pair()
    layer, x = layer.to(dtype), x.to(dtype)
    for core in layer.weight.cores:
        first = evaluated(layer, x)
        behind_the_back()[way](core)
        assert_fresh(layer, x)
        assert way == "a sign of zero" or not torch.equal(evaluated(layer, x), first)


def test_a_copy_and_a_state_dict_carry_the_layer() -> None:
    layer, x = pair()
    wanted = evaluated(layer, x)
    twin = copy.deepcopy(layer)
    assert torch.equal(evaluated(twin, x), wanted)
    assert not {p.data_ptr() for p in layer.parameters()} & {p.data_ptr() for p in twin.parameters()}
    other, _ = pair()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(evaluated(other, x), wanted)
    assert sorted(layer.state_dict()) == ["bias", *(f"weight.cores.{k}" for k in range(3))]


# ---- precision
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_layer_stays_close(dtype: torch.dtype) -> None:
    module = nn.Conv2d(4, 6, 3).to(dtype)
    layer, x = made(module, formats.TT()), torch.randn(2, 4, 6, 6).to(dtype)
    assert all(core.dtype == dtype for core in layer.weight.cores)
    found, wanted = layer(x), module(x)
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps  # some five roundings, one a stage and one a core
    assert torch.dist(found.detach(), wanted.detach()) <= 8 * eps * wanted.detach().norm()


@pytest.mark.parametrize("form", [formats.SVD(), formats.TT(layout="pairs", order=2)])  # with a rearranged output, too
def test_autocast_reaches_the_cores(form: Format) -> None:
    module = nn.Linear(16, 12)
    layer, x = made(module, form), torch.randn(5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted, lowered = layer(x), module(x), layer.lower()(x)
    assert found.dtype == lowered.dtype == wanted.dtype == torch.bfloat16
    assert torch.dist(found.detach(), wanted.detach()) <= 0.04 * wanted.detach().norm()  # 8 roundings of 2^-8
    found.float().sum().backward()
    assert all(core.grad is not None and core.grad.dtype == torch.float32 for core in layer.weight.cores)


# ---- the batch at hand
def test_in_training_the_batch_decides_whether_the_weight_is_rebuilt() -> None:
    net = formats.TT(order=3).network({"o": 256, "i": 256}, (12, 12))
    cores = random_cores(net, 0.1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    module = nn.Linear(256, 256, dtype=torch.float64)
    layer = layers.Linear.from_dense(module, {"weight": FactoredWeight(net, cores, [(0,), (1,), (2,)])})
    for rows, rebuilt in ((1, False), (4096, True)):
        x = noise(rows, 256)
        assert layer.route(rows).stages.rebuilds == rebuilt
        wanted = nn.functional.linear(x, net.weight(list(layer.weight.cores)), module.bias)
        assert_close(layer(x), wanted)
        with torch.no_grad():  # the plan's stages
            assert_close(layer(x), wanted)
        every = [Stages.of(net, partition) for partition in partitions_of(net)]
        assert layer.route(rows).stages.training_macs({}, rows) <= 2 * min(s.training_macs({}, rows) for s in every)


@pytest.mark.parametrize("name", ["tt", "ht", "tr", "cp"])
def test_multiply_adds_of_building_are_those_of_the_products(name: str) -> None:
    net = formats.format_named(name).network({"o": 8, "i": 8, "h": 3, "w": 3})
    net = net.with_ranks([min(3, rank) for rank in net.ranks])
    cores = random_cores(net, 1.0, generator=torch.Generator().manual_seed(0))
    for partition in partitions_of(net):
        stages = Stages.of(net, partition)
        with FlopCounterMode(display=False) as counter:
            stages.tensors(cores)
        counted = stages.training_macs({}, 0)
        assert counter.get_total_flops() <= 2 * counted  # products without a sum are not counted by torch
        assert counted == 0 or len(cores) > len(partition)


# ---- exporters and compilers
EXPORTED = [
    (nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1), formats.TT(), [(0,), (1,), (2,), (3,)]),
    (nn.Conv2d(5, 7, (2, 3), padding="same", padding_mode="reflect"), formats.Tucker2(), [(0, 1), (2,)]),
    (nn.Conv1d(6, 6, 3, groups=2), formats.CP(), [(0,), (1,), (2,)]),
    (nn.Linear(7, 11), formats.TT(order=2), [(0,), (1,)]),
    (nn.Conv2d(7, 11, 3), formats.TT(layout="split", order=2), [(0,), (1, 2), (3, 4)]),
    (nn.Linear(7, 11), formats.TT(order=2), [(0, 1)]),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", EVEN)
@pytest.mark.parametrize(("module", "form", "stages"), EXPORTED)
@pytest.mark.parametrize("lowered", [False, True])
def test_layers_export_and_compile(
    compiler: None, module: nn.Module, form: Format, stages: list[tuple[int, ...]], lowered: bool
) -> None:
    layer: nn.Module = made(module, form, stages).eval()
    layer = layer.lower() if lowered else layer
    x = torch.randn(2, module.weight.shape[1] * getattr(module, "groups", 1), *[6] * (module.weight.ndim - 2))
    for gradients_on in (True, False):
        with torch.set_grad_enabled(gradients_on):
            wanted = layer(x)
            exported = torch.export.export(layer, (x,)).module()
            compiled = torch.compile(layer, fullgraph=True, backend="eager")
            assert_close(exported(x), wanted, 1e-6)
            assert_close(compiled(x), wanted, 1e-6)


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "form", "stages"), EXPORTED[:4:3])
def test_inductor_agrees(compiler: None, module: nn.Module, form: Format, stages: list[tuple[int, ...]]) -> None:
    layer = made(module, form, stages).eval()
    x = torch.randn(2, module.weight.shape[1], *[6] * (module.weight.ndim - 2))
    assert_close(torch.compile(layer)(x), layer(x), 1e-5)
