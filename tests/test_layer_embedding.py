"""Embeddings: whatever the format and the stages, a lookup in cores gives the rows of the dense table."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import tenfold
from tenfold import formats, layers
from tenfold.api.samples import parse_inputs
from tenfold.formats import Format
from tenfold.formats.modes import balanced_factors
from tenfold.layers import FactoredWeight, Layer
from tenfold.layers.kinds.embedding import Table
from tenfold.network import Stages, TensorNetwork, random_cores
from tenfold.protocols import TenfoldError
from tenfold.storage import Document
from tenfold.surgery import Plan, Row, sites

seeds = st.integers(0, 2**16)
SUITING: tuple[Format, ...] = (
    *(kind() for name, kind in formats.BUILT_IN.items() if name not in ("ada-tucker", "scada-tucker")),
    formats.TT(order=3), formats.TT(layout="split", order=2), formats.TT(layout="chain"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A table in random cores, the dense module with the rows that they stand for, and indices."""

    layer: Table
    dense: nn.Module
    ids: Tensor

    def __repr__(self) -> str:
        net = self.layer.weight.net
        return f"{self.dense}, {net.cores}, {net.shapes}, {self.layer.weight.stages.partition}, ids={self.ids}"


@st.composite
def networks(draw: st.DrawFn, axes: Mapping[str, int]) -> tuple[TensorNetwork, list[list[int]]]:
    """A network of any format that suits, of any ranks, some bonds merged, and stages of any order."""
    form = draw(st.sampled_from(SUITING))
    form = draw(st.sampled_from(form.variants(axes)))
    split = {"i": (2, -(-axes["i"] // 2))} if isinstance(form, formats.CP) and draw(st.booleans()) else None
    net = form.network(axes, modes=split)
    net = net.with_ranks([min(rank, draw(st.integers(1, 3))) for rank in net.ranks])
    for bond in net.bonds:
        if bond in net.bonds and not net.is_hyperedge(bond) and draw(st.integers(0, 3)) == 0:
            net = net.merged(bond)
    order = draw(st.permutations(range(len(net.cores))))
    borders = [
        0,
        *sorted(draw(st.sets(st.integers(1, len(order) - 1)) if len(order) > 1 else st.just(set()))),
        len(order),
    ]
    partition = [list(order[a:b]) for a, b in pairwise(borders)]
    if layers.Embedding.objection("weight", Stages.of(net, partition)) is not None:
        partition = [[k] for k in order]
    return net, partition


@st.composite
def twins(draw: st.DrawFn, module: nn.Module, ids: Tensor) -> Case:
    kind = layers.kind_of(module)
    assert kind is not None
    net, partition = draw(networks(kind.axes(module)["weight"]))
    cores = random_cores(net, 1.0, generator=torch.Generator().manual_seed(draw(seeds)), dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(net.weight(cores))
    layer = kind.from_dense(copy.deepcopy(module), {"weight": FactoredWeight(net, cores, partition)})
    return Case(layer, module, ids)


ROWS, NUMBERS = st.sampled_from([1, 2, 7, 11, 12, 30, 67]), st.sampled_from([1, 3, 4, 12, 64])


def numbered(count: int, shape: Sequence[int], seed: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, count, tuple(shape), generator=torch.Generator().manual_seed(seed)).to(dtype)


def indices(draw: st.DrawFn, count: int, shapes: Sequence[tuple[int, ...]]) -> Tensor:
    dtype = draw(st.sampled_from([torch.int64, torch.int32]))
    return numbered(count, draw(st.sampled_from(shapes)), draw(seeds), dtype)


@st.composite
def lookups(draw: st.DrawFn) -> Case:
    count = draw(ROWS)
    bound = {} if draw(st.booleans()) else {
        "max_norm": draw(st.sampled_from([0.5, 2.0])), "norm_type": draw(st.sampled_from([1.0, 2.0, math.inf]))
    }  # fmt: skip
    padding = draw(st.sampled_from([None, 0, -1]))
    module = nn.Embedding(count, draw(NUMBERS), padding_idx=padding, dtype=torch.float64, **bound)
    return draw(twins(module, indices(draw, count, [(), (5,), (2, 3), (2, 1, 4), (0,), (2, 0)])))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(found: Tensor, wanted: Tensor, share: float = 1e-12) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert torch.dist(found.detach(), wanted.detach()) <= share * wanted.detach().norm() + 1e-300


def assert_gradients_follow(layer: Table, dense: nn.Module) -> None:
    """The gradients of the cores are those of the dense weight, carried on through the cores."""
    cores = [core.detach().clone().requires_grad_() for core in layer.weight.cores]
    layer.weight.net.weight(cores).backward(dense.weight.grad)
    for core, wanted in zip(layer.weight.cores, cores, strict=True):
        assert core.grad is not None
        assert torch.dist(core.grad, wanted.grad) <= 1e-11 * dense.weight.grad.norm() * (1 + wanted.norm())


@settings(max_examples=120)
@given(lookups())
def test_a_lookup_gives_the_rows_of_the_dense_table(case: Case) -> None:
    layer, dense, ids = case.layer, case.dense, case.ids
    found, wanted = layer(ids), dense(ids)
    assert_close(found, wanted)
    if dense.max_norm is None:  # torch writes the smaller rows back, so that its gradient leaves the bound out
        weights = noise(*wanted.shape, seed=7)
        (found * weights).sum().backward()
        (wanted * weights).sum().backward()
        assert_gradients_follow(layer, dense)


@settings(max_examples=80)
@given(lookups())
def test_a_lowered_lookup_is_the_layer_and_costs_what_the_stages_say(case: Case) -> None:
    layer, ids = case.layer.eval(), case.ids
    lowered = layer.lower()
    assert not any(isinstance(module, Layer | FactoredWeight) for module in lowered.modules())
    tensors = [*lowered.parameters(), *lowered.buffers()]
    assert not {t.data_ptr() for t in tensors if t.numel()} & {
        t.data_ptr() for t in [*layer.parameters(), *layer.buffers()] if t.numel()
    }
    with torch.no_grad():
        wanted = layer(ids)
        with FlopCounterMode(display=False) as counter:
            assert_close(lowered(ids), wanted)
    stages = layer.weight.stages
    assert sum(p.numel() for p in lowered.parameters()) == sum(table.numel() for table in layer.tables())
    positions, samples = layer.positions(case.dense, "weight", [ids], wanted)
    macs = samples * int(layer.mac_count("weight", stages, positions)(stages.net.sizes))
    if any(isinstance(module, nn.Linear) for module in lowered.modules()):
        assert counter.get_total_flops() == 2 * macs
    assert counter.get_total_flops() <= 2 * macs  # torch does not count outer and element by element products


# ---- bags
@st.composite
def bags(draw: st.DrawFn) -> tuple[Case, dict[str, Any]]:
    count, mode = draw(ROWS), draw(st.sampled_from(["sum", "mean", "max"]))
    include = draw(st.booleans())
    module = nn.EmbeddingBag(
        count, draw(NUMBERS), mode=mode, include_last_offset=include, dtype=torch.float64,
        padding_idx=draw(st.sampled_from([None, 0, -1])), max_norm=draw(st.sampled_from([None, None, 1.0])),
    )  # fmt: skip
    ids = indices(draw, count, [(6,), (2, 3), (3, 1), (0,)])
    given: dict[str, Any] = {}
    if ids.ndim == 1:
        starts = [0, *sorted(draw(st.lists(st.integers(0, len(ids)), max_size=3)))]
        given["offsets"] = torch.tensor([*starts, len(ids)] if include else starts, dtype=ids.dtype)
    if mode == "sum" and draw(st.booleans()):
        given["per_sample_weights"] = noise(*ids.shape, seed=3)
    return draw(twins(module, ids)), given


def bag_gradients(module: nn.Module, ids: Tensor, given: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    given = {key: value.clone() for key, value in given.items()}
    weights = given.get("per_sample_weights")
    if weights is not None:
        weights.requires_grad_()
    y = module(ids, **given)
    (y * noise(*y.shape, seed=7)).sum().backward()
    return y, None if weights is None else weights.grad


@settings(max_examples=80)
@given(bags())
def test_a_bag_is_its_dense_twin_and_lowers(both: tuple[Case, dict[str, Any]]) -> None:
    case, given = both
    lowered = case.layer.lower()
    found, found_weights = bag_gradients(case.layer, case.ids, given)
    wanted, wanted_weights = bag_gradients(case.dense, case.ids, given)
    assert_close(found, wanted)
    assert_close(lowered(case.ids, **given), wanted)
    if wanted_weights is not None and found_weights is not None:
        assert_close(found_weights, wanted_weights)
    if case.dense.max_norm is None:
        assert_gradients_follow(case.layer, case.dense)


def test_a_bag_refuses_what_torch_refuses() -> None:
    layer = made(nn.EmbeddingBag(9, 4, mode="mean"), formats.SVD())
    with pytest.raises(NotImplementedError, match="per_sample_weights"):
        layer(torch.zeros(2, 3, dtype=torch.long), per_sample_weights=torch.ones(2, 3))
    with pytest.raises(ValueError, match="offsets"):
        layer(torch.zeros(6, dtype=torch.long))


# ---- single layers
def made(module: nn.Module, form: Format, stages: Sequence[Sequence[int]] = ()) -> Table:
    """The layer of a module in a format at full rank."""
    kind = layers.kind_of(module)
    assert kind is not None
    assert issubclass(kind, Table)
    net = form.network(kind.axes(module)["weight"])
    cores = form.decompose(kind.dense_weight(module, "weight"), net)
    return kind.from_dense(module, {"weight": FactoredWeight(net, cores, stages or [(k,) for k in range(len(cores))])})


@pytest.mark.parametrize("form", SUITING, ids=repr)
@pytest.mark.parametrize("module", [nn.Embedding(53, 12, padding_idx=3), nn.EmbeddingBag(53, 12)])
def test_a_decomposed_table_is_the_module_it_came_from(module: nn.Module, form: Format) -> None:
    module = copy.deepcopy(module).double()
    layer, ids = made(module, form), numbered(53, (4, 5), 0)
    iterated = isinstance(form, formats.CP)
    assert_close(layer(ids), module(ids), 1e-4 if iterated else 1e-12)
    assert_close(layer.eval().lower()(ids), module(ids), 1e-4 if iterated else 1e-12)


@pytest.mark.parametrize("form", [formats.SVD(), formats.TT(order=2), formats.TR(), formats.STT()])
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("index", [-1, 11, 12, 2**31 - 1])  # 11 rows become 3 x 4 digits: 11 would be padding
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_an_index_outside_the_table_is_refused(
    form: Format, kind: type[nn.Module], index: int, dtype: torch.dtype
) -> None:
    layer = made(kind(11, 8), form)
    for module in (layer, layer.lower()):
        with pytest.raises(IndexError, match=r"out of (range|bounds)"):
            module(torch.tensor([[0, index]], dtype=dtype))


@pytest.mark.parametrize("padding", [torch.zeros(6), torch.arange(6.0)])
def test_the_padding_row_stays_what_it_was_and_is_not_trained(padding: Tensor) -> None:
    module = nn.Embedding(20, 6, padding_idx=1)
    with torch.no_grad():
        module.weight[1] = padding
    net = formats.SVD().network({"i": 20, "o": 6}, [2])
    cores = formats.SVD().decompose(module.weight.detach(), net)
    layer = layers.Embedding.from_dense(module, {"weight": FactoredWeight(net, cores, [(0,), (1,)])})
    ids = torch.tensor([1, 1])
    assert torch.equal(layer(ids), padding.expand(2, 6))
    assert torch.equal(layer.lower()(ids), padding.expand(2, 6))
    assert not layer(ids).requires_grad or all(
        not grad.any() for grad in torch.autograd.grad(layer(ids).sum(), list(layer.weight.cores))
    )
    other = layers.Embedding.from_dense(nn.Embedding(20, 6, padding_idx=1), {"weight": copy.deepcopy(layer.weight)})
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(ids), layer(ids))


def test_the_bound_on_a_norm_has_the_gradient_of_what_is_computed() -> None:
    layer = made(nn.Embedding(7, 4, max_norm=0.7, dtype=torch.float64), formats.SVD())

    def output(*cores: Tensor) -> Tensor:
        names = [f"weight.cores.{k}" for k in range(len(cores))]
        return torch.func.functional_call(layer, dict(zip(names, cores, strict=True)), (torch.arange(7),))

    assert torch.autograd.gradcheck(
        output, tuple(core.detach().clone().requires_grad_() for core in layer.weight.cores)
    )


def test_gradients_scaled_by_frequency_are_left_alone() -> None:
    assert layers.kind_of(nn.Embedding(9, 4, scale_grad_by_freq=True)) is None
    assert layers.kind_of(nn.EmbeddingBag(9, 4, scale_grad_by_freq=True)) is None
    assert layers.kind_of(nn.Embedding(9, 4, sparse=True)) is layers.Embedding


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_table_stays_close(dtype: torch.dtype) -> None:
    module = nn.Embedding(30, 8).to(dtype)
    layer, ids = made(module, formats.TT(order=2)), torch.arange(30)
    assert all(core.dtype == dtype for core in layer.weight.cores)
    assert_close(layer(ids), module(ids), 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("form", [formats.SVD(), formats.TT(order=2), formats.HT()])
def test_autocast_computes_in_bfloat16_and_gives_what_a_table_gives(form: Format) -> None:
    module, ids = nn.Embedding(30, 8), torch.arange(30)
    layer = made(module, form)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(ids)
    assert_close(found, module(ids), 0.04)  # 8 roundings of 2^-8
    found.sum().backward()
    assert all(core.grad is not None and core.grad.dtype == torch.float32 for core in layer.weight.cores)


def test_a_copy_and_a_state_dict_carry_the_layer() -> None:
    layer, ids = made(nn.Embedding(30, 8, padding_idx=2), formats.TT(order=2)), torch.arange(30)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(ids), layer(ids))
    assert not {p.data_ptr() for p in layer.parameters()} & {p.data_ptr() for p in twin.parameters()}
    other = made(nn.Embedding(30, 8, padding_idx=2), formats.TT(order=2))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(ids), layer(ids))
    assert sorted(layer.state_dict()) == ["padding_row", "weight.cores.0", "weight.cores.1"]


COMPILED: list[tuple[nn.Module, Format, tuple[Any, ...]]] = [
    (nn.Embedding(30, 8, padding_idx=2), formats.SVD(), (numbered(30, (2, 5), 1),)),
    (nn.Embedding(31, 8, max_norm=1.0), formats.TT(order=2), (numbered(31, (2, 5), 1),)),
    (nn.EmbeddingBag(31, 8, mode="max", padding_idx=0), formats.HT(), (numbered(31, (2, 5), 1),)),
    (nn.EmbeddingBag(31, 8, mode="mean"), formats.TR(), (numbered(31, (6,), 1), torch.tensor([0, 2]))),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("module", "form", "given"), COMPILED)
@pytest.mark.parametrize("lowered", [False, True])
def test_tables_export_and_compile(
    compiler: None, module: nn.Module, form: Format, given: tuple[Any, ...], lowered: bool
) -> None:
    layer: nn.Module = made(module, form).eval()
    layer = layer.lower() if lowered else layer
    for gradients_on in (True, False):
        with torch.set_grad_enabled(gradients_on):
            wanted = layer(*given)
            assert_close(torch.export.export(layer, given).module()(*given), wanted, 1e-6)
            assert_close(torch.compile(layer, fullgraph=True, backend="eager")(*given), wanted, 1e-6)


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "form", "given"), COMPILED)
def test_inductor_agrees(compiler: None, module: nn.Module, form: Format, given: tuple[Any, ...]) -> None:
    layer = made(module, form).eval()
    assert_close(torch.compile(layer)(*given), layer(*given), 1e-5)


# ---- large vocabularies
class Largest(TorchDispatchMode):
    """The most numbers that any operator gave."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in self.known:
            self.seen = max(self.seen, result.numel())
        return result

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.known = {p.untyped_storage().data_ptr() for p in model.parameters()}


@pytest.mark.parametrize("count", [50_257, 50_261])
@pytest.mark.parametrize("form", [formats.SVD(), formats.TT(), formats.HT(), formats.TR()], ids=repr)
def test_large_prime_vocabularies_are_looked_up_without_a_table(count: int, form: Format) -> None:
    module = nn.Embedding(count, 64, device="meta")
    net = form.network({"i": count, "o": 64})
    net = net.with_ranks([min(rank, 4) for rank in net.ranks])
    cores = [noise(*shape, seed=k).float() for k, shape in enumerate(net.shapes)]
    layer = layers.Embedding(module, FactoredWeight(net, cores, [(k,) for k in range(len(cores))]))
    ids = torch.tensor([[0, 1, 224, 225], [1368, 37 * 37, count // 2, count - 1]])
    with Largest(layer) as largest:
        found = layer(ids)
        found.sum().backward()
    assert largest.seen <= max(8 * max(map(math.prod, net.shapes[-2:])) * 64, max(map(math.prod, net.shapes)))
    assert largest.seen < count * 64 / 10
    assert_close(found, net.weight(cores)[ids], 1e-5)
    for beyond in (count, -1):
        with pytest.raises(IndexError):
            layer(torch.tensor([beyond]))


def test_a_core_with_two_digits_is_not_copied() -> None:
    net = formats.TT(order=3).network({"i": 50_257, "o": 64}, [4, None])
    assert net.cores[1] == ("r1", "i2", "o2", "i3", "o3")
    cores = [noise(*shape, seed=k).float() for k, shape in enumerate(net.shapes)]
    layer = layers.Embedding(nn.Embedding(50_257, 64, device="meta"), FactoredWeight(net, cores, [(0,), (1,)]))
    ids = torch.tensor([0, 1368, 50_256])
    with torch.no_grad(), Largest(layer) as largest:
        found = layer(ids)
    assert largest.seen <= 3 * 4 * 64 < cores[1].numel() / 10
    assert_close(found, net.weight(cores)[ids], 1e-5)


@pytest.mark.parametrize("count", [50_257, 50_261])
def test_modes_of_prime_vocabularies_are_balanced(count: int) -> None:
    assert balanced_factors(count, 2) == (224, 225)
    assert balanced_factors(count, 3) == (37, 37, 37)


# ---- in networks
class Small(nn.Module):
    """Words, places and a head that shares the words' table."""

    def __init__(self, words: int = 211, width: int = 32, length: int = 12, head_first: bool = False) -> None:
        super().__init__()
        if head_first:
            self.head = nn.Linear(width, words)
        self.words, self.places = nn.Embedding(words, width, padding_idx=0), nn.Embedding(length, width)
        self.mix, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        if not head_first:
            self.head = nn.Linear(width, words)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(x + functional.gelu(self.mix(x))))


