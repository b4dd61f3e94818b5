"""Statistics: what they say of a change of weights is what happens, for every kind of layer; sums are sums."""

import copy
import importlib
import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, multiprocessing, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import tenfold
from networks import WritesOver
from tenfold.fitting import Metric
from tenfold.inputs import Inputs, call, tensors_in
from tenfold.layers import BUILT_IN, kind_of
from tenfold.planning.candidates import Subject
from tenfold.planning.search import priced
from tenfold.protocols import Data, Progress, TenfoldError
from tenfold.statistics import Moment, Statistics, begun, file, gather, moment
from tenfold.statistics.gather import Watched, hash_of
from tenfold.statistics.processes import summed_over_processes
from tenfold.statistics.statistics import Halves, by_axes, shrinkage
from tenfold.statistics.sums import Sums
from tenfold.surgery import sites

seeds = st.integers(0, 99)
PARTS = file.PARTS[Moment]
gathering = importlib.import_module("tenfold.statistics.gather")  # (the package hands on the verb)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def indices(*shape: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def filled(model: nn.Module) -> nn.Module:
    """Double, in eval mode, every parameter drawn by its place."""
    model = model.double().eval()
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=k) * 0.4)
    return model


@pytest.fixture(autouse=True)
def all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "POSITIONS", 10**6)


