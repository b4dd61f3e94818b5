"""Recurrences: whatever the formats, the stages, the geometry and the form of the input, a layer is torch's module."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import tenfold
from tenfold import formats
from tenfold.formats import Format
from tenfold.layers import FactoredWeight, Layer, Recurrent, kind_of
from tenfold.layers.recurrence import LoweredRecurrence, Steps
from tenfold.measure import macs
from tenfold.network import random_cores
from tenfold.protocols import TenfoldError

MATRIX_FORMATS: tuple[Format, ...] = (
    *(kind() for name, kind in formats.BUILT_IN.items() if name not in ("tucker2", "ht2")),
    formats.TT(order=2), formats.TT(order=3), formats.TT(layout="split", order=2), formats.TT(layout="pairs", order=2),
)  # fmt: skip
MODULES: tuple[type[nn.RNNBase], ...] = (nn.LSTM, nn.LSTM, nn.GRU, nn.RNN)
SIZES = st.sampled_from([1, 2, 3, 5, 6])


# ---- generated layers
@dataclass(frozen=True)
class Case:
    """A layer, some of its weights in random cores; torch's module with the weights they stand for; what both get."""

    layer: Recurrent
    dense: nn.RNNBase
    given: tuple[Any, ...]

    def __repr__(self) -> str:
        cores = {name: held.stages.partition for name, held in factored(self.layer)}
        return f"{self.dense}, {cores}, {[part.shape for part in flat(self.given)]}"


def factored(layer: Recurrent) -> Iterator[tuple[str, FactoredWeight]]:
    for name in layer.sizes:
        held = layer.held(name)
        if isinstance(held, FactoredWeight):
            yield name, held


