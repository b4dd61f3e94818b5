"""A layer, in cores and lowered, answers what networks ask of the module whose place it takes."""

import copy
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import tenfold
from tenfold import formats, layers
from tenfold.formats import Format
from tenfold.inputs import call
from tenfold.layers import FactoredWeight
from tenfold.layers.base import lowered
from tenfold.protocols import TenfoldError
from tenfold.surgery import decompose, sites
from test_layer_transposed import transposed
from test_layers import EVEN, Case, assert_close, convolutions, linears, made, noise, twins
from test_matrix import EXAMPLES, indices, planned

ANY = st.one_of(convolutions(), transposed(), linears())
RESOLVED = {"padding", "padding_mode"}  # a lowered convolution has them in numbers


def attributes(module: nn.Module) -> dict[str, Any]:
    """What a module has besides parameters, buffers and children."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def forms(case: Case) -> Iterator[nn.Module]:
    """The layer, and what it is lowered to."""
    yield case.layer.train()
    yield lowered(case.layer)


@pytest.mark.filterwarnings(EVEN)
@settings(max_examples=60)
@given(twins(ANY))
def test_a_layer_answers_what_its_dense_twin_answers(case: Case) -> None:
    case.dense.m, case.dense.order, case.dense.type = "mine", [3, 4], "hides a method of all modules"
    layer = type(case.layer).from_dense(case.dense, {"weight": case.layer.held("weight")})
    for form in forms(replace(case, layer=layer)):
        for name, value in attributes(case.dense).items():
            assert name in RESOLVED or getattr(form, name) == value, name
        weight, wanted = form.weight, case.dense.weight
        for name in ("shape", "dtype", "device", "ndim", "requires_grad", "itemsize", "layout"):
            assert getattr(weight, name) == getattr(wanted, name), name
        for name in ("numel", "size", "dim", "is_floating_point", "is_contiguous", "element_size"):
            assert getattr(weight, name)() == getattr(wanted, name)(), name
        assert weight.size(0) == len(weight) == len(wanted)
        assert (form.bias is None) == (case.dense.bias is None)
        if form.bias is not None:
            assert_close(form.bias, case.dense.bias)


@pytest.mark.filterwarnings(EVEN)
@settings(max_examples=60)
@given(twins(ANY))
def test_a_weight_read_as_a_tensor_is_the_dense_one_with_its_gradients(case: Case) -> None:
    wanted, other = case.dense.weight, noise(*case.dense.weight.shape)
    for form in forms(case):
        weight = form.weight
        for read in (
            weight.clone(),
            weight + 0 * other,
            weight.flatten().view(weight.shape),
            torch.cat([weight, other]),
        ):
            assert_close(read[: len(other)], wanted)
        assert_close(weight.data.to(torch.float32), wanted.to(torch.float32), 1e-6)
        assert_close(weight[0], wanted[0])
        assert not weight.data.requires_grad
        form.zero_grad()
        (weight * other).sum().backward()
        trained = [core for core in form.parameters() if core is not form.bias]
        assert all(parameter.grad is not None for parameter in trained)
    cores = [core.detach().clone().requires_grad_() for core in case.layer.weight.cores]
    (case.layer.weight.net.weight(cores).reshape(other.shape) * other).sum().backward()
    for core, twin in zip(case.layer.weight.cores, cores, strict=True):
        assert torch.dist(core.grad, twin.grad) <= 1e-11 * (1 + twin.grad.norm())


@settings(max_examples=40)
@given(twins(linears()))
def test_a_matrix_multiplies(case: Case) -> None:
    x, wanted = noise(3, case.dense.in_features), case.dense.weight
    for form in forms(case):
        for found in (functional.linear(x, form.weight), x @ form.weight.T, x @ form.weight.t(),
                      (form.weight @ x.mT).mT, torch.matmul(x, form.weight.mT)):  # fmt: skip
            assert_close(found, x @ wanted.T, 1e-11)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("name", ["svd", "tt", "ht", "str"])
def test_every_parameter_of_a_module_is_answered(example: str, name: str) -> None:
    build, _ = EXAMPLES[example]
    torch.manual_seed(0)
    model = build().double().eval()
    model.m, model.type = "mine", "hides a method of all modules"
    answers = {site: site.obstacle or site.suit(formats.format_named(name)) for site in sites(model).values()}
    makers = {site: answer for site, answer in answers.items() if isinstance(answer, Format)}
    small = decompose(model, planned(makers))
    for form in (small, tenfold.lower(small, fold=False)):
        for key, value in attributes(model).items():
            assert key in RESOLVED or getattr(form, key) == value, key
        for key, parameter in model.named_parameters():
            owner, _, last = key.rpartition(".")
            found = getattr(form.get_submodule(owner), last)
            assert found.shape == parameter.shape
            assert found.dtype == parameter.dtype
            assert torch.dist(found + 0, parameter) <= 1e-3 * parameter.norm()


def test_attributes_of_parts_go_along() -> None:
    model = nn.TransformerEncoderLayer(6, 2, 8)
    parts = ("self_attn", "self_attn.out_proj", "linear1")
    for name in parts:
        model.get_submodule(name).m = "mine"
    makers = {site: formats.format_named("svd") for site in sites(model).values()}
    small = decompose(model, planned(makers, most=2))
    for form in (small, tenfold.lower(small)):
        assert [form.get_submodule(name).m for name in parts] == ["mine"] * 3


def test_a_row_of_padding_is_that_of_the_table() -> None:
    table = nn.Embedding(12, 8, padding_idx=3, max_norm=1.0)
    plain = lowered(made(table, formats.TT(order=2)))
    assert torch.equal(plain.weight[3], torch.zeros(8))
    assert_close(plain.weight + 0, table.weight, 1e-5)


def changes() -> Mapping[str, Any]:
    return {
        "init": lambda w: nn.init.zeros_(w),
        "method": lambda w: w.normal_(),
        "data": lambda w: w.data.copy_(torch.zeros(4, 6)),
        "item": lambda w: w.__setitem__(0, 1.0),
        "of the data": lambda w: w.data.__setitem__(0, 1.0),
        "assigned": lambda w: setattr(w, "data", torch.zeros(4, 6)),
        "function": lambda w: torch.relu_(w),
        "hook": lambda w: w.register_hook(print),
    }


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("change", changes())
def test_what_would_be_lost_is_refused(change: str, lower: bool) -> None:
    layer: nn.Module = made(nn.Linear(6, 4), formats.SVD())
    layer = lowered(layer) if lower else layer
    with pytest.raises(TenfoldError, match="would be lost on a weight that is rebuilt when it is read"):
        changes()[change](layer.weight)


def test_a_weight_without_gradients_answers_so() -> None:
    layer = made(nn.Linear(6, 4), formats.SVD()).requires_grad_(False)
    assert not layer.weight.requires_grad
    assert not (layer.weight + 0).requires_grad
    layer.weight.requires_grad_(True)
    assert all(core.requires_grad for core in layer.weight.cores)
    assert layer.weight.float().dtype == torch.float32
    assert layer.weight.double().dtype == torch.float64
    assert all(core.dtype == torch.float32 for core in layer.weight.cores)  # reading casts nothing
    with pytest.raises(AttributeError, match="nonsense"):
        _ = layer.weight.nonsense


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_lowered_layer_is_copied_and_pickled(example: str) -> None:
    build, inputs = EXAMPLES[example]
    model = build().double().eval()
    makers = {site: formats.SVD().suit(site.axes, first=False) for site in sites(model).values() if not site.obstacle}
    plain = tenfold.lower(decompose(model, planned({s: m for s, m in makers.items() if isinstance(m, Format)})))
    for twin in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        for one, other in zip(call(twin, inputs), call(plain, inputs), strict=True):
            assert isinstance(one, tuple) or one is None or torch.equal(one, other)
        own = {id(part) for part in twin.modules()}
        assert not own & {id(part) for part in plain.modules()}
        if hasattr(twin, "weight"):
            assert {id(part) for part in twin.modules()} == own
            assert_close(twin.weight + 0, model.weight, 1e-10)
    names = [name for name in plain.state_dict() if name.endswith("weight")]
    assert len(names) == len({plain.state_dict()[name].data_ptr() for name in names})


class Reads(nn.Module):
    """Networks as transformers writes them: the dtype of a weight is asked, and a weight is used by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.fc, self.conv = nn.Embedding(12, 8), nn.Linear(8, 6), nn.Conv1d(6, 4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = functional.linear(self.table(ids).to(self.fc.weight.dtype), self.fc.weight, self.fc.bias)
        y = self.conv(x.mT)
        return y[..., : self.fc.in_features] @ y.new_ones(5, 2).to(self.conv.weight) + self.table.weight.sum()


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning", "ignore::FutureWarning")
def test_a_network_that_reads_weights_runs_in_both_forms_and_as_a_graph() -> None:
    torch.manual_seed(0)
    model, ids = Reads().eval(), indices(2, 7)
    small = decompose(model, planned({site: formats.SVD() for site in sites(model).values()}))
    wanted = model(ids)
    for form in (small, tenfold.lower(small)):
        assert_close(form(ids), wanted, 1e-5)
        assert_close(torch.jit.trace(form, ids, check_trace=False)(ids), wanted, 1e-5)
        assert_close(torch.export.export(form, (ids,)).module()(ids), wanted, 1e-5)
    assert_close(torch.fx.symbolic_trace(tenfold.lower(small))(ids), wanted, 1e-5)


def test_stage_tensors_come_back_from_a_weight_in_cores() -> None:
    layer = made(nn.Conv2d(4, 6, 3, groups=2), formats.TT())
    assert isinstance(layer.weight, FactoredWeight)
    assert_close(layer.weight.stages.weight(layer.weight()), layer.weight.dense(), 1e-6)
    assert layers.kind_of(layer) is layers.Conv