# ---- a network for every kind
class Tied(nn.Module):
    """An embedding and the output layer tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.out(self.table(ids).tanh())
        return y


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.each(self.each(x).tanh())
        return y


def packed(*lengths: int) -> PackedSequence:
    return pack_padded_sequence(noise(max(lengths), len(lengths), 4), torch.tensor(lengths), enforce_sorted=False)


Case = tuple[Callable[[], nn.Module], Callable[[], Any]]
IMAGES: dict[str, Case] = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), lambda: noise(5, 3, 8)),
    "conv2d, stride, dilation": (
        lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(2, 1), bias=False),
        lambda: noise(4, 3, 7, 6),
    ),
    "conv2d, groups, circular": (
        lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="circular"), lambda: noise(4, 4, 5, 4)
    ),
    "conv2d, same, reflect": (
        lambda: nn.Conv2d(2, 3, (2, 3), padding="same", padding_mode="reflect"), lambda: noise(4, 2, 5, 4)
    ),
    "conv3d, replicate": (
        lambda: nn.Conv3d(2, 3, 2, padding=1, padding_mode="replicate"), lambda: noise(3, 2, 3, 3, 2)
    ),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding="valid"), lambda: noise(4, 4, 5, 5)),
    "transposed1d": (lambda: nn.ConvTranspose1d(3, 4, 2, stride=2), lambda: noise(4, 3, 5)),
    "transposed2d, groups": (
        lambda: nn.ConvTranspose2d(4, 6, (2, 3), stride=(3, 3), groups=2, bias=False), lambda: noise(4, 4, 3, 2)
    ),
    "transposed3d, dilation": (
        lambda: nn.ConvTranspose3d(2, 3, (1, 2, 1), stride=(2, 4, 1), dilation=(1, 2, 1)), lambda: noise(2, 2, 2, 2, 3)
    ),
}  # fmt: skip
VECTORS: dict[str, Case] = {
    "linear": (lambda: nn.Linear(5, 4), lambda: noise(6, 5)),
    "linear on tokens": (lambda: nn.Linear(5, 4, bias=False), lambda: noise(3, 4, 5)),
    "embedding": (lambda: nn.Embedding(7, 4), lambda: indices(5, 3, below=7)),
}
MANY: dict[str, Case] = {
    "embedding bag": (lambda: nn.EmbeddingBag(7, 4, mode="sum"), lambda: indices(5, 1, below=7)),
    "embedding bag, padding": (
        lambda: nn.EmbeddingBag(4, 3, mode="mean", padding_idx=1), lambda: indices(9, 1, below=4)
    ),
    "tied": (Tied, lambda: indices(5, 3, below=7)),
    "twice": (Twice, lambda: noise(6, 5)),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda: (noise(3, 5, 4), noise(3, 2, 4), noise(3, 2, 4))
    ),
    "attention, other sizes": (
        lambda: nn.MultiheadAttention(4, 2, bias=False, kdim=3, vdim=5),
        lambda: (noise(4, 3, 4), noise(2, 3, 3), noise(2, 3, 5)),
    ),
    "encoder": (lambda: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), lambda: noise(3, 5, 4)),
    "encoder, norm first": (lambda: nn.TransformerEncoderLayer(4, 2, 6, norm_first=True), lambda: noise(5, 3, 4)),
    "lstm": (lambda: nn.LSTM(4, 3), lambda: noise(5, 2, 4)),
    "lstm, projected": (
        lambda: nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True, proj_size=3), lambda: noise(2, 4, 4)
    ),
    "lstm, packed": (lambda: nn.LSTM(4, 3, bidirectional=True), lambda: packed(3, 5, 2)),
    "gru": (lambda: nn.GRU(4, 3, 2, bias=False), lambda: noise(5, 2, 4)),
    "gru, packed": (lambda: nn.GRU(4, 3), lambda: packed(2, 4)),
    "rnn": (lambda: nn.RNN(4, 3, nonlinearity="relu", bidirectional=True), lambda: noise(5, 2, 4)),
    "lstm cell": (lambda: nn.LSTMCell(4, 3), lambda: (noise(5, 4), (noise(5, 3, seed=1), noise(5, 3, seed=2)))),
    "gru cell": (lambda: nn.GRUCell(4, 3, bias=False), lambda: (noise(5, 4), noise(5, 3, seed=1))),
    "rnn cell": (lambda: nn.RNNCell(4, 3), lambda: (noise(5, 4), noise(5, 3, seed=1))),
}  # fmt: skip
CASES = IMAGES | VECTORS | MANY


def made(name: str) -> tuple[nn.Module, Inputs]:
    build, feed = CASES[name]
    value = feed()
    whole = isinstance(value, PackedSequence) or name in ("attention, other sizes", "gru cell") or "lstm cell" in name
    dims = tuple(None if whole else 0 for _ in tensors_in(value))
    return filled(build()), Inputs(value, dims)


def unhook(watched: Watched) -> None:
    for module in watched.watches:
        module._forward_hooks.clear()
        module._forward_hooks_with_kwargs.clear()


def test_there_is_a_network_for_every_kind_that_can_be_watched() -> None:
    met = {place.kind for name in CASES for site in sites(made(name)[0]).values() for place in site.places}
    assert set(BUILT_IN.values()) - met == {BUILT_IN["experts"]}


@pytest.mark.parametrize("name", CASES)
def test_a_network_taken_apart_gives_the_same_outputs(name: str) -> None:
    model, chunk = made(name)
    watched = Watched.of(model)
    assert watched.reasons == {}
    assert {watch.at.site.name for watch in watched.watches.values()} == set(sites(model))
    unhook(watched)
    before = copy.deepcopy(model.state_dict())
    gather(model, [chunk])
    with torch.no_grad():
        for one, other in zip(tensors_in(call(watched.model, chunk.value)), tensors_in(call(model, chunk.value)),
                              strict=True):  # fmt: skip
            assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_each_weight_of_a_recurrence_has_a_module_of_its_own() -> None:
    for dense in (nn.LSTM(4, 5, 2, bidirectional=True, proj_size=3), nn.GRU(4, 3, 2), nn.LSTMCell(4, 3)):
        kind = kind_of(dense)
        assert kind is not None
        plain, children = kind.apart(dense)
        assert len(set(children.values())) == len(kind.axes(dense)) > 1
        for weight, child in children.items():
            module = plain.get_submodule(child)
            assert type(module) is nn.Linear
            assert torch.equal(module.weight, getattr(dense, weight))
            assert torch.equal(getattr(plain, weight), getattr(dense, weight))


# ---- moments of inputs
def raw(halves: Halves | None) -> Tensor:
    """The second moment of all samples about zero, nothing added to it."""
    assert halves is not None
    return halves.whole.second(centred=False)


@pytest.mark.parametrize("name", CASES)
def test_the_moment_of_inputs_predicts_what_a_change_of_the_weight_does_to_the_outputs(name: str) -> None:
    model, chunk = made(name)
    found = gather(model, [chunk])
    watched = Watched.of(model)
    unhook(watched)
    met: dict[nn.Module, list[Any]] = {module: [] for module in watched.watches}
    for module in met:
        module.register_forward_hook(lambda m, args, _: met[m].append(args))
    with torch.no_grad():
        call(watched.model, chunk.value)
    unhook(watched)
    for module, watch in watched.watches.items():
        parameter = next(p for n, p in module.named_parameters() if n.startswith("weight"))
        changed, error = copy.deepcopy(module), noise(*parameter.shape, seed=7)
        with torch.no_grad():
            next(p for n, p in changed.named_parameters() if n.startswith("weight")).add_(error)
            spent = sum(float((changed(*args) - module(*args)).square().sum()) for args in met[module])
        place = watched_places(found, watched)[module]
        cost = Metric(by_axes(place.input_axes, raw(place.inputs)))
        axes = watch.at.site.axes
        predicted = cost.squared_error(error.reshape(tuple(axes.values())), tuple(axes))
        assert math.isclose(predicted * float(place.inputs.whole.count), spent, rel_tol=1e-10)


def watched_places(found: Statistics, watched: Watched) -> dict[nn.Module, Any]:
    """What was seen of each watched module."""
    left = {name: list(places) for name, places in found.seen.items()}
    return {module: left[watch.at.site.name].pop(0) for module, watch in watched.watches.items()}


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 5), st.integers(0, 40), seeds)
def test_moments_of_parts_add_up_to_that_of_the_whole(n: int, groups: int, k: int, cut: int, seed: int) -> None:
    rows = noise(n, groups, k, seed=seed)
    both = Moment.of(rows[:cut], k) + Moment.of(rows[cut:], k)
    whole = Moment.of(rows, k)
    for name in PARTS:
        assert torch.allclose(getattr(both, name), getattr(whole, name), rtol=0, atol=1e-12)
    assert torch.allclose(whole.second(centred=True), torch.stack(
        [torch.atleast_2d(torch.cov(rows[:, g].mT, correction=0)) for g in range(groups)]), atol=1e-12)  # fmt: skip


def test_a_moment_of_indices_is_that_of_one_hot_rows() -> None:
    ids = indices(30, below=6)
    whole, seen = Moment.of(nn.functional.one_hot(ids, 6).double().unsqueeze(1), 6), Moment.of(ids, 6)
    assert torch.equal(whole.total, seen.total)
    assert torch.equal(whole.outer[0], seen.outer[0].diag())


@pytest.mark.parametrize("name", ["conv1d", "embedding", "lstm", "tied"])
def test_two_parts_of_the_samples_add_up_to_all_of_them(name: str) -> None:
    model, chunk = made(name)
    parts = [chunk.at(range(2)), chunk.at(range(2, chunk.size))]
    apart = [gather(model, [part]) for part in parts]
    together = gather(model, parts)
    for site, places in together.seen.items():
        for at, place in enumerate(places):
            for side in ("inputs", "outputs"):
                one, other = (getattr(each.seen[site][at], side).whole for each in apart)
                for part in PARTS:
                    assert torch.allclose(
                        getattr(getattr(place, side).whole, part), getattr(one + other, part), atol=1e-12
                    )
    assert together.samples == chunk.size


def test_a_share_of_the_positions_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = nn.Conv2d(2, 3, 3), noise(64, 2, 18, 18)
    model = filled(model)
    chunks = [Inputs(images[k : k + 8], (0,)) for k in range(0, 64, 8)]
    whole = gather(model, chunks).seen["model"][0]
    monkeypatch.setattr(gathering, "POSITIONS", 64)
    share = gather(model, chunks).seen["model"][0]
    assert float(share.inputs.whole.count) == 64 * 64
    assert share.outputs is not None
    assert torch.dist(raw(share.inputs), raw(whole.inputs)) < 0.1 * raw(whole.inputs).norm()
    assert torch.dist(raw(share.outputs), raw(whole.outputs)) < 0.1 * raw(whole.outputs).norm()


# ---- moments of outputs
def exact(monkeypatch: pytest.MonkeyPatch, model: nn.Module, chunk: Inputs) -> Statistics:
    """Statistics whose projections are not random: every unit vector of the outputs, scaled so that the mean of their
    outer products is the identity.
    """
    with torch.no_grad():
        total = sum(y.numel() for y in gathering.floating(call(model, chunk.value)))
    drawn = 0

    def unit(shape: torch.Size, *, generator: torch.Generator) -> Tensor:
        nonlocal drawn
        found = torch.zeros(math.prod(shape), dtype=torch.float64)
        at = drawn // total - drawn % total
        if 0 <= at < len(found):
            found[at] = total**0.5
        drawn += len(found)
        return found.reshape(shape)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", unit)
        found = gather(model, [chunk], draws=total)
    assert drawn == total**2
    return found


def gauss_newton(model: nn.Module, chunk: Inputs) -> dict[nn.Module, Tensor]:
    """By the modules of a network taken apart: the sum of J Jᵀ over all outputs and positions, over the samples.

    J is the derivative of one output of the network after one position of a module whose last dimension is features.
    """
    watched = Watched.of(model)
    made: dict[nn.Module, list[Tensor]] = {module: [] for module in watched.watches}

    def keep(module: nn.Module, args: Any, y: Tensor) -> Tensor:
        kept = y if y.requires_grad else y.detach().requires_grad_()
        made[module].append(kept)
        return kept

    unhook(watched)
    for module in made:
        module.register_forward_hook(keep)
    with torch.enable_grad():
        outputs = torch.cat([y.flatten() for y in gathering.floating(call(watched.model, chunk.value))])
    kept = [y for each in made.values() for y in each]
    size = {module: each[0].shape[-1] for module, each in made.items()}
    found = {module: torch.zeros(n, n, dtype=torch.float64) for module, n in size.items()}
    for one in outputs:
        slopes = iter(torch.autograd.grad(one, kept, retain_graph=True, allow_unused=True))
        for module, each in made.items():
            for _ in each:
                slope = next(slopes)
                if slope is not None:
                    rows = slope.reshape(-1, size[module])
                    found[module] += rows.mT @ rows / chunk.size
    return found


@pytest.mark.parametrize("name", VECTORS | MANY)
def test_the_moment_of_outputs_is_the_gauss_newton_matrix(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chunk = made(name)
    wanted = gauss_newton(model, chunk)
    places = watched_places(exact(monkeypatch, model, chunk), Watched.of(model))
    for place, matrix in zip(places.values(), wanted.values(), strict=True):
        assert matrix.norm() > 0
        assert torch.dist(raw(place.outputs)[0], matrix) < 1e-10 * matrix.norm()


def test_random_projections_come_near_it() -> None:
    model, chunk = made("attention")
    (place,) = (places[0] for name, places in gather(model, [chunk], draws=800).seen.items() if "v_proj" in name)
    wanted = list(gauss_newton(model, chunk).values())[2]
    assert place.outputs is not None
    assert float(place.outputs.whole.count) == 800 * chunk.size
    assert torch.dist(raw(place.outputs)[0], wanted) < 0.1 * wanted.norm()


class Mixed(nn.Module):
    """A layer, and a fixed linear map of its output channels."""

    def __init__(self, layer: nn.Module, channels: int, at: int, groups: int) -> None:
        super().__init__()
        self.layer, self.at = layer, at
        blocks = [noise(channels // groups, channels // groups, seed=k) for k in range(groups)]
        self.register_buffer("map", torch.block_diag(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (self.layer(x).movedim(self.at, -1) @ self.map.mT).movedim(-1, self.at)
        return y


@pytest.mark.parametrize("name", IMAGES | VECTORS)
def test_the_cost_of_a_change_is_the_squared_change_of_the_networks_outputs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact where the derivative after a layer does not depend on what the layer meets."""
    layer, chunk = made(name)
    site = next(iter(sites(layer).values()))
    groups, channels = site.axes.get("g", 1), site.axes["o"] * site.axes.get("g", 1)
    model = Mixed(layer, channels, 1 if name in IMAGES else -1, groups)
    place = exact(monkeypatch, model, chunk).seen["layer"][0]
    metric = Metric(by_axes(place.input_axes, raw(place.inputs)) | by_axes(place.output_axes, raw(place.outputs)))
    changed, error = copy.deepcopy(model), noise(*layer.weight.shape, seed=7)
    with torch.no_grad():
        changed.layer.weight.add_(error)
        moved = float((call(changed, chunk.value) - call(model, chunk.value)).square().sum()) / chunk.size
    cost = metric.squared_error(error.reshape(tuple(site.axes.values())), tuple(site.axes))
    assert math.isclose(cost, moved, rel_tol=1e-10)


