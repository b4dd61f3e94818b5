"""Counts, memory, times and profiles: hand-checked cases, and equalities with independent routes."""

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tenfold.measure import (
    MsPerBatch,
    Profile,
    Speedup,
    Timing,
    forward_timings,
    inspect,
    macs,
    paired,
    parameter_bytes,
    params,
    peak_memory_bytes,
    ratio,
    state_bytes,
    weights_hash,
)
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, decompose, lower


class Branches(nn.Module):
    """Two branches that are alive together."""

    def forward(self, x: Tensor) -> Tensor:
        left = x + 1
        right = x * 2
        return left - right


class Attention(nn.Module):
    """Two projections around attention, the second tied to the first and called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)
        self.outer.weight = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return self.outer(self.outer(functional.scaled_dot_product_attention(y, y, y)))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2, dilation=2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )


def compressed(model: nn.Module) -> nn.Module:
    plan = Plan(
        {"0": Row("0", "svd", ranks=(2,)), "3": Row("3", "tucker2", ranks=(2, 3)), "5": Row("5", "svd", ranks=(4,))}
    )
    return decompose(model, plan)


def half_flops(model: nn.Module, x: Any) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(x)
    return int(counter.get_total_flops()) // 2


# ---- counts
def test_parameters_count_once_and_buffers_not() -> None:
    model = Attention()
    assert params(model) == 64 + 8 + 8
    assert parameter_bytes(model.half()) == 2 * 80
    assert params(network()) == 216 + 8 + 16 + 288 + 8 + 1280 + 10


@pytest.mark.parametrize("make", [network, lambda: compressed(network()), lambda: network().to(torch.bfloat16)])
def test_state_bytes_are_those_of_the_file(make: Callable[[], nn.Module]) -> None:
    model = make()
    assert state_bytes(model) == len(safetensors.torch.save({k: v.contiguous() for k, v in model.state_dict().items()}))


def test_a_shared_tensor_is_stored_once() -> None:
    state = dict(Attention().state_dict())
    del state["outer.weight"]
    assert state_bytes(Attention()) == len(safetensors.torch.save(state))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3))
def test_convolutions_agree_with_the_flop_counter(
    groups: int, kernel: int, stride: int, dilation: int, padding: int, batch: int
) -> None:
    conv = nn.Conv2d(4, 6, kernel, stride=stride, dilation=dilation, padding=padding, groups=groups)
    x = torch.zeros(batch, 4, 9, 11)
    counted = macs(conv, x)
    assert counted.total == counted.weights["model"].macs == half_flops(conv, x) // batch
    assert counted.other == 0


@pytest.mark.parametrize("shape", [(3, 6), (3, 5, 6), (2, 3, 4, 6)])
def test_linears_on_sequences_agree_with_the_flop_counter(shape: tuple[int, ...]) -> None:
    linear, x = nn.Linear(6, 7), torch.zeros(shape)
    assert macs(linear, x).total == half_flops(linear, x) // shape[0]


@pytest.mark.parametrize("batch", [1, 3])
def test_lowered_networks_agree_with_the_flop_counter_and_with_the_compressed_one(batch: int) -> None:
    x = torch.randn(batch, 3, 16, 16)
    small = compressed(network())
    plain = lower(small)
    assert macs(plain, x).total == half_flops(plain, x) // batch == macs(small, x).total
    assert macs(small, x).total < macs(network(), x).total == half_flops(network().eval(), x) // batch


def test_attention_counts_as_other_and_every_call_of_a_tied_weight_counts() -> None:
    counted = macs(Attention(), torch.randn(2, 5, 8))
    assert list(counted.weights) == ["inner"]
    row = counted.weights["inner"]
    assert (row.macs, row.calls, dict(row.positions or {})) == (3 * 64 * 5, 3, {"tokens": (5, 5)})
    assert counted.other == 2 * 5 * 5 * 8
    assert counted.total == row.macs + counted.other


def test_closed_attention_and_recurrences_are_seen() -> None:
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    assert macs(encoder, torch.zeros(2, 5, 16)).total == 5 * 2048 + 2 * 5 * 5 * 16
    assert torch.backends.mha.get_fastpath_enabled()
    lstm = nn.LSTM(4, 6, 2, bidirectional=True, batch_first=True)
    numbers = sum(p.numel() for name, p in lstm.named_parameters() if "weight" in name)
    assert macs(lstm, torch.zeros(2, 5, 4)).total == 5 * numbers


def test_windows_in_the_batch_count_as_samples_of_the_layer() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.reshape(-1, 3, 4)).reshape(x.shape)  # (n·5, 3, 4)

    row = macs(Windows(), torch.zeros(2, 15, 4)).weights["fc"]
    assert row.macs == 16 * 15
    assert row.positions == {"tokens": (3, 3), "n": (5, 5)}


# ---- memory
def test_a_chain_holds_the_input_and_two_tensors() -> None:
    chain = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Tanh())
    assert peak_memory_bytes(chain, torch.zeros(10)) == 3 * 40


@pytest.mark.parametrize(
    ("module", "tensors"),
    [
        (nn.ReLU(inplace=True), 1),
        (nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU(inplace=True)), 2),
        (nn.Flatten(), 1),
        (nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 5))), 1),
        (Branches(), 4),
    ],
)
def test_memory_in_place_of_views_and_of_branches(module: nn.Module, tensors: int) -> None:
    assert peak_memory_bytes(module, torch.ones(10, 10)) == tensors * 400


def test_parameters_count_and_buffers_do_not() -> None:
    norm = nn.BatchNorm1d(5)
    linear = nn.Linear(5, 3)
    assert peak_memory_bytes(linear, torch.zeros(4, 5)) == 4 * (18 + 20 + 12)
    assert peak_memory_bytes(norm, torch.zeros(4, 5)) == 4 * (10 + 20 + 20)


def test_a_row_knows_what_is_alive_while_it_runs() -> None:
    model = nn.Sequential(nn.Linear(4, 100), nn.Linear(100, 2))
    profile = inspect(model, torch.zeros(1, 4))
    assert profile.layers["0"].memory_bytes == 4 * (500 + 4 + 100)
    assert profile.layers["1"].memory_bytes == 4 * (202 + 4 + 100 + 2)
    assert profile.peak_memory_bytes == 4 * (702 + 4 + 100 + 2)


# ---- time
def test_pairs_are_called_in_turn() -> None:
    called: list[str] = []
    times = paired({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, repeats=3, warmup=1)
    assert [sorted(called[k : k + 2]) for k in range(0, 8, 2)] == [["a", "b"]] * 4
    assert all(len(each.samples) == 3 and each.threads == torch.get_num_threads() for each in times.values())


def test_ratios_are_taken_round_by_round() -> None:
    slow, fast = Timing((2.0, 40.0, 6.0), 1), Timing((1.0, 10.0, 2.0), 1)
    assert (slow.median, slow.minimum, slow.spread) == (6.0, 2.0, 19.0)
    assert ratio(slow, fast).samples == (2.0, 4.0, 3.0)
    assert (ratio(slow, fast).median, ratio(slow, fast).spread) == (3.0, 1.0)
    assert Timing((1.0,), 1).spread == 0.0


def test_a_longer_wait_takes_longer() -> None:
    times = paired({"long": lambda: time.sleep(0.04), "short": lambda: time.sleep(0.004)}, repeats=3)
    assert ratio(times["long"], times["short"]).median > 2
    faster = Speedup.of(times["short"], times["long"])
    assert faster.median > 2
    assert faster.is_clear
    timing = forward_timings({"net": nn.Linear(3, 3)}, torch.zeros(5, 3), repeats=2)["net"]
    shown = MsPerBatch.of(timing, 5)
    assert shown.batch == 5
    assert shown.median == 1e3 * timing.median > 0


@pytest.mark.parametrize("repeats", [0, -1])
def test_nothing_to_time_is_an_error(repeats: int) -> None:
    with pytest.raises(TenfoldError, match=f"{repeats} repeats"):
        paired({}, repeats=repeats)
    with pytest.raises(TenfoldError, match=f"{repeats} forwards"):
        inspect(nn.Linear(2, 2), torch.zeros(1, 2), repeats=repeats)
    with pytest.raises(TenfoldError, match="2 and 1 rounds"):
        ratio(Timing((1.0, 1.0), 1), Timing((1.0,), 1))


# ---- profiles
@pytest.mark.parametrize("form", [lambda m: m, compressed, lambda m: lower(compressed(m))])
def test_every_form_can_be_inspected_and_its_parts_make_the_whole(form: Callable[[nn.Module], nn.Module]) -> None:
    model, x = form(network()), torch.randn(2, 3, 16, 16)
    profile = inspect(model, x, repeats=2)
    rows = profile.layers.values()
    assert profile.macs == sum(row.macs or 0 for row in rows) + (profile.other_macs or 0)
    assert profile.macs == macs(model, x).total
    assert sum(row.seconds or 0.0 for row in rows) <= 2 * (profile.seconds or 0.0)
    assert all(row.calls == 1 and (row.memory_bytes or 0) > 0 and row.itemsize == 4 for row in rows)
    assert (profile.params, profile.bytes, profile.batch) == (params(model), parameter_bytes(model), 2)
    assert [row.name for row in rows if row.first] == [next(name for name in profile.layers)]
    assert Profile.from_json(profile.to_json()) == profile


def test_the_rows_of_a_dense_network() -> None:
    profile = inspect(network(), torch.randn(2, 3, 16, 16), repeats=1)
    row = profile.layers["3"]
    assert (row.kind, row.module, dict(row.axes)) == ("conv", "Conv2d", {"g": 2, "o": 4, "i": 4, "h": 3, "w": 3})
    assert row.positions == {"h": (8, 4), "w": (8, 4)}
    assert row.macs == 288 * 16
    assert profile.other_macs == 0


def test_compressed_rows_are_called_as_the_dense_ones_and_hold_the_cores() -> None:
    profile = inspect(compressed(network()))
    assert list(profile.layers) == ["0", "3", "5"]
    assert profile.layers["5"].params == 4 * (128 + 10)
    assert {row.obstacle for row in profile.layers.values()} == {"already compressed"}
    assert {row.kind for row in profile.layers.values()} == {"conv", "linear"}


def test_without_inputs_what_needs_a_forward_is_none() -> None:
    profile = inspect(network())
    values = (profile.macs, profile.other_macs, profile.seconds, profile.peak_memory_bytes, profile.batch)
    assert set(values) == {None}
    assert [row.first for row in profile.layers.values()] == [True, False, False]
    assert all(row.macs is row.calls is row.positions is row.seconds is None for row in profile.layers.values())
    assert Profile.from_json(profile.to_json()) == profile


def test_the_first_convolution_is_the_one_that_runs_first() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](self[1](x))

    profile = inspect(Backwards(nn.Conv1d(4, 4, 3), nn.Conv1d(2, 4, 3), nn.Linear(9, 9)), torch.zeros(1, 2, 9))
    assert [row.first for row in profile.layers.values()] == [False, True, False]
    unreached = profile.layers["2"]
    assert (unreached.macs, unreached.calls, unreached.positions, unreached.seconds) == (0, 0, None, 0.0)
    assert "never called" in unreached.note
    assert profile.layers["1"].note == ""


def test_obstacles_are_told() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(36, 1))
    profile = inspect(model)
    assert "depthwise" in (profile.layers["0"].obstacle or "")
    assert "too small to gain: 36 numbers" in (profile.layers["2"].obstacle or "")

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 8, scale_grad_by_freq=True), nn.Linear(8, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x))

    profile = inspect(Tied(), torch.zeros(2, 3, dtype=torch.long))
    assert "tied to 'embed.weight'" in (profile.layers["head"].obstacle or "")
    assert profile.macs == 3 * 72


def test_the_network_is_left_as_it_was() -> None:
    model = compressed(network()).train()
    model[1].eval()
    before, draws = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    inspect(model, torch.zeros(2, 3, 16, 16), repeats=1)
    with pytest.raises(TenfoldError):
        inspect(model, torch.zeros(2, 4, 16, 16))
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), draws)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_inputs_that_do_not_suit_get_one_sentence() -> None:
    with pytest.raises(TenfoldError) as caught:
        inspect(network(), torch.zeros(2, 4, 16, 16))
    words = ["Sequential cannot run", "2x4x16x16 float32", "RuntimeError", "3 channels"]
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(TenfoldError, match="type str"):
        inspect(nn.Linear(2, 2), "nothing")


def test_inputs_come_as_a_tuple_or_by_name() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
            return {"y": self.fc(input=a + b)}

    x = torch.zeros(3, 4)
    assert inspect(Sum(), (x, x)).macs == inspect(Sum(), {"a": x, "b": x}).macs == 16


def test_the_hash_follows_values_names_and_types() -> None:
    model = network()
    first = weights_hash(model)
    assert first == weights_hash(copy.deepcopy(model)) == inspect(model).weights_hash
    assert first != weights_hash(copy.deepcopy(model).double())
    assert first != weights_hash(nn.Sequential(model))
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    assert first != weights_hash(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("{", "["), ["not a JSON file"]),
        (('"schema": 1', '"schema": 9'), ["schema 9", "reads schema 1"]),
        (('"threads"', '"thread"'), ["'thread'", "did you mean 'threads'"]),
        (('"params": 2', '"params": "x2"+'), ["not a JSON file"]),
        (('"kind": "conv"', '"kind": 3'), ["'layers'", "'0'", "'kind'", "3 stands where text belongs"]),
        (('"itemsize": 4', '"itemsize": 4.5'), ["'itemsize'", "a whole number"]),
    ],
)
def test_a_broken_profile_is_named(change: tuple[str, str], words: list[str]) -> None:
    text = inspect(network()).to_json()
    assert change[0] in text
    with pytest.raises(TenfoldError) as caught:
        Profile.from_json(text.replace(*change, 1))
    assert all(word in str(caught.value) for word in words), str(caught.value)
