"""What networks are given: the batch is found, all else passes untouched, and networks are left as they were."""

import copy
import math
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import tenfold
from tenfold.inputs import ENTRIES, Inputs, call, evaluating, inputs_for, tensors_in, to_device, unchanged
from tenfold.measure import macs
from tenfold.protocols import TenfoldError
from tenfold.surgery import copied

WIDE = 24  # features of every network here
WHOLE = "No batch is known in the inputs, so all of them count as one sample."


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(model: nn.Module) -> nn.Module:
    """Its parameters from a generator of their own, in eval mode."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return model.eval()


# ---- the smallest network of each kind
class GraphConvolution(nn.Module):
    """Messages along edges (2, E) between nodes (N, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            messages = layer(x)
            x = torch.zeros_like(messages).index_add(0, edge_index[1], messages[edge_index[0]]).relu()
        return x


class Attention(nn.Module):
    """Tokens (n, L, features), a mask (L, L) and turned by tables (L, features), as RoPE does."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDE, 3 * WIDE), nn.Linear(WIDE, WIDE)

    def forward(self, x: Tensor, mask: Tensor | None = None, *tables: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if tables:
            cos, sin = tables
            q, k = (y * cos + y.roll(1, -1) * sin for y in (q, k))
        scores = q @ k.mT / WIDE**0.5
        y: Tensor = self.out(torch.softmax(scores if mask is None else scores + mask, dim=-1) @ v)
        return y


class Scaled(nn.Module):
    """A number a channel beside the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDE, 3)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return self.conv(x * scale[:, None, None])


class Detector(nn.Module):
    """A list of pictures of any sizes in, a list of dicts out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, WIDE, 3, padding=1), nn.Conv2d(WIDE, 4, 1)

    def forward(self, pictures: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"boxes": self.head(self.conv(picture[None]).relu())[0].flatten(1).T} for picture in pictures]


class Words(nn.Module):
    """What a tokenizer gives, by name; outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, WIDE), nn.Linear(WIDE, WIDE)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.table(input_ids) * attention_mask[..., None]
        return {"pooled": self.head(x.sum(dim=1)), "scale": torch.ones(3)}


class Pair(NamedTuple):
    x: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Batch:
    x: Tensor
    mask: Tensor
    name: str = "a"