def test_a_recurrent_matrix_is_priced_through_time_and_not_twice() -> None:
    model = filled(nn.LSTM(3, 4))
    chunk = Inputs(noise(6, 2, 3), (1,))
    metrics = gather(model, [chunk]).metrics
    known = sites(model)
    subjects = {
        name: Subject(site, site.weight(model), {}, 1, 1.0, False, False, gain=site.error_gain(None, None))
        for name, site in known.items()
    }
    assert subjects["model.weight_hh_l0"].gain > 1
    found = priced(subjects, metrics)
    for name, subject in found.items():
        assert subject.gain == metrics[name].squared_error(known[name].weight(model), ("o", "i"))
    unknown = priced(subjects, {"model.weight_ih_l0": metrics["model.weight_ih_l0"]})["model.weight_hh_l0"]
    assert math.isclose(unknown.gain, subjects["model.weight_hh_l0"].gain * found["model.weight_ih_l0"].gain)


# ---- gradients of weights
class Mixture(nn.Module):
    """Experts as their own code goes through them; the last is never chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts = 3
        self.up = nn.Parameter(noise(3, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        chosen = (x[..., 0] > 0).long()
        y = torch.stack([x @ each.mT for each in self.up])
        return torch.where(chosen[..., None] == 0, y[0], torch.where(chosen[..., None] == 1, y[1], y[2])).tanh()


EXPERTS: Case = Mixture, lambda: noise(4, 3, 5)
ONE_PLACE = "depthwise", "linear on tokens", "twice", "lstm", "gru", "rnn cell", "experts"


def jacobian(model: nn.Module, chunk: Inputs, name: str) -> Tensor:
    """Of all outputs after a parameter, (outputs, *parameter)."""

    def outputs(parameter: Tensor) -> Tensor:
        found = torch.func.functional_call(model, {name: parameter}, tuple(tensors_in(chunk.value)))
        return torch.cat([y.flatten() for y in gathering.floating(found)])

    return torch.autograd.functional.jacobian(outputs, model.get_parameter(name).detach())


@pytest.mark.parametrize("case", ONE_PLACE)
def test_a_random_change_of_any_weight_costs_what_it_does_to_the_outputs(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through all positions, steps and calls, and for each expert: the trace of a metric is that of JᵀJ."""
    monkeypatch.setitem(CASES, "experts", EXPERTS)
    model, chunk = made(case)
    for name, (place,) in exact(monkeypatch, model, chunk).seen.items():
        site = sites(model)[name]
        weight = next(key for key, each in model.named_parameters() if each is site.parameter(model))
        slopes, axes = jacobian(model, chunk, weight), site.axes
        each = slopes.square().sum(0).reshape(axes.get("g", 1), -1).sum(1) / chunk.size  # (groups,)
        assert place.slope is not None
        assert torch.allclose(place.slope.trace(None), each, rtol=1e-9)
        metric = place.moments(centred=False)
        kept = [moment if moment.ndim == 3 else moment.unsqueeze(0) for moment in metric.values()]
        product = math.prod(moment.diagonal(dim1=1, dim2=2).sum(1) for moment in kept)
        assert torch.allclose(torch.as_tensor(product), each, rtol=1e-5)