def flat(value: Any) -> list[Tensor]:
    """Every floating tensor in tuples and packed sequences."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    return [] if value is None else [tensor for part in value for tensor in flat(part)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_weight(axes: dict[str, int], form: Format, choose: Any, seed: int) -> FactoredWeight:
    """Cores of small ranks, in any stages."""
    net = form.network(axes)
    net = net.with_ranks([min(rank, choose(3) + 1) for rank in net.ranks])
    cores = random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order = sorted(range(len(cores)), key=lambda _: choose(9))
    borders = [0, *(k for k in range(1, len(order)) if choose(2)), len(order)]
    each = [range(len(cores))] if net.straddles else [order[a:b] for a, b in pairwise(borders)]
    return FactoredWeight(net, cores, each)


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[type[nn.RNNBase], ...] = MODULES) -> Case:
    choose = lambda n: draw(st.integers(0, n - 1))  # noqa: E731
    kind, hidden = draw(st.sampled_from(kinds)), draw(SIZES)
    options: dict[str, Any] = {"proj_size": choose(hidden)} if kind is nn.LSTM and choose(2) else {}
    options |= {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))} if kind is nn.RNN else {}
    dense = kind(
        draw(SIZES), hidden, num_layers=choose(2) + 1, bias=bool(choose(4)), batch_first=bool(choose(2)),
        bidirectional=bool(choose(2)), dtype=torch.float64, **options,
    )  # fmt: skip
    weights = {}
    for name, axes in Recurrent.axes(dense).items():
        if choose(4):
            form = draw(st.sampled_from([f for start in MATRIX_FORMATS for f in start.variants(axes)]))
            weights[name] = random_weight(axes, form, choose, choose(2**16))
            getattr(dense, name).data = weights[name].in_axes().detach().contiguous()
    return Case(Recurrent.from_dense(copy.deepcopy(dense), weights), dense, draw(inputs(dense)))


@st.composite
def inputs(draw: st.DrawFn, dense: nn.RNNBase) -> tuple[Any, ...]:
    """A batch, one sample, or packed sequences, with a state or without."""
    form = draw(st.sampled_from(["batch", "batch", "sample", "sorted", "unsorted"]))
    n, steps = (1 if form == "sample" else draw(st.integers(1, 3))), draw(st.integers(1, 4))
    lead = (n, steps) if dense.batch_first else (steps, n)
    x: Any = noise(*((steps,) if form == "sample" else lead), dense.input_size)
    if form in ("sorted", "unsorted"):
        lengths = [draw(st.integers(1, steps)) for _ in range(n)]
        lengths = sorted(lengths, reverse=True) if form == "sorted" else lengths
        x = x[:, : max(lengths)] if dense.batch_first else x[: max(lengths)]
        x = pack_padded_sequence(x, torch.tensor(lengths), dense.batch_first, enforce_sorted=form == "sorted")
    if draw(st.booleans()):
        return (x,)
    units = dense.num_layers * (2 if dense.bidirectional else 1)
    widths = [dense.proj_size or dense.hidden_size, dense.hidden_size][: 2 if isinstance(dense, nn.LSTM) else 1]
    state = tuple(noise(units, *(() if form == "sample" else (n,)), width, seed=k) for k, width in enumerate(widths))
    return x, state if isinstance(dense, nn.LSTM) else state[0]


def assert_close(found: Any, wanted: Any, share: float = 1e-11) -> None:
    """Equal in form, and in every number."""
    assert type(found) is type(wanted)
    if isinstance(wanted, Tensor):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert torch.dist(found.double(), wanted.double()).item() <= share * (1 + wanted.double().norm().item())
    elif wanted is not None:
        for pair in zip(found, wanted, strict=True):
            assert_close(*pair, share)


def gradients(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, list[Tensor]]:
    """What comes back, and the gradients of everything given and of the biases."""
    given = copy.deepcopy(given)
    for part in flat(given):
        part.requires_grad_()
    result = module(*given)
    sum((y * noise(*y.shape, seed=k)).sum() for k, y in enumerate(flat(result))).backward()
    biases = [parameter for name, parameter in module.named_parameters() if name.startswith("bias")]
    return result, [part.grad for part in (*flat(given), *biases)]


@settings(max_examples=100)
@given(cases())
def test_a_recurrence_is_torchs_own(case: Case) -> None:
    wanted = gradients(case.dense, case.given)
    assert_close(gradients(case.layer, case.given), wanted)
    with torch.no_grad():  # in stages
        assert_close(case.layer(*case.given), wanted[0])
    for name, held in factored(case.layer):
        cores = [core.detach().clone().requires_grad_() for core in held.cores]
        wanted = getattr(case.dense, name).grad
        held.net.weight(cores).backward(wanted)
        for core, each in zip(held.cores, cores, strict=True):
            assert torch.dist(core.grad, each.grad) <= 1e-10 * (1 + wanted.norm()) * (1 + each.grad.norm())


@settings(max_examples=50)
@given(cases())
def test_lowered_it_is_the_layer_in_plain_modules(case: Case) -> None:
    before = torch.get_rng_state()
    lowered = case.layer.eval().lower()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(isinstance(module, Layer | FactoredWeight) for module in lowered.modules())
    with torch.no_grad():
        assert_close(lowered(*case.given), case.layer(*case.given))
    inputs = len(flat(case.given))
    assert_close(gradients(lowered, case.given)[1][:inputs], gradients(case.dense.eval(), case.given)[1][:inputs])
    rebuilt = all(held.stages.rebuilds for _, held in factored(case.layer))
    assert isinstance(lowered, type(case.dense)) == rebuilt
    assert not {p.data_ptr() for p in lowered.parameters()} & {p.data_ptr() for p in case.layer.parameters()}
    held = [case.layer.held(name) for name in case.layer.sizes]
    numbers = sum(part.stages.params if isinstance(part, FactoredWeight) else part.numel() for part in held)
    biases = sum(parameter.numel() for name, parameter in case.dense.named_parameters() if name.startswith("bias"))
    assert sum(parameter.numel() for parameter in lowered.parameters()) == numbers + biases


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(max_examples=20)
@given(cases())
def test_copies_and_states_carry_it_and_single_precision_is_close(case: Case) -> None:
    with torch.no_grad():
        wanted = case.layer(*case.given)
        twin = copy.deepcopy(case.layer)
        assert_close(twin(*case.given), wanted, 0.0)
        for parameter in twin.parameters():
            parameter.zero_()
        twin.load_state_dict(case.layer.state_dict())
        assert_close(twin(*case.given), wanted, 0.0)
        scale = 1 + sum(p.abs().sum().item() for p in case.dense.parameters())
        found = case.layer.float()(*single(case.given))
        for part, whole in zip(flat(found), flat(wanted), strict=True):
            assert torch.dist(part.double(), whole) <= 1e-5 * scale * (1 + whole.norm())


def single(value: Any) -> Any:
    """The same in float32."""
    if isinstance(value, PackedSequence):
        return value.to(torch.float32)
    return tuple(single(part) for part in value) if isinstance(value, tuple) else value.float()


# ---- some layers by hand
def made(
    dense: nn.RNNBase, form: Format | None = None, *, apart: bool = True, stepped: tuple[str, ...] = ()
) -> Recurrent:
    """Every weight in cores at full rank; input matrices, if `apart`, and `stepped` ones in a stage for each core."""
    form, weights = form or formats.SVD(), {}
    for name, axes in Recurrent.axes(dense).items():
        net = form.network(axes)
        cores = form.decompose(Recurrent.dense_weight(dense, name), net)
        several = (apart and name.startswith("weight_ih")) or name.startswith(stepped)
        each = [(k,) for k in range(len(cores))] if several else [range(len(cores))]
        weights[name] = FactoredWeight(net, cores, each)
    return Recurrent.from_dense(dense, weights)


PAIRS = formats.TT(layout="pairs", order=2)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_runs_is_torchs_kernel_wherever_the_last_stage_is_plain(kind: type[nn.RNNBase]) -> None:
    dense = kind(6, 8)
    lowered = made(dense).lower()
    assert isinstance(lowered, LoweredRecurrence)
    assert [type(part) for part in lowered.units] == [kind]
    assert [type(part) for part in made(dense, PAIRS).lower().units] == [Steps]
    assert type(made(dense, apart=False).lower()) is kind


def test_a_rebuilt_recurrence_is_torchs_own_bit_for_bit() -> None:
    dense = nn.LSTM(5, 7, 2, bidirectional=True, dropout=0.5)
    layer = made(dense, apart=False)
    with torch.no_grad():
        for name, parameter in dense.named_parameters():
            if name.startswith("weight"):
                parameter.copy_(layer.held(name).in_axes())
    x = torch.randn(4, 3, 5)
    for mode in (True, False):
        torch.manual_seed(0)
        wanted = dense.train(mode)(x)
        torch.manual_seed(0)
        assert_close(layer.train(mode)(x), wanted, 0.0)


def test_dropout_stands_between_layers_and_only_in_training() -> None:
    dense = nn.GRU(5, 400, 2, dropout=0.25)
    layer = made(dense)
    seen: list[Tensor] = []
    layer.heads[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(3, 20, 5)
    layer(x)
    layer.eval()(x)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not (seen[1] == 0).any()
    assert_close(layer(x), dense.eval()(x), 1e-4)


def test_attributes_that_networks_read_are_kept() -> None:
    layer = made(nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True, proj_size=3))
    layer.flatten_parameters()
    read = (layer.input_size, layer.hidden_size, layer.num_layers, layer.proj_size, layer.mode, layer.bias)
    assert read == (5, 7, 2, 3, "LSTM", True)
    assert layer.bidirectional
    assert layer.batch_first
    assert layer.extra_repr() == "LSTM, 5, 7, proj_size=3, num_layers=2, batch_first=True, bidirectional=True"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((torch.zeros(2, 3, 4, 5),), ValueError, "2D or 3D, got 4D"),
        ((torch.zeros(2, 3, 5), (torch.zeros(1, 2, 6),) * 2), RuntimeError, r"\(1, 3, 6\).*got \[1, 2, 6\]"),
        ((torch.zeros(2, 3, 7),), RuntimeError, "expected 5 features, got 7"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("apart", [True, False])
def test_what_torch_refuses_is_refused(given: Any, error: type[Exception], words: str, apart: bool) -> None:
    dense = nn.LSTM(5, 6)
    with pytest.raises(error):
        dense(*given)
    with pytest.raises(error, match=words):
        made(dense, apart=apart)(*given)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("stepped", ["weight_hh", "weight_hr"])
def test_stages_are_taken_step_by_step_where_they_are_kept(monkeypatch: pytest.MonkeyPatch, stepped: str) -> None:
    """Else torch's kernel runs, on the rebuilt matrix."""
    layer, x = made(nn.LSTM(6, 8, proj_size=4), stepped=(stepped,)), torch.randn(5, 2, 6)
    lowered = layer.lower()
    assert [type(part) for part in lowered.units] == [Steps]
    matrix = "hidden" if stepped == "weight_hh" else "projection"
    assert [type(part) for part in getattr(lowered.units[0], matrix)] == [nn.Linear, nn.Linear]
    wanted = layer(x)
    with torch.no_grad():
        assert_close(layer(x), wanted, 1e-6)
    taken: list[int] = []
    monkeypatch.setattr(Steps, "step", lambda self, inputs, state: taken.append(1) or state)
    layer(x)
    assert not taken
    with torch.no_grad():
        layer(x)
    assert len(taken) == 5