def small(**options: Any) -> tuple[Small, Tensor]:
    torch.manual_seed(0)
    return Small(**options).eval(), numbered(211, (3, 12), 5)


@pytest.mark.parametrize("head_first", [False, True])
def test_a_tied_table_is_one_weight_in_two_places(head_first: bool) -> None:
    model, ids = small(head_first=head_first)
    site = sites(model)["head" if head_first else "words"]
    places = [("words", head_first), ("head", not head_first)]
    assert [(place.module, place.mirrored) for place in site.places] == (places[::-1] if head_first else places)
    assert site.obstacle is None
    profile = tenfold.inspect(model, ids)
    assert profile.layers[site.name].params == 211 * 32
    assert profile.layers[site.name].macs == 12 * 211 * 32
    assert profile.macs == 12 * (211 * 32 + 32 * 32)


@pytest.mark.parametrize("head_first", [False, True])
@pytest.mark.parametrize("name", ["svd", "tucker", "tt", "ht", "tr", "sttu"])
def test_a_tied_table_in_cores_at_full_rank_is_the_dense_one(name: str, head_first: bool) -> None:
    model, ids = small(head_first=head_first)
    model, row = model.double(), "head" if head_first else "words"
    site = sites(model)[row]
    form = formats.format_named(name)
    modes = {axis: tuple(sizes) for axis, sizes in form.default_modes(site.axes).items()}
    net = form.network(site.axes)
    result = tenfold.decompose(model, Plan({row: Row(row, name, modes, net.ranks)}))
    shared = [{id(core) for core in layer.weight.cores} for layer in (result.words, result.head)]
    assert shared[0] == shared[1]
    for network in (model, result):
        network(ids).square().mean().backward()
    assert_close(result(ids), model(ids))
    assert_close(tenfold.lower(result)(ids), model(ids))
    assert_close(result.head.bias.grad, model.head.bias.grad, 1e-11)
    assert_close(result.mix.weight.grad, model.mix.weight.grad, 1e-11)
    cores = [core.detach().clone().requires_grad_() for core in result.get_submodule(row).weight.cores]
    net.weight(cores).backward(model.words.weight.grad)
    for core, wanted in zip(result.get_submodule(row).weight.cores, cores, strict=True):
        assert torch.dist(core.grad, wanted.grad) <= 1e-10 * (1 + wanted.grad.norm())