class Masked(nn.Module):
    """One argument with fields."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def forward(self, batch: Any) -> Tensor:
        fields = batch if isinstance(batch, dict) else {"x": batch.x, "mask": batch.mask}
        return self.attention(fields["x"], fields["mask"])


class Streaming(nn.Module):
    """An LSTM that keeps its state from call to call, in attributes; and much else that changes."""

    def __init__(self, batch: int | None = None) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(WIDE, WIDE, batch_first=True), nn.Linear(WIDE, 4)
        self.h = None if batch is None else drawn(1, batch, WIDE, seed=2)
        self.c = None if batch is None else drawn(1, batch, WIDE, seed=3)
        self.register_buffer("mean", torch.zeros(WIDE))
        self.register_buffer("last", None)
        self.calls, self.seen, self.recent, self.sizes = 0, [drawn(3)], deque([1], maxlen=2), {"x": {1}}
        self.shape = Shape()

    def forward(self, x: Tensor) -> Tensor:
        state = None if self.h is None or self.c is None else (self.h, self.c)
        y, (self.h, self.c) = self.cell(x, state)
        self.mean.mul_(0.9).add_(x.mean(dim=(0, 1)))
        self.last = y
        self.calls += 1
        self.seen[0].add_(1)
        self.seen.append(y)
        self.recent.append(self.calls)
        self.sizes["x"].add(len(x))
        self.shape.most = max(self.shape.most, x.shape[1])
        return self.head(y)


@dataclass
class Shape:
    most: int = 0
    names: list[str] = field(default_factory=list)


LENGTH = 5


def mask(length: int) -> Tensor:
    return torch.full((length, length), -torch.inf).triu(1)


def graph(nodes: int) -> tuple[Tensor, Tensor]:
    """A ring of nodes."""
    at = torch.arange(nodes)
    return drawn(nodes, WIDE), torch.stack([at, at.roll(1)])


EDGES = 7 * WIDE * (WIDE + 4)
ATTENTION = LENGTH * 4 * WIDE * WIDE + 2 * LENGTH * LENGTH * WIDE
TOKENS = {"input_ids": torch.arange(20).reshape(4, 5), "attention_mask": torch.ones(4, 5, dtype=torch.int64)}
QUERIES = dict.fromkeys(("query", "key", "value"), drawn(LENGTH, 3, WIDE))

# network, inputs, batch dimensions, samples, multiply-adds of one
Bring = tuple[Callable[[], nn.Module], Any, tuple[int | None, ...], int, int]
BRINGS: dict[str, Bring] = {
    "a graph": (GraphConvolution, graph(7), (None, None), 1, EDGES),
    "a graph by name": (GraphConvolution, {"x": graph(7)[0], "edge_index": graph(7)[1]}, (None, None), 1, EDGES),
    "a graph with as many edges as entries": (GraphConvolution, graph(2), (None, None), 1, 2 * WIDE * (WIDE + 4)),
    "a mask": (Attention, (drawn(3, LENGTH, WIDE), mask(LENGTH)), (0, None), 3, ATTENTION),
    "a mask as large as the batch": (Attention, (drawn(LENGTH, LENGTH, WIDE), mask(LENGTH)), (0, None), 5, ATTENTION),
    "tables": (
        Attention, (drawn(LENGTH, LENGTH, WIDE), None, drawn(LENGTH, WIDE, seed=1), drawn(LENGTH, WIDE, seed=2)),
        (0, None, None), 5, ATTENTION,
    ),
    "a number a channel": (Scaled, (drawn(3, 3, 6, 6), drawn(3)), (0, None), 3, 16 * 27 * WIDE),
    "pictures of many sizes": (
        Detector, [drawn(3, 6, 5), drawn(3, 5, 6), drawn(3, 10, 3)], (ENTRIES,), 3, 30 * (27 + 4) * WIDE,
    ),
    "pictures of one size": (Detector, ([drawn(3, 6, 5)] * 2,), (ENTRIES,), 2, 30 * (27 + 4) * WIDE),
    "a dict": (Words, TOKENS, (0, 0), 4, WIDE * WIDE),
    "what a tokenizer gives": (Words, UserDict(TOKENS), (0, 0), 4, WIDE * WIDE),
    "a named tuple": (Masked, Pair(drawn(3, LENGTH, WIDE), mask(LENGTH)), (0, None), 3, ATTENTION),
    "a dataclass": (Masked, Batch(drawn(3, LENGTH, WIDE), mask(LENGTH)), (0, None), 3, ATTENTION),
    "a dict as one argument": (Masked, {"x": drawn(3, LENGTH, WIDE), "mask": mask(LENGTH)}, (0, None), 3, ATTENTION),
    "a list of arguments": (Attention, [drawn(3, LENGTH, WIDE), mask(LENGTH)], (0, None), 3, ATTENTION),
    "steps first": (
        lambda: nn.TransformerEncoderLayer(WIDE, 2, WIDE, batch_first=False), drawn(LENGTH, 3, WIDE), (1,), 3,
        LENGTH * 6 * WIDE * WIDE + 2 * LENGTH * LENGTH * WIDE,
    ),
    "steps first, and both ways": (
        lambda: nn.GRU(WIDE, WIDE, bidirectional=True), drawn(LENGTH, 3, WIDE), (1,), 3, LENGTH * 12 * WIDE * WIDE,
    ),
    "a state beside its batch": (
        lambda: nn.GRU(WIDE, WIDE, 2, batch_first=True), (drawn(3, LENGTH, WIDE), drawn(2, 3, WIDE)), (0, 1), 3,
        LENGTH * 12 * WIDE * WIDE,
    ),
    "queries that do not see each other": (
        lambda: nn.MultiheadAttention(WIDE, 2), {**QUERIES, "attn_mask": mask(LENGTH)}, (1, 1, 1, None), 3,
        LENGTH * 4 * WIDE * WIDE + 2 * LENGTH * LENGTH * WIDE,
    ),
    "one sequence": (lambda: nn.GRU(WIDE, WIDE), drawn(LENGTH, WIDE), (None,), 1, LENGTH * 6 * WIDE * WIDE),
    "one picture": (lambda: nn.Conv2d(3, WIDE, 3), drawn(3, 6, 6), (None,), 1, 16 * 27 * WIDE),
    "a packed sequence": (
        lambda: nn.GRU(WIDE, WIDE), pack_sequence([drawn(3, WIDE), drawn(2, WIDE)]), (None, None), 1, 5 * 6 * WIDE**2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BRINGS)
def test_what_people_bring_is_understood_and_compressed(name: str) -> None:
    build, value, dims, size, cost = BRINGS[name]
    model = filled(build())
    found = inputs_for(model, value)
    assert (found.dims, found.size, found.samples(1).size) == (dims, size, 1)
    assert macs(model, value).total == macs(model, found.samples(1)).total == cost
    result = tenfold.compress(model, inputs=value, params="1.2x", format="svd")
    assert result.report.dense.macs == cost
    assert result.report.ratio.params is not None
    assert result.report.ratio.params >= 1.2
    known = any(dim is not None for dim in dims)
    assert (WHOLE in result.words) == (result.report.settings.get("sampling") == WHOLE) == (not known)
    time = result.report.dense.ms_per_batch
    assert time is not None
    assert time.batch == size


@pytest.mark.parametrize("name", BRINGS)
def test_a_sample_of_the_batch_is_answered_like_the_whole(name: str) -> None:
    build, value, _, size, _ = BRINGS[name]
    model = filled(build())
    found = inputs_for(model, value)
    profile = tenfold.inspect(model, value, repeats=1)
    assert (profile.batch, profile.sampling) == (size, found.note)
    for row in profile.layers.values():
        assert row.positions is not None
        each = math.prod(row.axes.values()) * math.prod(after for _, after in row.positions.values())
        assert row.kind == "embedding" or row.calls != 1 or row.macs == each
    if not found.note:
        twice = found.repeated(2 * size)
        assert twice.size == 2 * size
        with torch.no_grad():
            longer = sum(t.numel() for t in tensors_in(call(model, twice.value)))
            assert longer > sum(t.numel() for t in tensors_in(call(model, found.value)))


# ---- the batch, said
def test_what_is_said_is_not_looked_for() -> None:
    model, x = filled(nn.Linear(WIDE, WIDE)), drawn(4, 6, WIDE)
    assert [inputs_for(model, x, batch).dims for batch in (None, 0, 1, "none")] == [(0,), (0,), (1,), (None,)]
    assert macs(model, inputs_for(model, x, 1)).total == 4 * WIDE**2
    with pytest.raises(TenfoldError, match=r"inputs \(shape 4x6x24 float32\) have no dimension 7 that could count"):
        inputs_for(model, x, 7)
    data = tenfold.Data(train=[], inputs=[x], validation=[], test=[], batch="none")
    assert tenfold.evaluate(model, data).macs == 24 * WIDE**2
    assert macs(model, Inputs(x, (1,))).total == 4 * WIDE**2


def test_inputs_must_agree_on_their_samples() -> None:
    with pytest.raises(TenfoldError, match="have 2 parts and batch dimensions for 1; give one for each, None for"):
        Inputs((drawn(3, 4), drawn(4)), (0,))
    with pytest.raises(TenfoldError, match="no common number of samples along dimensions 0, 0; give None for"):
        Inputs((drawn(3, 4), drawn(4)), (0, 0))


def test_a_batch_that_cannot_be_made_is_refused() -> None:
    model = filled(GraphConvolution())
    with pytest.raises(TenfoldError, match=r"no batch of 4 can be made of inputs of shape 7x24.*: no batch is"):
        tenfold.compress(model, inputs=graph(7), params="1.2x", format="svd", batch=4)


# ---- networks that mix their samples
class Mean(nn.Module):
    """Every sample sees the others."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y - y.mean(dim=0)