@pytest.mark.parametrize("name", ["conv1d", "linear"])
def test_what_a_shift_makes_good_is_not_priced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chunk = made(name)
    found = exact(monkeypatch, model, chunk)
    assert found.shifts == {"model": "bias"}
    slope, mean = found.seen["model"][0].slope, found.mean("model")
    assert slope is not None
    change, shift = (jacobian(model, chunk, part) for part in ("weight", "bias"))  # (outputs, o, ..), (outputs, o)
    left = change.flatten(2) - shift.unsqueeze(-1) * mean
    assert math.isclose(float(slope.trace(mean)), float(left.square().sum()) / chunk.size, rel_tol=1e-9)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_small_changes_of_both_matrices_of_a_recurrence_are_priced_right(kind: type[nn.RNNBase]) -> None:
    """Errors that come back step after step, from random projections of 64 sequences of 20 steps."""
    model = filled(kind(6, 8, batch_first=True))
    x = noise(64, 20, 6) + 0.5
    metrics = gather(model, [Inputs(part, (0,)) for part in x.split(8)], draws=4).metrics
    for name in ("weight_ih_l0", "weight_hh_l0"):
        predicted = moved = 0.0
        for seed in range(20):
            error = 1e-4 * noise(*getattr(model, name).shape, seed=seed)
            changed = copy.deepcopy(model)
            with torch.no_grad():
                getattr(changed, name).add_(error)
                differences = zip(tensors_in(changed(x)), tensors_in(model(x)), strict=True)
                moved += sum(float((a - b).square().sum()) for a, b in differences) / len(x)
            predicted += metrics[f"model.{name}"].squared_error(error, ("o", "i"))
        assert 1 / 1.3 < predicted / moved < 1.3


