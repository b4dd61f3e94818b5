"""Layers of a block solved one after the other: exact where they can be, never worse on samples that are held out."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tenfold.formats import format_named
from tenfold.inputs import Inputs, first_samples
from tenfold.layers import FactoredWeight
from tenfold.models.cifar_resnet import BasicBlock
from tenfold.recovery import reconstruct
from tenfold.recovery.reconstruction import Block, Refinement, blocks_of
from tenfold.recovery.reconstruction.additions import watched
from tenfold.recovery.reconstruction.flow import Flow, through
from tenfold.recovery.reconstruction.samples import pieces
from tenfold.recovery.reconstruction.solve import Passing, error, regression, solved
from tenfold.recovery.reconstruction.twins import PLAINLY, twins_of
from tenfold.statistics.gradients import floating
from tenfold.statistics.moment import Moment
from tenfold.statistics.shifts import shiftable
from tenfold.surgery import Plan, Row, decompose, sites


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    model = model.double().eval()
    with torch.no_grad():
        for k, tensor in enumerate([*model.parameters(), *model.buffers()]):
            if tensor.is_floating_point():
                tensor.copy_(noise(*tensor.shape, seed=seed + k) * 0.4)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.5)
    return model


def cut(model: nn.Module, *, rank: int = 1, only: Callable[[str], bool] = lambda name: True) -> nn.Module:
    """With every weight a matrix of some rank where it can be."""
    rows = {}
    for name, site in sites(model).items():
        maker = site.suit(format_named("svd"))
        if only(name) and not isinstance(maker, str) and site.bound is None:
            rows[name] = Row(name, "svd", ranks=(rank,))
    return decompose(model, Plan(rows))


class Branches(nn.Module):
    """Two layers on one input, added up."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.one(x)) + self.two(x)
        return y


class Forked(nn.Module):
    """What it adds up depends on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        for _ in range(int((y.mean() * 1000).abs()) % 7):
            y = y + 0 * x
        z: Tensor = self.two(y)
        return z


Case = tuple[Callable[[], nn.Module], Callable[[], Any]]
CASES: dict[str, Case] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3, bias=False)), lambda: noise(48, 5)),
    "residual": (lambda: BasicBlock(3, 6, 2), lambda: noise(48, 3, 6, 6)),
    "groups": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 2, groups=2)),
        lambda: noise(48, 4, 5, 5),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 1), nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1)),
        lambda: noise(48, 3, 6),
    ),
    "attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda: (noise(48, 5, 4),) * 3),
    "encoder": (lambda: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), lambda: noise(48, 5, 4)),
    "lstm": (lambda: nn.LSTM(4, 3, 2, batch_first=True), lambda: noise(48, 6, 4)),
    "gru cell": (lambda: nn.GRUCell(4, 3), lambda: noise(48, 4)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3)), 
                  lambda: torch.arange(96).reshape(48, 2) % 7),
    "weight norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Linear(4, 3)),
                    lambda: noise(48, 5)),
}  # fmt: skip


class Whole(nn.Module):
    """A network that is one block."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.only = nn.ModuleList([inside])

    def forward(self, *args: Tensor) -> Any:
        return self.only[0](*args)


def made(name: str) -> tuple[nn.Module, list[Inputs]]:
    build, feed = CASES[name]
    value = feed()
    return drawn(Whole(build())), [Inputs(value, (0,) * len(value) if isinstance(value, tuple) else (0,))]


ONE = Block(("only.0",))


def passed(dense: nn.Module, small: nn.Module, whole: Inputs, block: Block = ONE) -> Passing:
    chunks = [whole.at(range(k, k + 6)) for k in range(0, whole.size, 6)]
    flows = [Flow(model, chunks) for model in (dense, small)]
    theirs, ours = (list(flow.entering(block)) for flow in flows)
    return Passing(theirs, ours, flows[0].passed(block, theirs))


