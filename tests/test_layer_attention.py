"""Attention and encoder layers: at full rank they are torch's own, whatever is in cores, lowered too."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import tenfold
from tenfold import formats, layers
from tenfold.formats import Format
from tenfold.inputs import evaluating, inputs_for
from tenfold.layers import Attention, EncoderLayer, FactoredWeight, Layer
from tenfold.measure import macs
from tenfold.measure.counts import products_visible
from tenfold.measure.forward import timed
from tenfold.network import random_cores
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, decompose, lower, sites

FORMATS: tuple[Format, ...] = (
    *(kind() for name, kind in formats.BUILT_IN.items() if name not in ("tucker2", "ht2")),
    formats.TT(order=2), formats.TT(layout="split", order=2),
)  # fmt: skip
NESTED = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter drawn anew, biases and norms included."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) / 2)
    return module


def twin(module: nn.Module, weights: Mapping[str, tuple[Format, Sequence[int]]], cut: bool, seed: int) -> Layer:
    """The layer with random cores for some weights; the module's are set to what they stand for."""
    kind = layers.kind_of(module)
    assert kind is not None
    draw = torch.Generator().manual_seed(seed)
    cores = {}
    for name, (form, ranks) in weights.items():
        net = form.network(kind.axes(module)[name])
        net = net.with_ranks([min(rank, ranks[k % len(ranks)]) for k, rank in enumerate(net.ranks)])
        numbers = random_cores(net, 1.0, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            kind.dense_weight(module, name).copy_(net.weight(numbers))
        count = len(net.cores)
        stages = [(k,) for k in range(count)] if cut and not net.straddles else [tuple(range(count))]
        cores[name] = FactoredWeight(net, numbers, stages)
    return kind.from_dense(copy.deepcopy(module), cores)


def assert_close(found: Tensor | None, wanted: Tensor | None, share: float = 1e-12) -> None:
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert torch.dist(found.detach(), wanted.detach()) <= share * (1 + wanted.detach().norm())


# ---- generated attention
@dataclass(frozen=True)
class Case:
    """A layer of random cores, the dense module with the weights that they stand for, and what both are called with."""

    layer: Layer
    dense: nn.Module
    given: tuple[Tensor, ...]
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        held = {name: isinstance(self.layer.held(name), FactoredWeight) for name in self.layer.sizes}
        return f"{vars(self.dense)}, in cores: {held}, {[tuple(x.shape) for x in self.given]}, {self.options}"


@st.composite
def in_cores(draw: st.DrawFn, module: nn.Module) -> Layer:
    kind = layers.kind_of(module)
    assert kind is not None
    chosen = draw(st.lists(st.sampled_from(sorted(kind.axes(module))), unique=True))
    ranks = st.lists(st.integers(1, 4), min_size=1, max_size=3)
    weights = {name: (draw(st.sampled_from(FORMATS)), draw(ranks)) for name in chosen}
    return twin(module, weights, draw(st.integers(0, 3)) > 0, draw(st.integers(0, 2**16)))


def bools(draw: st.DrawFn, *shape: int) -> Tensor:
    """A mask that leaves every row its first key."""
    mask = noise(*shape, seed=draw(st.integers(0, 99))) > 0.3
    mask[..., 0] = False
    return mask


def as_numbers(mask: Tensor) -> Tensor:
    return noise(*mask.shape).masked_fill(mask, float("-inf"))


@st.composite
def attentions(draw: st.DrawFn) -> Case:
    heads, head = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    embed, first = heads * head, draw(st.booleans())
    kdim, vdim = draw(st.sampled_from([(None, None), (None, None), (5, None), (4, 7)]))
    dense = nn.MultiheadAttention(
        embed, heads, bias=draw(st.booleans()), add_bias_kv=draw(st.booleans()), add_zero_attn=draw(st.booleans()),
        kdim=kdim, vdim=vdim, batch_first=first, dropout=draw(st.sampled_from([0.0, 0.5])), dtype=torch.float64,
    )  # fmt: skip
    layer = draw(in_cores(shaken(dense)))
    batch, tokens, keys = draw(st.sampled_from([0, 1, 3])), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    if kdim is vdim is None and draw(st.booleans()):
        keys, given = tokens, (sequence(batch, tokens, embed, first),) * 3
    else:
        sizes = [(tokens, embed), (keys, kdim or embed), (keys, vdim or embed)]
        given = tuple(sequence(batch, n, size, first, seed=k) for k, (n, size) in enumerate(sizes))
    attn = draw(st.sampled_from([None, (tokens, keys), ((batch or 1) * heads, tokens, keys)]))
    attn_mask = None if attn is None else bools(draw, *attn)
    padding = bools(draw, *([batch] if batch else []), keys) if draw(st.booleans()) else None
    if draw(st.booleans()):
        attn_mask, padding = (None if mask is None else as_numbers(mask) for mask in (attn_mask, padding))
    options = {"attn_mask": attn_mask, "key_padding_mask": padding, "need_weights": draw(st.booleans())}
    return Case(layer, dense, given, {**options, "average_attn_weights": draw(st.booleans())})


def sequence(batch: int, tokens: int, size: int, first: bool, seed: int = 0) -> Tensor:
    """(tokens, size) where there is no batch, else with the batch first or second."""
    if not batch:
        return noise(tokens, size, seed=seed)
    return noise(batch, tokens, size, seed=seed) if first else noise(tokens, batch, size, seed=seed)


@settings(max_examples=60)
@given(attentions())
def test_attention_is_its_dense_twin_lowered_too(case: Case) -> None:
    for train in (False, True):
        wanted, *found = [outcome(module.train(train), case) for module in (case.dense, case.layer, case.layer.lower())]
        for each in found:
            for part, whole in zip(each, wanted, strict=True):
                assert_close(part, whole)
        if case.dense.in_proj_bias is not None:
            assert_close(case.layer.in_proj_bias.grad, case.dense.in_proj_bias.grad)
            assert_close(case.layer.out_proj.bias.grad, case.dense.out_proj.bias.grad)
    with torch.no_grad():
        wanted = case.dense.eval()(*case.given, **case.options)  # by torch's fast path, where it has one
        for part, whole in zip(case.layer.eval()(*case.given, **case.options), wanted, strict=True):
            assert_close(part, whole)
    assert not any(isinstance(part, Layer | FactoredWeight) for part in case.layer.lower().modules())


def outcome(module: nn.Module, case: Case) -> list[Tensor | None]:
    """Outputs, and gradients of the inputs and of the added key and value; dropout from one seed."""
    module.zero_grad()
    fresh = {id(x): x.clone().requires_grad_() for x in case.given}
    given = [fresh[id(x)] for x in case.given]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = module(*given, **case.options)
    outputs = found if isinstance(found, tuple) else (found,)
    loss = sum((y * noise(*y.shape, seed=7)).sum() for y in outputs if y is not None)
    assert isinstance(loss, Tensor)
    loss.backward()
    added = [getattr(module, name, None) for name in ("bias_k", "bias_v")]
    return [*outputs, *(x.grad for x in given), *(None if each is None else each.grad for each in added)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("extra", [{}, {"add_bias_kv": True, "add_zero_attn": True}])
def test_the_hint_of_a_causal_mask_means_what_it_means_in_torch(padded: bool, extra: dict[str, bool]) -> None:
    dense = shaken(nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64, **extra))
    layer, x = twin(dense, {"k_proj_weight": (formats.SVD(), (4,))}, True, 0), noise(2, 4, 6)
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    padding = torch.zeros(2, 4, dtype=torch.float64) if padded else None
    for need in (False, True):
        options = {"attn_mask": mask, "is_causal": True, "key_padding_mask": padding, "need_weights": need}
        for part, whole in zip(layer(x, x, x, **options), dense(x, x, x, **options), strict=True):
            assert_close(part, whole)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([(2, 4, 6)] * 3, {"is_causal": True}, "is_causal is a hint about attn_mask, and there is none"),
        ([(2, 4, 6), (4, 6), (4, 6)], {}, r"shapes \[2, 4, 6\], \[4, 6\], \[4, 6\] do not go together"),
        (
            [(2, 4, 6)] * 3,
            {"attn_mask": torch.ones(1, 4)},
            r"\[1, 4\] torch.float32; .* \[4, 4\] or \[4, 4, 4\]",
        ),
        (
            [(2, 4, 6)] * 3,
            {"key_padding_mask": torch.ones(4, 2, dtype=torch.bool)},
            r"bool; .* of \[2, 4\]",
        ),
        ([(2, 4, 6)] * 3, {"attn_mask": torch.ones(4, 4, dtype=torch.int64)}, "int64; bool or floating"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    given: list[tuple[int, ...]], options: dict[str, Any], words: str
) -> None:
    layer = Attention.from_dense(nn.MultiheadAttention(6, 2, batch_first=True), {})
    with pytest.raises(TenfoldError, match=words):
        layer(*(torch.ones(shape) for shape in given), **options)


# ---- generated encoder layers
@st.composite
def encoders(draw: st.DrawFn) -> Case:
    heads = draw(st.integers(1, 2))
    embed, first = heads * draw(st.integers(1, 3)), draw(st.booleans())
    dense = nn.TransformerEncoderLayer(
        embed, heads, draw(st.integers(1, 7)), batch_first=first, norm_first=draw(st.booleans()),
        bias=draw(st.booleans()), dropout=draw(st.sampled_from([0.0, 0.3])), dtype=torch.float64, layer_norm_eps=0.1,
        activation=draw(st.sampled_from(["relu", "gelu", nn.GELU(), torch.tanh])),
    )  # fmt: skip
    layer = draw(in_cores(shaken(dense)))
    batch, tokens = draw(st.sampled_from([0, 1, 3])), draw(st.integers(1, 4))
    mask = bools(draw, tokens, tokens) if draw(st.booleans()) else None
    padding = bools(draw, *([batch] if batch else []), tokens) if draw(st.booleans()) else None
    return Case(
        layer, dense, (sequence(batch, tokens, embed, first),), {"src_mask": mask, "src_key_padding_mask": padding}
    )


@settings(max_examples=35)
@given(encoders())
def test_an_encoder_layer_is_its_dense_twin_lowered_too(case: Case) -> None:
    for train in (False, True) if case.dense.dropout.p == 0 else (False,):  # dropout fills memory in its own order
        wanted, *found = [outcome(module.train(train), case) for module in (case.dense, case.layer, case.layer.lower())]
        for each in found:
            for part, whole in zip(each, wanted, strict=True):
                assert_close(part, whole, 1e-9)  # two norms of few features, one after the other
    with torch.no_grad():
        wanted = case.dense.eval()(*case.given, **case.options)  # by torch's fast path, where it has one
        for module in (case.layer.eval(), case.layer.lower()):
            assert_close(module(*case.given, **case.options), wanted, 1e-9)
    assert not any(isinstance(part, Layer | FactoredWeight) for part in case.layer.lower().modules())


@settings(max_examples=15)
@given(st.one_of(attentions(), encoders()))
def test_multiply_adds_are_what_the_flop_counter_sees(case: Case) -> None:
    lowered = case.layer.lower()
    given = inputs_for(case.dense, case.given, batch="none")  # all as one sample: no share is rounded
    rows = [macs(Called(module, case.options), given) for module in (case.dense, case.layer)]
    for module, counted in zip((case.dense, lowered), rows, strict=True):
        with evaluating(module), products_visible(), FlopCounterMode(display=False) as counter:
            module(*case.given, **case.options)
        assert counted.total == counter.get_total_flops() // 2
        assert list(counted.weights) == [f"module.{name}" for name in case.layer.sizes]
    assert macs(Called(lowered, case.options), given).total == rows[1].total


class Called(nn.Module):
    """A module with some of its arguments."""

    def __init__(self, module: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.module, self.options = module, options

    def forward(self, *given: Tensor) -> Tensor:
        found = self.module(*given, **self.options)
        return found[0] if isinstance(found, tuple) else found


# ---- stacks
def stack(count: int = 3) -> nn.TransformerEncoder:
    """Encoder layers in eval mode."""
    one = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dtype=torch.float64)
    return shaken(nn.TransformerEncoder(one, count)).eval()


def at_full_rank(model: nn.Module, names: Sequence[str], stages: tuple[tuple[int, ...], ...] = ()) -> nn.Module:
    known = sites(model)
    ranks = {name: (min(known[name].axes.values()),) for name in names}
    return decompose(model, Plan({name: Row(name, "svd", ranks=ranks[name], stages=stages) for name in names}))


@NESTED
@pytest.mark.parametrize("which", [(0,), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("weight", ["self_attn.out_proj.weight", "self_attn.v_proj_weight", "linear1.weight"])
def test_a_stack_of_torchs_nests_padded_inputs_as_before(which: tuple[int, ...], weight: str) -> None:
    dense, x = stack(), noise(3, 5, 8)
    padding = torch.arange(5) >= torch.tensor([5, 3, 4])[:, None]
    small = at_full_rank(dense, [f"layers.{k}.{weight}" for k in which])
    assert [type(part) for part in small.layers] == [
        EncoderLayer if k in which else nn.TransformerEncoderLayer for k in range(3)
    ]
    for grad in (False, True):
        for frozen in (False, True):
            with torch.set_grad_enabled(grad):
                wanted = dense.requires_grad_(not frozen)(x, src_key_padding_mask=padding)
                assert bool(wanted[1, 3:].eq(0).all()) == (frozen or not grad)  # zeros where it was nested
                for model in (small, lower(small)):
                    assert_close(model.requires_grad_(not frozen)(x, src_key_padding_mask=padding), wanted)


@NESTED
def test_a_nested_tensor_passes_and_gives_gradients() -> None:
    layer = at_full_rank(stack(), ["layers.0.linear2.weight"]).layers[0]
    rows = [noise(n, 8, seed=n).requires_grad_() for n in (3, 5)]
    found = layer(torch.nested.as_nested_tensor(rows)).unbind()
    for row, each in zip(rows, found, strict=True):
        assert_close(each, layer(row[None])[0])
    sum(each.square().sum() for each in found).backward()
    assert all(row.grad is not None and row.grad.isfinite().all() for row in rows)
    with pytest.raises(TenfoldError, match="nested tensors go with batch_first=True and without a src_key_padding"):
        layer(torch.nested.as_nested_tensor(rows), src_key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(TenfoldError, match="compressed attention takes no nested tensors"):
        layer.self_attn(*[torch.nested.as_nested_tensor(rows)] * 3)


class Operators(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func._overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@NESTED
def test_a_dense_layer_is_timed_on_torchs_fast_path() -> None:
    dense, x = stack(), noise(3, 5, 8)
    spent: dict[nn.Module, float] = {}
    with evaluating(dense), timed(dense.layers, spent), Operators() as ran:
        dense(x)
    assert "_transformer_encoder_layer_fwd" in ran.names
    assert set(spent) == set(dense.layers)
    padding = torch.arange(5) >= torch.tensor([5, 3, 4])[:, None]
    profile = tenfold.inspect(dense, (x, None, padding))  # nested, and hooks of their own would forbid that
    assert profile.macs == 3 * (5 * (4 * 64 + 2 * 96) + 2 * 5 * 5 * 8)
    assert torch.equal(dense(x), copy.deepcopy(dense)(x))
    assert "forward" not in vars(dense.layers[0])


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_layer_calls_its_attentions(norm_first: bool) -> None:
    one = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first, dtype=torch.float64)
    dense = shaken(nn.TransformerDecoder(one, 2)).eval()
    names = list(sites(dense))
    assert names[:2] == ["layers.0.self_attn.q_proj_weight", "layers.0.self_attn.k_proj_weight"]
    assert names[8:11] == ["layers.0.linear1", "layers.0.linear2", "layers.1.self_attn.q_proj_weight"]
    small = at_full_rank(dense, names)
    x, memory = noise(2, 4, 8), noise(2, 6, 8, seed=1)
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    across = noise(4, 6)
    for options in (
        {},
        {"tgt_mask": mask},
        {"tgt_mask": mask, "tgt_is_causal": True, "memory_mask": across},
        {"memory_key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2])},
    ):
        for model in (small, lower(small)):
            assert_close(model(x, memory, **options), dense(x, memory, **options))
    profile = tenfold.inspect(small, {"tgt": x, "memory": memory})
    assert profile.layers["layers.1.multihead_attn.q_proj_weight"].positions == {"tokens": (4, 4)}
    assert profile.layers["layers.1.multihead_attn.k_proj_weight"].positions == {"tokens": (6, 6)}
    assert profile.macs == tenfold.inspect(lower(small), {"tgt": x, "memory": memory}).macs


# ---- what is kept
def test_each_weight_is_a_row_and_the_others_stay() -> None:
    dense = nn.MultiheadAttention(8, 2, batch_first=True)
    dense.in_proj_weight.requires_grad_(False)
    small = at_full_rank(nn.Sequential(dense), ["0.q_proj_weight"])[0]
    assert sorted(small.state_dict()) == [
        "in_proj_bias", "k_proj_weight", "out_proj.bias", "out_proj.weight", "q_proj_weight.cores.0",
        "q_proj_weight.cores.1", "v_proj_weight",
    ]  # fmt: skip
    for name, whole in zip("qkv", dense.in_proj_weight.chunk(3), strict=True):
        held = small.held(f"{name}_proj_weight")
        assert isinstance(held, FactoredWeight) == (name == "q")
        assert_close(held.in_axes() if isinstance(held, FactoredWeight) else held, whole, 1e-6)
    assert not any(p.requires_grad for name, p in small.named_parameters() if "_proj_weight" in name)
    assert small.out_proj.weight.requires_grad
    again = copy.deepcopy(small)
    shaken(again)
    again.load_state_dict(small.state_dict())
    x = torch.randn(2, 3, 8)
    assert torch.equal(again(x, x, x)[0], small(x, x, x)[0])


def test_weights_rebuilt_are_lowered_to_torchs_own() -> None:
    dense = stack()
    lowered = lower(at_full_rank(dense, list(sites(dense)), ((0, 1),)))
    assert all(type(part) is nn.TransformerEncoderLayer for part in lowered.layers)
    assert list(lowered.state_dict()) == list(dense.state_dict())
    for found, wanted in zip(lowered.state_dict().values(), dense.state_dict().values(), strict=True):
        assert_close(found, wanted)
    chains = lower(at_full_rank(dense, ["layers.0.self_attn.q_proj_weight"]))
    assert type(chains.layers[0]) is not nn.TransformerEncoderLayer
    assert [type(part) for part in chains.layers[0].self_attn.q_proj] == [nn.Linear, nn.Linear]
    assert type(chains.layers[0].linear1) is nn.Linear


def test_attentions_that_share_a_parameter_share_cores() -> None:
    model = nn.ModuleList(nn.MultiheadAttention(8, 2) for _ in range(2))
    model[1].in_proj_weight = model[0].in_proj_weight
    assert list(sites(model)) == [
        *(f"0.{name}_proj_weight" for name in "qkv"), "0.out_proj.weight", "1.out_proj.weight",
    ]  # fmt: skip
    small = at_full_rank(model, [f"0.{name}_proj_weight" for name in "qkv"])
    assert small[0].k_proj_weight is small[1].k_proj_weight
    assert small[0].in_proj_bias is not small[1].in_proj_bias


def test_batch_norms_beside_attention_are_folded() -> None:
    class Hybrid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.norm(self.conv(x)).flatten(2).mT
            return self.attention(tokens, tokens, tokens)[0]

    small, x = at_full_rank(Hybrid().eval(), ["attention.q_proj_weight"]), torch.randn(2, 3, 5, 5)
    lowered = lower(small)
    assert isinstance(lowered.norm, nn.Identity)
    assert_close(lowered(x), small(x), 1e-5)


@pytest.mark.parametrize("swap", ["self_attn", "linear1", "out_proj"])
def test_an_encoder_layer_with_a_part_of_its_own_stays_whole(swap: str) -> None:
    class Own(nn.Linear):
        pass

    layer = nn.TransformerEncoderLayer(8, 2, 12)
    if swap == "self_attn":
        layer.self_attn = nn.Identity()
    else:
        (layer if swap == "linear1" else layer.self_attn).set_submodule(swap, Own(8, 12 if swap == "linear1" else 8))
    assert list(sites(nn.Sequential(layer))) == []


# ---- precision, exporters and compilers
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_precisions_stay_close(dtype: torch.dtype) -> None:
    dense = stack().to(dtype)
    small, x = at_full_rank(dense, list(sites(dense))), noise(2, 4, 8, dtype=dtype)
    with torch.no_grad():
        found, wanted = small(x), dense(x)
    assert found.dtype == dtype
    assert torch.dist(found.float(), wanted.float()) <= 30 * torch.finfo(dtype).eps * wanted.float().norm()


def test_autocast_reaches_the_cores() -> None:
    dense = stack().float().layers[0]
    layer, x = at_full_rank(nn.Sequential(dense), list(sites(nn.Sequential(dense))))[0], noise(2, 4, 8).float()
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = layer(x, mask), dense(x, mask)
        weights = layer.self_attn(x, x, x)[1], dense.self_attn(x, x, x)[1]
    assert found.dtype == wanted.dtype
    assert weights[0].dtype == weights[1].dtype
    assert torch.dist(found.detach(), wanted.detach()) <= 0.1 * wanted.detach().norm()
    found.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.linear2.weight.cores)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("lowered", [False, True])
def test_stacks_export_and_compile(compiler: None, lowered: bool) -> None:
    dense = stack(1)
    small = at_full_rank(dense, [name for name in sites(dense) if "v_proj" not in name])
    model, x = lower(small) if lowered else small, noise(2, 5, 8)
    padding = torch.arange(5) >= torch.tensor([5, 3])[:, None]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            wanted = model(x, src_key_padding_mask=padding)
            exported = torch.export.export(model, (x,), {"src_key_padding_mask": padding}).module()
            compiled = torch.compile(model, fullgraph=True, backend="eager")
            for found in (exported(x, src_key_padding_mask=padding), compiled(x, src_key_padding_mask=padding)):
                assert_close(found[~padding], wanted[~padding])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_any_batch_is_exported_at_once() -> None:
    layer = at_full_rank(nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True)), ["0.k_proj_weight"])[0].eval()
    x, y = torch.randn(3, 5, 8), torch.randn(7, 5, 8)
    exported = torch.export.export(layer, (x, x, x), dynamic_shapes=[{0: torch.export.Dim.AUTO}] * 3).module()
    assert_close(exported(y, y, y)[0], layer(y, y, y)[0], 1e-6)


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_agrees(compiler: None) -> None:
    model = at_full_rank(stack().float(), ["layers.0.self_attn.q_proj_weight", "layers.0.linear1.weight"]).layers[0]
    x = torch.randn(2, 5, 8)
    assert_close(torch.compile(model)(x), model(x), 1e-5)


# ---- the whole way
class Vision(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 16, 24) / 5)
        layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(24))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patches(x).flatten(2).mT + self.position).mean(1))