def test_every_expert_has_moments_of_its_own_and_one_that_nothing_reaches_costs_nothing() -> None:
    model, scale = nn.Sequential(filled(Mixture())), torch.tensor([1.0, 0.1, 2.0, 0.1, 1.0])
    found = gather(model, [Inputs(noise(4, 3, 5, seed=k) * scale, (0,)) for k in range(9)], draws=20)
    assert found.reasons == {}
    metric = found.metrics["0"]
    assert [moment.shape for moment in metric.moments.values()] == [(3, 5, 5), (3, 4, 4)]
    costs = []
    for expert in range(3):
        error = torch.zeros(3, 4, 5, dtype=torch.float64)
        error[expert] = noise(4, 5)
        costs.append(metric.squared_error(error, ("g", "o", "i")))
    assert costs[0] > 0
    assert costs[1] > 0
    assert costs[2] == 0
    plan = tenfold.Plan({"0": tenfold.Row("0", "svd", ranks=(2,))})
    given = noise(500, 3, 5, seed=99) * scale
    with torch.no_grad():
        lost = [
            float((small(given) - model(given)).square().mean())
            for small in (tenfold.decompose(model, plan), tenfold.decompose(model, plan, statistics=found))
        ]
    assert lost[1] < 0.8 * lost[0]