class Pooled(Mean):
    """A set: one answer for all."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y.mean(dim=0)


@pytest.mark.parametrize("kind", [Mean, Pooled])
def test_samples_that_see_each_other_are_one(kind: type[Mean]) -> None:
    found = inputs_for(filled(kind()), drawn(5, WIDE))
    assert (found.dims, found.note) == ((None,), WHOLE)


class Squeezed(Mean):
    """The batch of one is squeezed away."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y[:, :1].squeeze()


def test_a_squeezed_answer_is_one_of_the_batch() -> None:
    assert inputs_for(filled(Squeezed()), drawn(5, WIDE)).dims == (0,)


# ---- states
def test_a_state_of_batch_one_is_measured_as_one() -> None:
    model = filled(Streaming(batch=1))
    for count in (1, 6):
        result = tenfold.compress(model, inputs=drawn(count, LENGTH, WIDE), params="1.5x", format="svd")
        assert result.report.dense.macs == LENGTH * (8 * WIDE + 4) * WIDE
        time = result.report.dense.ms_per_batch
        assert time is not None
        assert time.batch == 1
    assert "The network takes 1 sample at a time and no other number, so it is measured on these." in result.words


def test_a_state_of_more_is_one_sample_unless_it_is_said() -> None:
    model, x = filled(Streaming(batch=4)), drawn(4, LENGTH, WIDE)
    assert inputs_for(model, x).note == WHOLE
    said = inputs_for(model, x, 0)
    assert (said.size, said.samples(1).size, said.fixed) == (4, 4, True)
    assert tenfold.inspect(model, said).macs == LENGTH * (8 * WIDE + 4) * WIDE
    assert said.note == "The network takes 4 samples at a time and no other number, so it is measured on these."