def test_a_format_for_convolutions_suits_no_recurrent_matrix() -> None:
    row = tenfold.Row("model.weight_hh_l0", "ht2", ranks=(2, 2))
    with pytest.raises(TenfoldError, match=r"weight_hh_l0"):
        tenfold.decompose(nn.LSTM(12, 12), tenfold.Plan({row.name: row}))


def test_a_weight_that_is_computed_from_another_is_left_alone() -> None:
    dense = nn.LSTM(5, 6)
    raw = dense.weight_hh_l0
    del dense._parameters["weight_hh_l0"]
    dense.weight_hh_l0 = raw * 0.5
    assert kind_of(dense) is None


def test_a_weight_that_two_directions_share_is_one_weight() -> None:
    dense = nn.GRU(24, 24, bidirectional=True)
    dense.weight_hh_l0_reverse = dense.weight_hh_l0
    row = tenfold.Row("model.weight_hh_l0", "svd", ranks=(24,))
    assert "model.weight_hh_l0_reverse" not in tenfold.inspect(dense, torch.zeros(2, 1, 24)).layers
    layer, x = tenfold.decompose(dense, tenfold.Plan({row.name: row})), torch.randn(3, 2, 24)
    assert layer.weight_hh_l0.cores[0] is layer.weight_hh_l0_reverse.cores[0]
    assert_close(layer(x), dense(x), 1e-5)