def solve(dense: nn.Module, small: nn.Module, whole: Inputs) -> Passing:
    passing = passed(dense, small, whole)
    solved(ONE, dense, small, passing, shifts=shiftable(dense, whole.samples(2)), metrics={})
    return passing


def lost(dense: nn.Module, small: nn.Module, passing: Passing) -> float:
    return error(twins_of(ONE, dense, small, passing.given(0), {}), passing)


# ---- the twins
@pytest.mark.parametrize("name", CASES)
def test_twins_give_what_the_networks_give(name: str) -> None:
    dense, (whole,) = made(name)
    small = cut(dense)
    passing = passed(dense, small, whole)
    twins = twins_of(ONE, dense, small, passing.given(0), shiftable(dense, whole.samples(2)))
    with torch.no_grad():
        for model, twin, given in ((dense, twins.dense, passing.dense), (small, twins.ours, passing.ours)):
            for each in given:
                pairs = zip(floating(through(ONE.of(model), each)), floating(through(list(twin), each)), strict=True)
                assert all(torch.allclose(one, other, atol=1e-12) for one, other in pairs)
    solvable = {"weight norm": 1, "embedding": 1, "attention": 4, "encoder": 6, "lstm": 4}
    assert len(twins.weights) == solvable.get(name, 2)


def test_a_weight_that_others_hold_is_left_alone() -> None:
    inside = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    inside[1].weight = inside[0].weight
    dense, whole = drawn(Whole(inside)), Inputs(noise(48, 4), (0,))
    passing = passed(dense, dense, whole)
    assert not twins_of(ONE, dense, copy.deepcopy(dense), passing.given(0), {}).weights