ASKED: list[dict[str, Any]] = [{"params": "3x"}, {"macs": "1.5x"}, {"params": "2x", "macs": "1.2x"}]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", ["auto", "svd", "tt", "tucker", "ht", "sttu", "stt"])
def test_a_tied_network_is_planned_saved_loaded_lowered_and_trained(
    name: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    model, ids = small()
    profile = tenfold.inspect(model, ids)
    plan = tenfold.plan(model, profile, format=name, max_error=1, **asked)  # noise has no rank to find
    result = tenfold.decompose(model, plan)
    after = tenfold.inspect(result, ids)
    for budget, ratio in asked.items():
        assert getattr(profile, budget) / getattr(after, budget) >= float(ratio[:-1])
    assert isinstance(result.words, Layer)
    assert isinstance(result.head, Layer)
    cores = list(result.words.weight.cores)
    assert {id(core) for core in cores} == {id(core) for core in result.head.weight.cores}
    assert sum(p.numel() for p in result.parameters()) == after.params
    assert after.layers["words"].params == result.words.weight.net.params
    assert after.layers["head"].params == 0
    site, row = sites(model)["words"], profile.layers["words"]
    planned = site.macs(result.words.weight.stages, row.positions, row.macs, row.calls)
    assert planned == after.layers["words"].macs + after.layers["head"].macs

    tenfold.storage.save(tmp_path / "out", result, plan, Document(tenfold.storage.Origin("given", "Small")))
    torch.manual_seed(1)
    loaded = tenfold.load(tmp_path / "out", model=Small())
    with torch.no_grad():
        assert torch.equal(loaded(ids), result(ids))
        assert torch.allclose(tenfold.lower(loaded)(ids), result(ids), atol=1e-4)
    assert {id(core) for core in loaded.words.weight.cores} == {id(core) for core in loaded.head.weight.cores}

    optimizer = torch.optim.SGD(loaded.train().parameters(), lr=0.1)
    loaded(ids).square().mean().backward()
    optimizer.step()
    trained = loaded.words.weight.in_axes()  # both have the order of the one parameter: (words, width)
    assert torch.dist(trained, loaded.head.weight.in_axes()) <= 1e-6 * trained.norm()
    assert torch.dist(trained, result.words.weight.in_axes()) > 1e-4 * trained.norm()


def test_a_frozen_table_stays_frozen() -> None:
    model, ids = small()
    model.words.weight.requires_grad_(False)
    result = tenfold.decompose(model, Plan({"words": Row("words", "svd", ranks=(4,))}))
    result(ids).sum().backward()
    assert all(core.grad is None for core in result.words.weight.cores)


@pytest.mark.parametrize("name", ["ada-tucker", "scada-tucker"])
def test_formats_without_rows_are_refused_with_those_that_suit(name: str) -> None:
    model, ids = small()
    with pytest.raises(TenfoldError, match=r"layer 'words'.*have no rows to look up; formats that suit: svd, tucker"):
        tenfold.plan(model, tenfold.inspect(model, ids), params="2x", layers={"words": name})
    plan = tenfold.plan(model, tenfold.inspect(model, ids), params="1.1x", format=f"{name},svd")
    assert plan.rows["words"].format == "svd"
    with pytest.raises(TenfoldError, match="stage that joins cores with rows of a table would build the table"):
        tenfold.decompose(model, Plan({"words": Row("words", "svd", ranks=(4,), stages=((0, 1),))}))


# ---- inputs of whole numbers
def test_networks_on_indices_are_compressed_and_their_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = small()
    result = tenfold.compress(model, inputs=parse_inputs(["12:int64"]), params="3x", format="svd")
    assert result.document.input == {"x": [12]}
    assert result.document.dtypes == {"x": "int64"}
    tenfold.save(result, tmp_path / "out")
    assert tenfold.storage.read_document(tmp_path / "out").dtypes == {"x": "int64"}
    page = (tmp_path / "out/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tenfold, "load", lambda folder, model: tenfold.api.load(folder, model=Small()))
    names: dict[str, Any] = {"Small": Small}
    exec(page.split("```python")[1].split("```")[0].replace("Small(...)", "Small()"), names)
    assert names["y"].shape == (1, 12, 211)