# ---- few samples
@given(st.integers(2, 6), seeds)
def test_shrinkage_is_near_nothing_for_many_samples_and_near_all_for_few(k: int, seed: int) -> None:
    root = torch.diag(torch.logspace(0, 1, k).double())

    def share(n: int) -> float:
        parts = (Moment.of((noise(n, k, seed=seed + at) @ root).unsqueeze(1), k) for at in (0, 100))
        return shrinkage(*(part.second(centred=False) for part in parts))

    assert share(20_000) < 0.05
    assert all(0 <= share(n) <= 1 for n in (1, 2, 3, 10))
    even = (Moment.of(noise(n, 1, 8, seed=seed + n), 8).second(centred=False) for n in (9, 900))
    assert shrinkage(*even) > 0.7  # what differs from the prior is chance
    assert shrinkage(torch.eye(k)[None], torch.eye(k)[None]) == 1


def test_a_moment_of_few_samples_has_no_direction_without_cost() -> None:
    fitted, held = (Moment.of(noise(n, 1, 6, seed=n), 6) for n in (3, 1))
    found = Halves(fitted, held).second(centred=False)[0]
    assert torch.linalg.eigvalsh(found).min() > 0
    assert math.isclose(found.trace(), (fitted + held).second(centred=False)[0].trace(), rel_tol=1e-12)


# ---- means
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("kind", ["conv", "grouped", "linear"])
def test_a_shift_of_means_is_made_good(kind: str, normed: bool) -> None:
    layer, norm, x = {
        "conv": lambda: (nn.Conv2d(3, 8, 3, padding=1, bias=not normed), nn.BatchNorm2d(8), noise(9, 3, 5, 5) + 1),
        "grouped": lambda: (nn.Conv2d(8, 8, 3, groups=2, bias=not normed), nn.BatchNorm2d(8), noise(9, 8, 5, 5) + 1),
        "linear": lambda: (nn.Linear(6, 8, bias=not normed), nn.BatchNorm1d(8), noise(40, 6) + 1),
    }[kind]()
    model = filled(nn.Sequential(layer, norm) if normed else nn.Sequential(layer))
    found = tenfold.calibrate(model, [x])
    assert found.shifts == {"0": "1.running_mean" if normed else "0.bias"}
    plan = tenfold.Plan({"0": tenfold.Row("0", "svd", ranks=(1,))})
    dims = [0, *range(2, x.ndim)]
    with torch.no_grad():
        wanted = model(x).mean(dims)
        plain = tenfold.decompose(model, plan)(x).mean(dims)
        small = tenfold.decompose(model, plan, statistics=found)(x).mean(dims)
    assert torch.dist(plain, wanted) > 0.05
    assert torch.allclose(small, wanted, rtol=0, atol=1e-10)


# ---- kept
@pytest.mark.parametrize("name", ["conv2d, groups, circular", "tied", "lstm, projected", "encoder", "embedding bag"])
def test_statistics_come_back_from_a_file_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, chunk = made(name)
    found = gather(model, [chunk, chunk])
    path = tmp_path / "some" / "statistics.safetensors"
    file.write(path, found)
    file.write(path, found)  # replaces what is ours
    back = file.read(path)
    assert back is not None
    assert same(back, found)
    assert list(path.parent.iterdir()) == [path]


def same(one: Statistics, other: Statistics, tolerance: float = 0.0) -> bool:
    """Whether all is equal, numbers of sums up to a relative tolerance."""
    plain = ("weights_hash", "inputs_hash", "samples", "seed", "counted", "reasons", "notes", "shifts")
    return all(getattr(one, name) == getattr(other, name) for name in plain) and all(
        near(getattr(ours, part), getattr(theirs, part), tolerance)
        for ours, theirs in zip(flat(one), flat(other), strict=True)
        for part in file.PARTS[type(ours)]
    )


def flat(found: Statistics) -> list[Sums]:
    places = [place for places in found.seen.values() for place in places]
    halves = [each for place in places for each in (place.inputs, place.outputs) if each is not None]
    every = [place.slope for place in places] + [sums for each in halves for sums in (each.fitted, each.held)]
    return [sums for sums in every if sums is not None]


def near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    assert one.dtype == other.dtype == torch.float64
    return bool((one - other).abs().max() <= tolerance * other.abs().max())


@pytest.mark.parametrize("words", [b"", b"not ours"])
def test_a_file_that_is_not_ours_is_never_replaced(words: bytes, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    path.write_bytes(words)
    assert file.read(path) is None
    model, chunk = made("linear")
    with pytest.raises(TenfoldError, match=r"statistics\.safetensors.*not written by tenfold.*another folder"):
        file.write(path, gather(model, [chunk]))
    assert path.read_bytes() == words


def test_statistics_are_reused_for_these_weights_and_inputs_only(tmp_path: Path) -> None:
    model, x = filled(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))), noise(9, 4)
    found = tenfold.calibrate(model, [x], profile=tmp_path)
    wrong = replace(found, samples=99)
    file.write(tmp_path / "statistics.safetensors", wrong)  # by which what is read is told from what is gathered
    assert same(tenfold.calibrate(model, [x], profile=tmp_path), wrong)
    other = tenfold.calibrate(model, [x], profile=tmp_path, seed=5)
    assert same(other, tenfold.calibrate(model, [x], seed=5))
    assert other.seed == 5
    classes = Data([], [x], [], [])
    counted = tenfold.calibrate(model, [x], data=classes, profile=tmp_path)
    assert same(counted, tenfold.calibrate(model, [x], data=classes))
    assert counted.counted == "task 'classification', output all"
    assert not same(tenfold.calibrate(model, [x + 1], profile=tmp_path), found)