def vision() -> nn.Module:
    torch.manual_seed(0)
    return Vision().eval()


def test_a_vision_transformer_goes_the_whole_way(tmp_path: Path) -> None:
    model, x = vision(), torch.randn(2, 3, 16, 16)
    found = tenfold.compress(model, inputs=x, params="2x", macs="1.8x", format="svd")
    assert any(not row.is_dense for name, row in found.plan.rows.items() if "_proj" in name)
    assert any(not row.is_dense for name, row in found.plan.rows.items() if ".linear" in name)
    plain = tenfold.lower(found.model)
    dense, small, lowered = (tenfold.inspect(net, x) for net in (model, found.model, plain))
    assert dense.params >= 2 * small.params
    assert dense.macs >= 1.8 * small.macs
    assert small.macs == lowered.macs
    with torch.no_grad():
        wanted = found.model(x)
        assert_close(plain(x), wanted, 1e-5)
        tenfold.save(found, tmp_path / "small")
        assert torch.equal(tenfold.load(tmp_path / "small", model=vision())(x), wanted)


@pytest.mark.parametrize("name", [name for name in formats.BUILT_IN if name not in ("tucker2", "ht2")])
def test_attention_is_planned_in_every_format_of_matrices(name: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)).eval(), torch.randn(2, 5, 16)
    some = ["0.self_attn.q_proj_weight", "0.self_attn.out_proj.weight"]
    plan = tenfold.plan(model, tenfold.inspect(model, x), params="1.05x", format=name, include=some)
    assert any(not row.is_dense for row in plan.rows.values())
    small = decompose(model, plan)
    assert sum(p.numel() for p in model.parameters()) >= 1.05 * sum(p.numel() for p in small.parameters())
    assert_close(lower(small)(x), small(x), 1e-5)