def test_batch_norms_elsewhere_are_folded_and_what_is_not_trained_stays_so() -> None:
    class Lines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)
            self.rnn = nn.LSTM(8, 32)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(self.norm(self.conv(x)).permute(2, 0, 1))[0]

    model, x = Lines().eval(), torch.randn(2, 3, 9)
    model.rnn.requires_grad_(False)
    rows = [tenfold.Row(f"rnn.weight_{part}_l0", "svd", ranks=(3,), stages=stages)
            for part, stages in (("ih", ((0,), (1,))), ("hh", ()))]  # fmt: skip
    small = tenfold.decompose(model, tenfold.Plan({row.name: row for row in rows}))
    assert not any(parameter.requires_grad for parameter in small.rnn.parameters())
    lowered = tenfold.lower(small)
    assert isinstance(lowered.rnn, LoweredRecurrence)
    assert isinstance(lowered.norm, nn.Identity)
    assert_close(lowered(x), small(x), 1e-5)


# ---- precision
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("form", [formats.SVD(), PAIRS])
def test_halves_and_autocast_give_what_torch_gives(kind: type[nn.RNNBase], form: Format) -> None:
    torch.manual_seed(0)
    dense = kind(6, 8, 2, bidirectional=True)
    layer, x = made(dense, form), torch.randn(4, 3, 6)
    wanted = dense(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_near(layer(x), dense(x))
    layer, dense = made(copy.deepcopy(dense).bfloat16(), form), dense.bfloat16()
    assert all(parameter.dtype == torch.bfloat16 for parameter in layer.parameters())
    assert_near(layer(x.bfloat16()), dense(x.bfloat16()))
    for part, whole in zip(flat(layer(x.bfloat16())), flat(wanted), strict=True):
        assert torch.dist(part.float(), whole) <= 0.05 * whole.norm()


def assert_near(found: Any, wanted: Any) -> None:
    """Of the same dtypes, within some roundings of bfloat16."""
    for part, whole in zip(flat(found), flat(wanted), strict=True):
        assert part.dtype == whole.dtype
        assert torch.dist(part.detach().float(), whole.detach().float()) <= 0.05 * whole.detach().float().norm()


# ---- exporters and compilers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The tensor attribute")
@pytest.mark.parametrize(
    ("kind", "form", "apart", "stepped"),
    [(nn.LSTM, formats.SVD(), True, ()), (nn.GRU, formats.SVD(), False, ()), (nn.GRU, PAIRS, True, ()),
     (nn.LSTM, formats.SVD(), True, ("weight_hh",)), (nn.GRU, PAIRS, True, ("weight_hh",))],
)  # fmt: skip
def test_recurrences_export_and_compile(
    compiler: None, kind: type[nn.RNNBase], form: Format, apart: bool, stepped: tuple[str, ...]
) -> None:
    layer = made(kind(6, 8, bidirectional=True, batch_first=True), form, apart=apart, stepped=stepped).eval()
    x = torch.randn(2, 2, 6)
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x), 1e-5)
    with torch.no_grad():
        wanted = layer(x)
        assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), wanted, 1e-5)
        assert_close(torch.export.export(layer, (x,)).module()(x), wanted, 1e-5)
        assert_close(torch.export.export(layer.lower(), (x,)).module()(x), wanted, 1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The tensor attribute")
@pytest.mark.parametrize("form", [formats.SVD(), PAIRS])
def test_recurrences_export_for_any_batch(compiler: None, form: Format) -> None:
    dense = nn.LSTM(6, 8, batch_first=True).eval()
    stepped = made(dense, form, stepped=("weight_hh",))
    for module in (dense, made(dense, form), made(dense, form).lower(), stepped, stepped.lower()):
        dynamic = torch.export.export(module, (torch.randn(2, 3, 6),), dynamic_shapes=[{0: torch.export.Dim("n")}])
        x = torch.randn(5, 3, 6)
        assert_close(dynamic.module()(x), module(x), 1e-5)


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", [formats.SVD(), PAIRS])
def test_inductor_agrees(compiler: None, form: Format) -> None:
    layer, x = made(nn.LSTM(6, 8), form).eval(), torch.randn(3, 2, 6)
    assert_close(torch.compile(layer)(x), layer(x), 1e-5)


# ---- measured
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_every_weight_counts_once_a_step(kind: type[nn.RNNBase], batch_first: bool) -> None:
    dense = kind(6, 8, 2, bidirectional=True, batch_first=batch_first)
    numbers = sum(parameter.numel() for name, parameter in dense.named_parameters() if "weight" in name)
    counted = macs(dense, torch.zeros(3, 3, 6))
    assert counted.total == 3 * numbers
    assert counted.other == 0
    assert counted.weights["model.weight_hh_l1_reverse"].positions == {"tokens": (3, 3)}
    layer = made(dense)
    stages = [held.stages.params for _, held in factored(layer)]
    assert macs(layer, torch.zeros(3, 3, 6)).total == 3 * sum(stages)
    assert macs(layer.lower(), torch.zeros(3, 3, 6)).total == 3 * sum(stages)
    assert (
        macs(made(dense, PAIRS).lower(), torch.zeros(3, 3, 6)).total
        == macs(made(dense, PAIRS), torch.zeros(3, 3, 6)).total
    )


class Words(nn.Module):
    """A word-level model over sequences of several lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 24)
        self.rnn = nn.LSTM(24, 32, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.head = nn.Linear(64, 40)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        self.rnn.flatten_parameters()
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


def test_packed_tokens_are_counted_as_many_as_there_are() -> None:
    torch.manual_seed(0)
    model, given = Words(), (torch.randint(40, (3, 6)), torch.tensor([2, 6, 4]))
    counted = macs(model, given)
    numbers = sum(parameter.numel() for name, parameter in model.rnn.named_parameters() if "weight" in name)
    assert sum(row.macs for name, row in counted.weights.items() if name.startswith("rnn.")) == numbers * 12 // 3


def test_a_word_model_is_planned_trained_saved_and_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, given = Words().eval(), (torch.randint(40, (3, 6)), torch.tensor([2, 6, 4]))
    result = tenfold.compress(model, inputs=given, params="3x")
    small = result.model
    params = [sum(parameter.numel() for parameter in net.parameters()) for net in (model, small)]
    assert params[0] >= 3 * params[1]
    assert isinstance(small.rnn, Recurrent)
    optimizer = torch.optim.SGD(small.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(small.train()(*given).flatten(0, 1), given[0].flatten())
        loss.backward()
        assert all(parameter.grad is not None for parameter in small.rnn.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    small.eval()
    tenfold.save(result, tmp_path / "out")
    loaded = tenfold.load(tmp_path / "out", model=Words().eval())
    with torch.no_grad():
        wanted = small(*given)
        assert torch.equal(loaded(*given), wanted)
        assert_close(tenfold.lower(small)(*given), wanted, 1e-5)


@pytest.mark.parametrize("name", [name for name in formats.BUILT_IN if name not in ("tucker2", "ht2")])
def test_every_format_that_suits_is_planned(name: str) -> None:
    torch.manual_seed(0)
    model, x = nn.GRU(24, 24).eval(), torch.randn(5, 2, 24)
    plan = tenfold.plan(model, tenfold.inspect(model, x), params="2x", format=name)
    small = tenfold.decompose(model, plan)
    assert sum(p.numel() for p in small.parameters()) * 2 <= sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert_close(tenfold.lower(small)(x), small(x), 1e-5)