# ---- the regression
@settings(max_examples=25)
@given(st.integers(1, 2), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_what_a_weight_lacks_is_found_whatever_repeats_among_its_inputs(
    groups: int, inputs: int, outputs: int, repeated: int, seed: int
) -> None:
    x, change = noise(300, groups, inputs, seed=seed), noise(groups, outputs, inputs, seed=seed + 1)
    lack = torch.einsum("ngi,goi->ngo", x, change)
    x = torch.cat([x, *[x[..., :1]] * repeated, torch.zeros(300, groups, repeated, dtype=x.dtype)], -1)
    rows = torch.cat([x, lack], -1)
    fit, held = (Moment.of(part, 0).second(centred=False) for part in (rows[:200], rows[200:]))
    found, moment = regression(fit, held, x.shape[-1])
    again = torch.einsum("ngi,goi->ngo", x, found)
    assert torch.dist(again, lack) <= 1e-3 * lack.norm()
    assert torch.linalg.eigvalsh(moment).min() > 0


def test_no_change_is_found_in_inputs_that_are_nothing_or_lacks_that_do_not_last() -> None:
    rows = torch.cat([torch.zeros(9, 1, 3, dtype=torch.float64), noise(9, 1, 2)], -1)
    found, _ = regression(*[Moment.of(rows, 0).second(centred=False)] * 2, 3)
    assert not found.any()
    x, lack = noise(20, 1, 3), noise(20, 1, 2, seed=1)
    fit, held = (Moment.of(torch.cat([x, sign * lack], -1), 0).second(centred=False) for sign in (1, -1))
    found, _ = regression(fit, held, 3)
    assert not found.any()


# ---- sums
def test_sums_are_found_through_norms_where_the_other_term_does_not_depend_on_the_layer() -> None:
    model = drawn(BasicBlock(3, 6, 2))
    with torch.no_grad():
        found = watched(model, [model.conv1, model.conv2], lambda: model(noise(2, 3, 6, 6))).found
    assert set(found) == {model.conv2}
    assert found[model.conv2].norms == (model.bn2,)
    scale = model.bn2.weight / (model.bn2.running_var + model.bn2.eps).sqrt()
    y = noise(2, 6, 3, 3)
    assert torch.allclose(found[model.conv2].undone(scale.reshape(-1, 1, 1) * y), y)


class Squared(nn.Module):
    """A sum of what depends on the layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.each(x)
        return y + y.square()


def test_no_sum_is_found_where_both_terms_depend_on_the_layer_or_it_was_written_to_before() -> None:
    model = drawn(Squared())
    branches = drawn(Branches())
    branches.one.register_forward_hook(lambda _, args, y: y.relu_())
    with torch.no_grad():
        assert not watched(model, [model.each], lambda: model(noise(2, 3))).found
        found = watched(branches, [branches.two], lambda: branches(noise(2, 4))).found
        assert set(found) == {branches.two}
        twice = watched(branches, [branches.two], lambda: branches(torch.cat([branches(noise(2, 4)), noise(2, 1)], 1)))
    assert twice.calls[branches.two] == 2
    assert not twice.found


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_what_one_branch_lacks_the_other_makes_good(first: bool, norm: bool) -> None:
    """A linear branch at rank one, a dense one beside it: the sum is met exactly."""
    dense, whole = drawn(Whole(Branches(norm=norm))), Inputs(noise(96, 4), (0,))
    small = cut(dense, only=lambda name: name.endswith("one" if first else "two"))
    before = lost(dense, small, passed(dense, small, whole))
    passing = solve(dense, small, whole)
    assert before > 0.01
    assert lost(dense, small, passing) < 1e-6
    with torch.no_grad():
        assert torch.dist(small(noise(9, 4, seed=5)), dense(noise(9, 4, seed=5))) < 1e-2


# ---- a block
@pytest.mark.parametrize("name", CASES)
def test_the_error_of_a_block_never_rises_on_samples_that_are_held_out(name: str) -> None:
    dense, (whole,) = made(name)
    kept = copy.deepcopy(dense.state_dict())
    small = cut(dense)
    before = lost(dense, small, passed(dense, small, whole))
    passing = solve(dense, small, whole)
    assert lost(dense, small, passing) <= before
    assert all(torch.equal(value, kept[key]) for key, value in dense.state_dict().items())


@pytest.mark.parametrize("form", ["tt", "cp", "tucker2", "svd"])
def test_cores_at_full_rank_are_solved_exactly(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.recovery.reconstruction.solve.SLOW", 0.0)
    dense, whole = drawn(Whole(nn.Conv2d(3, 4, 2))), Inputs(noise(48, 3, 4, 4), (0,))
    maker = format_named(form)
    ranks = {"cp": (12,)}.get(form) or maker.network(sites(dense)["only.0"].axes).ranks
    small = decompose(dense, Plan({"only.0": Row("only.0", form, ranks=ranks)}))
    held = small.only[0].weight
    with torch.no_grad():
        for k, core in enumerate(held.cores):
            core += 0.1 * noise(*core.shape, seed=k)
    assert lost(dense, small, passed(dense, small, whole)) > 1e-3
    passing = solve(dense, small, whole)
    assert lost(dense, small, passing) < 1e-6


def test_a_planted_rank_is_found_behind_a_layer_that_lost_something() -> None:
    """The first layer turns what the second is given; what the second is to become has rank two."""
    dense = drawn(Whole(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 4))))
    first, second = dense.only[0]
    with torch.no_grad():
        second.weight.copy_(noise(4, 2, seed=3) @ noise(2, 5, seed=4))
    small = cut(dense, rank=2, only=lambda name: name.endswith("1"))
    with torch.no_grad():
        small.only[0][0].weight.copy_(noise(5, 5, seed=7) @ first.weight)
    whole = Inputs(noise(96, 5), (0,))
    assert lost(dense, small, passed(dense, small, whole)) > 0.1
    small.only[0][0].weight.requires_grad_(requires_grad=False)
    passing = solve(dense, small, whole)
    assert isinstance(small.only[0][1].weight, FactoredWeight)
    assert lost(dense, small, passing) < 1e-5


def test_where_operations_depend_on_the_inputs_it_is_said_and_solved_plainly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dense, whole = drawn(Whole(Forked())), Inputs(noise(96, 4), (0,))
    small = cut(dense)
    before = lost(dense, small, passed(dense, small, whole))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        passing = solve(dense, small, whole)
    assert [record.message for record in caplog.records] == [
        f"block only.0: its operations depend on its inputs, so {PLAINLY}"
    ]
    assert lost(dense, small, passing) < before


class Unwatched(Branches):
    """Takes no other look at its operations."""

    def forward(self, x: Tensor) -> Tensor:
        if _get_current_dispatch_mode() is not None:
            raise RuntimeError("not under a mode")
        return super().forward(x)


def test_where_operations_cannot_be_watched_it_is_said_and_solved_plainly(caplog: pytest.LogCaptureFixture) -> None:
    dense, whole = drawn(Whole(Unwatched())), Inputs(noise(96, 4), (0,))
    small = cut(dense, only=lambda name: name.endswith("one"))
    with torch.no_grad():
        small.only[0].one.weight.cores[0].mul_(1.5)
    before = lost(dense, small, passed(dense, small, whole))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        passing = solve(dense, small, whole)
    assert [record.message for record in caplog.records] == [
        f"block only.0: its operations cannot be watched (not under a mode), so {PLAINLY}"
    ]
    assert lost(dense, small, passing) < before


def test_the_sums_of_an_encoder_layer_are_found() -> None:
    layer = drawn(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True))
    dense, whole = drawn(Whole(layer)), Inputs(noise(12, 5, 4), (0,))
    passing = passed(dense, dense, whole)
    found = twins_of(ONE, dense, copy.deepcopy(dense), passing.given(0), {}).weights
    names = [weight.name.removeprefix("only.0.") for weight in found if weight.sum is not None]
    assert names == ["self_attn.out_proj.weight", "linear2.weight"]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_few_chunks_are_cut_into_more_so_that_some_can_be_held_out(sizes: list[int]) -> None:
    x = noise(sum(sizes), 2)
    found = pieces([Inputs(part, (0,)) for part in x.split(sizes)], 8)
    assert torch.equal(torch.cat([chunk.value for chunk in found]), x)
    assert len(found) >= min(8, len(x))
    whole = Inputs(x, (0,), fixed=True)
    assert pieces([whole], 8) == [whole]


def test_a_reconstruction_solves_where_it_does_not_refine() -> None:
    dense = drawn(nn.Sequential(BasicBlock(3, 3, 1), BasicBlock(3, 6, 2), nn.Flatten(), nn.Linear(54, 3)))
    x = noise(128, 3, 6, 6)
    small = cut(dense, rank=2)
    chunks = first_samples(dense, [x], 96, chunk=12)
    assert len(blocks_of(dense, chunks[0])) == 3
    seen = []
    for solving in (False, True):
        found = copy.deepcopy(small)
        list(reconstruct(dense, found, chunks, how=Refinement(steps=0), together=0, solve=solving))
        with torch.no_grad():
            seen.append(float((found(x[96:]) - dense(x[96:])).square().sum()))
    assert seen[1] < 0.7 * seen[0]


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    dense = drawn(nn.Sequential(BasicBlock(3, 3, 1), BasicBlock(3, 6, 2), nn.Flatten(), nn.Linear(54, 3)))
    whole, stopped, resumed = (cut(dense, rank=2) for _ in range(3))
    chunks = first_samples(dense, [noise(96, 3, 6, 6)], 96, chunk=12)
    how = Refinement(steps=4)
    list(reconstruct(dense, whole, chunks, how=how, together=0, solve=True))
    next(reconstruct(dense, stopped, chunks, how=how, together=0, solve=True, state=tmp_path))
    steps = list(reconstruct(dense, resumed, chunks, how=how, together=0, solve=True, state=tmp_path))
    assert len(steps) == 2
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