def test_what_is_drawn_for_a_chunk_depends_on_the_seed_and_the_chunk() -> None:
    model, chunk = made("conv1d")
    parts = [chunk.at([0, 1]), chunk.at([2, 3])]
    ways = [gather(model, each).seen["model"][0] for each in (parts, parts[::-1])]
    one, other = (way.outputs for way in ways)
    assert one is not None
    assert other is not None
    assert near(one.whole.outer, other.whole.outer, 1e-14)
    third = gather(model, parts, seed=1).seen["model"][0].outputs
    assert third is not None
    assert not near(one.whole.outer, third.whole.outer, 1e-3)


# ---- a pass that is stopped, watched and foretold
class Stopped(Exception):  # noqa: N818  (no error)
    pass


def stopping(after: int) -> Callable[[Iterator[Progress]], Iterator[Progress]]:
    """Stops a pass after so many chunks."""

    def watch(steps: Iterator[Progress]) -> Iterator[Progress]:
        for step in steps:
            yield step
            if step.step == after:
                raise Stopped

    return watch


def noting(seen: list[Progress]) -> Callable[[Iterator[Progress]], Iterator[Progress]]:
    """Notes what is done."""

    def watch(steps: Iterator[Progress]) -> Iterator[Progress]:
        for step in steps:
            seen.append(step)
            yield step

    return watch


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are kept after every chunk."""
    monkeypatch.setattr(begun, "EVERY", 0.0)
    monkeypatch.setattr(begun, "SHARE", math.inf)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", ["conv1d", "embedding", "lstm", "tied", "twice"])
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_stopped_pass_goes_on_to_the_same_sums(name: str, stop: int, tmp_path: Path) -> None:
    model, chunk = made(name)
    chunks = [chunk.at([k % chunk.size, (3 * k + 1) % chunk.size]) for k in range(5)]
    path = tmp_path / "begun"
    with pytest.raises(Stopped):
        gather(model, chunks, begun=path, watch=stopping(stop))
    steps: list[Progress] = []
    found = gather(model, chunks, begun=path, watch=noting(steps))
    assert [step.step for step in steps] == list(range(stop + 1, 6))
    assert {step.steps for step in steps} == {5}
    assert same(found, gather(model, chunks))
    for others, seed in ((chunks[::-1], 0), (chunks, 1)):
        assert same(gather(model, others, begun=path, seed=seed), gather(model, others, seed=seed))  # not of this pass


@pytest.mark.usefixtures("at_once")
def test_a_pass_keeps_its_sums_in_the_profile_until_it_ends(tmp_path: Path) -> None:
    model, x = filled(nn.Linear(4, 3)), noise(99, 4)
    with pytest.raises(Stopped):
        tenfold.calibrate(model, [x], profile=tmp_path, watch=stopping(2))
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.begun-0.safetensors"]
    tenfold.calibrate(model, [x], profile=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.safetensors"]


def test_sums_are_kept_from_minute_to_minute(tmp_path: Path) -> None:
    model, chunk = made("linear")
    gather(model, [chunk] * 9, begun=tmp_path / "begun")
    assert not list(tmp_path.iterdir())
    (tmp_path / "other").write_bytes(b"not ours")
    kept = begun.Begun(tmp_path / "other", "run")
    kept.due = 0
    with pytest.raises(TenfoldError, match=r"other' was not written by tenfold"):
        kept.keep(1, {})


def test_a_long_pass_is_foretold_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    model, chunk = made("linear")
    gather(model, [chunk, chunk])
    assert not caplog.records
    monkeypatch.setattr(gathering, "LONG", 0.0)
    gather(model, [chunk, chunk])
    said = [record.getMessage() for record in caplog.records]
    assert said == ["statistics of 12 samples take about 0 minutes; those of 3 (--calibrate 3) would take 0 minutes."]
    assert gathering.spoken(3010) == "50 minutes"
    assert gathering.spoken(12240) == "3.4 hours"


# ---- too wide
@pytest.mark.parametrize("name", ["conv1d", "conv2d, groups, circular", "linear", "tied", "lstm"])
def test_of_wide_weights_the_diagonals_are_kept_and_this_is_said_before(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    model, chunk = made(name)
    whole = gather(model, [chunk])
    monkeypatch.setattr(moment, "MOST", 1)
    said: list[str] = []

    def watch(chunks: Any) -> Any:
        said.extend(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
        yield from chunks

    wide = gather(model, [chunk], watch=watch)
    assert set(wide.notes) == set(sites(model))
    assert all(any(site in each and "diagonals" in each for each in said) for site in wide.notes)
    assert whole.notes == {}
    for site, places in wide.seen.items():
        for at, place in enumerate(places):
            for side in ("inputs", "outputs"):
                full, found = raw(getattr(whole.seen[site][at], side)), raw(getattr(place, side))
                assert found.ndim == 2
                assert torch.allclose(found, full if full.ndim == 2 else full.diagonal(dim1=-2, dim2=-1), atol=1e-12)
    file.write(tmp_path / "wide", wide)
    back = file.read(tmp_path / "wide")
    assert back is not None
    assert same(back, wide)
    for site, metric in wide.metrics.items():
        assert all(each.ndim == 1 for each in metric.moments.values())
        assert metric.squared_error(sites(model)[site].weight(model), tuple(sites(model)[site].axes)) > 0
    plan = tenfold.Plan({site: tenfold.Row(site, "svd", ranks=(1,)) for site in wide.seen})
    small = tenfold.decompose(model, plan, statistics=wide)
    assert all(y.isfinite().all() for y in tensors_in(call(small, chunk.value)))


def test_a_table_is_not_said_to_be_seen_in_part() -> None:
    model = filled(nn.Embedding(5000, 3))
    found = gather(model, [Inputs(indices(4, 6, below=5000), (0,))])
    assert found.notes == {}
    assert found.seen["model"][0].inputs.whole.outer.shape == (1, 5000)


# ---- several processes
def network() -> nn.Module:
    return filled(nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 3)))


def chunks_of_all() -> list[Inputs]:
    return [Inputs(noise(2, 2, 5, 5, seed=k), (0,)) for k in range(16)]


def gather_a_half(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    own = chunks_of_all()[8 * rank : 8 * rank + 8]
    file.write(folder / f"{rank}", gather(network(), own))
    (folder / f"{rank}.hash").write_text(hash_of(own))
    mine = Moment.of(noise(5, 1, 3, seed=rank), 3)
    torch.save(summed_over_processes({f"only {rank}": mine, "both": mine}), folder / f"{rank}.moments")
    torch.distributed.destroy_process_group()


def test_several_processes_add_up_to_one_that_saw_all(tmp_path: Path) -> None:
    multiprocessing.spawn(gather_a_half, (tmp_path,), nprocs=2)
    one, other = (file.read(tmp_path / f"{rank}") for rank in (0, 1))
    assert one is not None
    assert other is not None
    assert same(one, other)
    assert same(one, gather(network(), chunks_of_all()), tolerance=1e-12)
    assert one.samples == 32
    assert (tmp_path / "0.hash").read_text() == one.inputs_hash == hash_of(chunks_of_all())
    apart = [Moment.of(noise(5, 1, 3, seed=rank), 3) for rank in (0, 1)]
    wanted = {"only 0": apart[0], "only 1": apart[1], "both": apart[0] + apart[1]}
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.moments", weights_only=False)
        assert found.keys() == wanted.keys()
        for name, each in wanted.items():
            assert all(torch.equal(getattr(found[name], part), getattr(each, part)) for part in PARTS)


def test_inputs_that_are_written_over_are_seen_as_they_were() -> None:
    found = []
    for in_place in (True, False):
        torch.manual_seed(0)
        model = WritesOver(in_place).eval().double()
        chunks = [Inputs(torch.randn(8, 5, dtype=torch.float64), (0,))]
        found.append(gather(model, chunks, seed=0).metrics["second"])
    assert all(torch.equal(found[0].moments[key], found[1].moments[key]) for key in ("i", "o"))


def test_a_weight_that_meets_zeros_is_planned_by_its_own_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Threshold(1e9, 0.0), nn.Linear(8, 8), nn.Linear(8, 3)).eval()
    found = gather(model, [Inputs(torch.randn(32, 6), (0,))], seed=0)
    assert re.search(r"\b2\b[^:]*: on these samples it meets zeros", caplog.text)  # and others, whose inputs it makes
    assert "2" in found.seen
    assert "2" not in found.metrics
    plan = tenfold.plan(model, tenfold.inspect(model), params="1.3x", format="svd", metrics=found.metrics)
    assert tenfold.decompose(model, plan, statistics=found)(torch.randn(2, 6)).isfinite().all()