def everything(model: nn.Module) -> Any:
    """All that a network holds, to be compared."""
    state = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    return copy.deepcopy((state, list(model.named_buffers()), [m.training for m in model.modules()]))


def alike(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(alike, one, two))
    return bool(one == two)


COUNTED = tenfold.Score("seen", measure=lambda outputs, batch: (0.0, len(outputs)))
MEASURES: dict[str, Callable[[nn.Module, Any], Any]] = {
    "inspect": lambda model, x: tenfold.inspect(model, x, repeats=1),
    "evaluate": lambda model, x: tenfold.evaluate(model, inputs=x),
    "compress": lambda model, x: tenfold.compress(model, inputs=x, params="1.5x", format="svd"),
    "score": lambda model, x: tenfold.evaluate(model, tenfold.Data([], [x], [], [(x, None)], score=COUNTED)),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_measuring_leaves_a_network_exactly_as_it_was(measure: str, batch: int | None) -> None:
    model, x = filled(Streaming(batch)).train(), drawn(batch or 2, LENGTH, WIDE)
    tensors, before = [model.h, model.mean, model.seen[0]], everything(model)
    MEASURES[measure](model, x)
    assert alike(before, everything(model))
    assert all(a is b for a, b in zip(tensors, [model.h, model.mean, model.seen[0]], strict=True))
    assert model.calls == 0


def test_the_compressed_network_begins_where_the_dense_one_did() -> None:
    model, x = filled(Streaming(1)), drawn(1, LENGTH, WIDE)
    small = tenfold.compress(model, inputs=x, ranks=WIDE, format="svd", exclude=["head"]).model
    with torch.no_grad():
        for _ in range(2):
            assert torch.allclose(small(x), model(x), atol=1e-4)


def test_a_failure_puts_everything_back() -> None:
    model = filled(Streaming(3))
    before = everything(model)
    with pytest.raises(TenfoldError, match="cannot run"):
        tenfold.inspect(model, drawn(2, LENGTH, WIDE + 1))
    with pytest.raises(RuntimeError, match="size"), evaluating(model):
        model(model(drawn(3, LENGTH, WIDE)))
    assert alike(before, everything(model))


@given(st.integers(1, 3), st.integers(0, 2))
def test_a_state_written_through_data_comes_back(n: int, wider: int) -> None:
    model = nn.Linear(2, 2)
    model.state = drawn(n)
    view = model.state[:1]
    with unchanged(model):
        model.state.data.zero_() if not wider else setattr(model.state, "data", torch.zeros(n + wider))
    assert torch.equal(model.state, drawn(n))
    assert wider or torch.equal(view, drawn(n)[:1])


def test_a_network_that_keeps_an_activation_is_copied() -> None:
    model = filled(Streaming())
    y = model(drawn(2, LENGTH, WIDE))
    assert not model.last.is_leaf
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    twin = copied(model)
    assert torch.equal(twin.last, model.last)
    assert twin.last.is_leaf
    assert twin.seen[1] is twin.last
    assert model.last.grad_fn is not None
    small = tenfold.compress(model, inputs=drawn(2, LENGTH, WIDE), params="1.5x", format="svd").model
    small(drawn(2, LENGTH, WIDE)).sum().backward()
    assert tenfold.lower(small).last.is_leaf
    y.sum().backward()  # the graph of the argument is its own still


# ---- containers
def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Leaves in whatever containers people use."""

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        named = st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
        return st.one_of(
            st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), named, named.map(UserDict),
            named.map(OrderedDict), st.builds(Pair, inner, inner), st.builds(Batch, inner, inner),
        )  # fmt: skip

    return st.recursive(leaf, around, max_leaves=6)


def kinds(value: Any) -> Any:
    """The containers of a value, without its leaves."""
    parts = value.values() if isinstance(value, dict | UserDict) else value if isinstance(value, tuple | list) else ()
    parts = (value.x, value.mask, value.name) if isinstance(value, Batch) else parts
    return type(value), [kinds(part) for part in parts]


@given(nested(st.one_of(st.integers(), st.none(), st.builds(lambda n: torch.zeros(n, 2), st.integers(0, 3)))))
def test_containers_keep_their_kind_and_their_order(value: Any) -> None:
    moved = to_device(value, "meta")
    assert kinds(moved) == kinds(value)
    assert [t.shape for t in tensors_in(moved)] == [t.shape for t in tensors_in(value)]
    assert all(t.device.type == "meta" for t in tensors_in(moved))
    assert all(t.device.type == "cpu" for t in tensors_in(value))


def test_a_packed_sequence_moves_as_one() -> None:
    packed = pack_sequence([drawn(3, WIDE), drawn(2, WIDE)])
    moved = to_device((packed, 1), "meta")[0]
    assert isinstance(moved, PackedSequence)
    assert (moved.data.device.type, moved.batch_sizes.device.type) == ("meta", "cpu")


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1), st.sampled_from([tuple, dict, UserDict, list]))
def test_samples_are_taken_and_repeated_in_any_container(n: int, count: int, at: int, kind: Any) -> None:
    x, table = drawn(n, 3).movedim(0, at), drawn(n, n)
    value = kind([x, table]) if kind in (tuple, list) else kind({"x": x, "table": table})
    whole = Inputs((value, x), (None, at) if kind is list else (at, None, at))
    few, many = whole.samples(count), whole.repeated(count)
    assert (few.size, many.size) == (min(count, n), count)
    *inner, last = tensors_in(many.value)
    for part in [last] if kind is list else [last, inner[0]]:
        assert all(torch.equal(part.select(at, k), x.select(at, k % n)) for k in range(count))
    assert inner[1] is table  # untouched
    assert type(many.value[0]) is kind
