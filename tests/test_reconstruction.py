"""Blocks: found, entered without running again what came before, and refined until they give what they gave."""

import copy
import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from networks import WritesOver
from tenfold.api.border import bytes_asked
from tenfold.api.calibrate import Unlabelled
from tenfold.api.reconstruct import distilled
from tenfold.inputs import Inputs, first_samples, run
from tenfold.models.cifar_resnet import CifarResNet
from tenfold.protocols import TenfoldError
from tenfold.recovery import Distillation, distil, reconstruct
from tenfold.recovery.reconstruction import BlockDone, Refinement, StepDone, blocks_of
from tenfold.recovery.reconstruction.distil import apart
from tenfold.recovery.reconstruction.flow import Flow, through
from tenfold.recovery.reconstruction.reconstruct import as_one
from tenfold.recovery.reconstruction.refine import variance
from tenfold.recovery.reconstruction.samples import Samples
from tenfold.recovery.reconstruction.schedule import one_cycle
from tenfold.recovery.reconstruction.shelf import Shelf, alive, is_activation, memory
from tenfold.statistics.gradients import ALL, floating
from tenfold.surgery import sites

reconstructing = importlib.import_module("tenfold.recovery.reconstruction.reconstruct")  # (the package has the verb)
seeds = st.integers(0, 99)
QUICK = Refinement(steps=32)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(width, width), nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor, *, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        y = scale * self.two(self.one(self.norm(x)).relu())
        return x + (y if mask is None else y * mask)


class Encoder(nn.Module):
    """Layers in a list, called with keywords, between single layers."""

    def __init__(self, depth: int, *, skip: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.start = nn.Linear(5, 8)
        self.layers = nn.ModuleList(Residual(8) for _ in range(depth))
        self.end = nn.Linear(8, 3)
        self.skip, self.twice = skip, twice

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        first = y = self.start(x)
        for layer in self.layers:
            y = layer(y, scale=0.5, mask=mask)
        y = self.layers[-1](y) if self.twice else y
        return self.end(y + first if self.skip else y)


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


def names(model: nn.Module, inputs: Any) -> list[tuple[str, ...]]:
    return [block.modules for block in blocks_of(model, Inputs(inputs, (0,)))]


# ---- blocks
def test_residual_blocks_are_blocks_and_a_norm_goes_with_its_layer() -> None:
    found = names(CifarResNet(20), normal(2, 3, 8, 8))
    stages = [(f"layer{stage}.{k}",) for stage in (1, 2, 3) for k in range(3)]
    assert found == [("conv1", "bn1"), *stages, ("linear",)]


def test_layers_in_a_list_are_blocks() -> None:
    assert names(Encoder(3), normal(2, 4, 5)) == [("start",), ("layers.0",), ("layers.1",), ("layers.2",), ("end",)]
    sequence = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 3))
    assert names(sequence.eval(), normal(2, 1, 8, 8)) == [("0", "1"), ("4",)]


def test_what_is_called_twice_is_in_no_block() -> None:
    assert names(Encoder(2, twice=True), normal(2, 4, 5)) == [("start",), ("layers.0",), ("end",)]


def test_named_modules_are_blocks_and_what_is_around_them_is_found() -> None:
    model, x = Encoder(2), normal(2, 4, 5)
    found = [block.name for block in blocks_of(model, Inputs(x, (0,)), ["layers.1.two"])]
    assert found == ["start", "layers.0", "layers.1.norm", "layers.1.one", "layers.1.two", "end"]
    assert [block.name for block in blocks_of(model, Inputs(x, (0,)), ["layers.0", "end"])] == [
        "start", "layers.0", "layers.1", "end"
    ]  # fmt: skip
    stages = [block.name for block in blocks_of(CifarResNet(20), Inputs(normal(2, 3, 8, 8), (0,)), ["layer2"])]
    assert stages == [
        "conv1",
        *(f"layer1.{k}" for k in range(3)),
        "layer2",
        *(f"layer3.{k}" for k in range(3)),
        "linear",
    ]
    for names, words in (
        (["layers.0", "layers.0.two"], "'layers.0.two' is inside block 'layers.0'"),
        ([""], "no module"),
    ):
        with pytest.raises(TenfoldError, match=words):
            blocks_of(model, Inputs(x, (0,)), names)
    with pytest.raises(
        TenfoldError, match=r"block 'layers.2' is no module of the network with parameters; did you mean 'layers.[01]'"
    ):
        tenfold.reconstruct(model, copy.deepcopy(model), [x], blocks=["layers.2"])


# ---- flow
@settings(max_examples=12)
@given(st.integers(1, 3), st.booleans(), st.booleans())
def test_a_block_is_given_what_it_is_given_in_the_whole_network(depth: int, skip: bool, masked: bool) -> None:
    model, x = drawn(Encoder(depth, skip=skip)), normal(6, 4, 5)
    mask = (normal(4, 1, seed=1) > 0).float()
    whole = Inputs({"x": x, "mask": mask} if masked else {"x": x}, (0, None) if masked else (0,))
    chunks = [whole.at([0, 1]), whole.at([2, 3, 4, 5])]
    flow = Flow(model, chunks)
    for block in blocks_of(model, chunks[0]):
        seen: list[Tensor] = []
        handle = block.of(model)[0].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        for chunk in chunks:
            run(model, chunk.value)
        handle.remove()
        entering = list(flow.entering(block))
        assert all(torch.equal(args[0], true) for (args, _), true in zip(entering, seen, strict=True))
        outputs = flow.passed(block, entering)
    assert all(torch.equal(y, run(model, chunk.value)) for y, chunk in zip(outputs, chunks, strict=True))


def test_what_came_before_is_not_run_again() -> None:
    model = drawn(Encoder(3))
    chunk = Inputs(normal(2, 4, 5), (0,))
    flow, calls = Flow(model, [chunk]), []
    for block in blocks_of(model, chunk):
        flow.passed(block, flow.entering(block))
    model.layers[0].one.register_forward_hook(lambda *_: calls.append(1))
    last = blocks_of(model, chunk)[-1]
    calls.clear()
    assert flow.arriving(last, 0, short=True)
    assert not calls


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_samples_are_drawn_with_their_targets(sizes: list[int], count: int, shared: bool) -> None:
    mask = normal(3)
    sizes = [*sizes, sizes[-1] + 1]  # as `uneven` makes them
    given = [((torch.full((n, 3), float(k)), mask), {"flag": True}) for k, n in enumerate(sizes)]
    wanted = [[torch.full((n, 1), float(k))] for k, n in enumerate(sizes)]
    found = Samples.of(given, wanted, sizes, Shelf())
    assert found.count == sum(sizes)
    for (args, options), (target,) in found.drawn(count, torch.Generator().manual_seed(0)):
        assert torch.equal(args[0][:, :1], target)
        assert torch.equal(args[1], mask)
        assert options == {"flag": True}
    assert sum(n for _, n in found.each(count)) == sum(sizes)


def test_what_is_written_to_in_place_between_blocks_is_written_once() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            y += 1
            return self.two(y)

    model, chunk = drawn(Shifted()), Inputs(normal(4, 3), (0,))
    flow = Flow(model, [chunk])
    for block in blocks_of(model, chunk):
        outputs = flow.passed(block, flow.entering(block))
    assert torch.equal(outputs[0], run(model, chunk.value))


def test_what_a_layer_was_given_may_be_written_over() -> None:
    plan = tenfold.Plan({name: tenfold.Row(name, "svd", ranks=(2,)) for name in ("0.first", "0.second")})
    found = []
    for in_place in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(WritesOver(in_place), nn.Linear(6, 3)).eval()
        small = tenfold.decompose(model, plan)
        tenfold.reconstruct(model, small, [normal(64, 5)], distil=2)
        assert not any(module._forward_pre_hooks for module in small.modules())
        found.append(small.state_dict())
    assert all(torch.equal(found[0][name], tensor) for name, tensor in found[1].items())


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from([(3,), (2, 3), (3, 2, 2)]), st.booleans())
def test_variance_is_about_the_mean_of_all_samples(sizes: list[int], shape: tuple[int, ...], weighs: bool) -> None:
    sizes = [*sizes, sizes[-1] + 1]
    whole = normal(sum(sizes), *shape).double() + 5
    parts = list(whole.split(sizes))
    channels = whole.movedim(1 if len(shape) == 3 else -1, -1).flatten(0, -2)
    weighing = torch.diag(torch.arange(1.0, channels.shape[1] + 1)).double() if weighs else torch.ones(())
    true = ((channels - channels.mean(0)) * (weighing.diag() if weighs else 1)).square().mean()
    found = variance(Samples.of([((y,), {}) for y in parts], parts, sizes, Shelf()), weighing)
    assert found == pytest.approx(float(true), rel=1e-12)


@pytest.mark.parametrize(("model", "wanted"), [(nn.LSTM(3, 4), False), (nn.Linear(3, 4), True)])
def test_recurrences_run_without_cudnn_where_gradients_are_to_pass_in_eval_mode(model: nn.Module, wanted: bool) -> None:
    """cuDNN has them in training mode only."""
    assert torch.backends.cudnn.enabled
    seen: list[bool] = []
    x, plan = normal(5, 2, 3), tenfold.Plan({name: tenfold.Row(name, "svd", ranks=(2,)) for name in sites(model)})
    for each in (model, tenfold.decompose(model, plan)):
        each.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
        through([each], ((x,), {}))
        with torch.no_grad():
            through([each], ((x,), {}))
    assert seen == [wanted, True] * 2
    assert torch.backends.cudnn.enabled


# ---- memory
def laid_out(shape: list[int], seed: int, how: str) -> Tensor:
    x = normal(*shape, seed=seed)
    ways = {
        "as it is": x,
        "turned": x.mT,
        "a part": x[1:],
        "expanded": x[:1].expand(4, *shape[1:]),
        "half": x.bfloat16(),
    }
    return ways[how]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(
        st.lists(st.integers(1, 5), min_size=2, max_size=4), seeds,
        st.sampled_from(["as it is", "turned", "a part", "expanded", "half"]), st.booleans(),
    ), max_size=6),
    st.integers(0, 2000),
)  # fmt: skip
def test_what_is_kept_is_the_same_tensor_within_the_budget(each: list[Any], budget: int) -> None:
    shelf, values = Shelf(budget), []
    for shape, seed, how, stays in each:
        value = ({"x": laid_out(shape, seed, how)}, torch.arange(3), "word")
        found = shelf.keep(value)
        values += [found] if stays else []
        assert torch.equal(found[0]["x"], value[0]["x"])
        assert found[0]["x"].stride() == value[0]["x"].stride()
        assert found[1] is value[1]
        assert shelf.keep(found)[0]["x"] is found[0]["x"]
        handed = shelf.out(found)[0]["x"]
        assert torch.equal(handed, value[0]["x"])
        assert how == "expanded" or not handed.numel() or handed.data_ptr() != found[0]["x"].data_ptr()
        assert sum(alive(shelf.held).values()) <= budget
        del found, value
    in_memory = [x for x, _, _ in values if memory(x["x"]) in shelf.held]
    assert sum(x["x"].untyped_storage().nbytes() for x in in_memory) <= budget


class Counting(Shelf):
    """Keeps all in memory, and knows the most that was alive."""

    most = 0

    def kept(self, leaf: Any) -> Any:
        found = super().kept(leaf)
        self.most = max(self.most, sum(alive(self.held).values()))
        return found


def test_two_copies_of_the_activations_of_one_block_are_alive_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, x = drawn(Encoder(2)), normal(256, 4, 5)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    shelf = Counting(10**9)
    monkeypatch.setattr(reconstructing, "Shelf", lambda *_: shelf)
    list(reconstruct(dense, small, chunks_for(dense, x), how=Refinement(steps=1), together=0))
    of_a_block = 240 * 4 * 8 * 4  # bytes of what goes from one to the next; a chunk of 16 is held out
    assert 2 * of_a_block <= shelf.most - x.nbytes <= 2.3 * of_a_block


class Images(nn.Sequential):
    def __init__(self) -> None:
        norms = nn.BatchNorm2d(6), nn.BatchNorm2d(4)
        super().__init__(
            nn.Conv2d(2, 6, 3), norms[0], nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3, bias=False), norms[1], nn.ReLU(),
            nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip


@pytest.mark.parametrize("budget", [0, 15_000, 40_000, 10**9])
@pytest.mark.parametrize("model", [Encoder(2), Encoder(1, skip=True), Images()], ids=["short", "skip", "images"])
def test_a_budget_changes_no_bit(model: nn.Module, budget: int, tmp_path: Path) -> None:
    dense = drawn(copy.deepcopy(model))
    x = normal(40, 2, 6, 6) if isinstance(model, Images) else normal(40, 4, 5)
    plan, how = planned(dense, "1.2x", x[:1]), Refinement(steps=5, batch=16)
    ends = []
    for allowed in (None, budget):
        small = tenfold.decompose(dense, plan)
        list(
            reconstruct(
                dense, small, chunks_for(dense, x), how=how, together=2, state=tmp_path / str(allowed), memory=allowed
            )
        )
        ends.append(small.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert [path.name for path in (tmp_path / str(budget)).iterdir()] == ["blocks.safetensors"]


def test_a_folder_that_cannot_take_activations_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        TenfoldError, match=r"file' cannot take 4e-06 MB of activations \(File exists\); allow more memory"
    ):
        Shelf(0, tmp_path / "file").keep(torch.ones(1))
    assert not is_activation(torch.ones(1).to_sparse())
    assert Shelf(0).keep(ids := torch.arange(3)) is ids


@given(
    st.integers(0, 10**6),
    st.sampled_from(["", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "m", "Gi"]),
    st.booleans(),
)
def test_sizes_are_read_as_they_are_written(number: int, unit: str, apart: bool) -> None:
    each = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "m": 10**6, "gb": 10**9, "tb": 10**12}
    each |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "gi": 2**30}
    words = f"{number}{' ' * apart}{unit}"
    assert bytes_asked(words) == bytes_asked(words.lower()) == number * each[unit.lower()]


def test_other_sizes_are_read_or_refused() -> None:
    assert bytes_asked(None) is None
    assert bytes_asked(123) == 123
    assert bytes_asked("0.5 GiB") == 2**29
    for words in ("", "-1", "much", "4 GBit", "1,5GB", "nan", "1e9"):
        with pytest.raises(TenfoldError) as caught:
            tenfold.reconstruct(nn.Linear(2, 2), nn.Linear(2, 2), [normal(3, 2)], memory=words)
        assert str(caught.value) == f"'{words}' is no size of memory; write 4GB, 512MB, 0.5GiB or a number of bytes."


# ---- refinement
def planned(model: nn.Module, ratio: str, x: Tensor) -> tenfold.Plan:
    return tenfold.plan(model, tenfold.inspect(model, x), params=ratio, format="svd", max_error=1.0)


def chunks_for(model: nn.Module, x: Tensor) -> list[Inputs]:
    return first_samples(model, [x], len(x), chunk=16)


def error(dense: nn.Module, small: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((dense(x) - small(x)).square().mean() / dense(x).square().mean())


def test_refined_blocks_bring_the_outputs_nearer_on_samples_that_were_not_seen() -> None:
    dense, x = drawn(Encoder(2)), normal(512, 4, 5)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    before = error(dense, small, x[256:])
    steps = reconstruct(dense, small, chunks_for(dense, x[:256]), how=QUICK)
    blocks = [step for step in itertools.islice(steps, 4) if isinstance(step, BlockDone)]
    assert [step.name for step in blocks] == ["start", "layers.0", "layers.1", "end"]
    assert [step.step for step in blocks] == [1, 2, 3, 4]
    refined = error(dense, small, x[256:])
    assert refined < 0.7 * before
    left = list(steps)  # passes through the whole network
    assert {step.title for step in left} == {"all blocks"}
    assert [step.step for step in left] == list(range(1, left[0].steps + 1))
    assert error(dense, small, x[256:]) < refined


@pytest.mark.parametrize("count", [1, 2, 40])
def test_passes_through_the_whole_network_can_be_left_out_and_do_no_harm(count: int) -> None:
    dense, x = drawn(Encoder(1)), normal(count, 4, 5)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    steps = list(reconstruct(dense, small, chunks_for(dense, x), how=QUICK, together=0))
    assert all(isinstance(step, BlockDone) for step in steps)
    assert not any(parameter.isnan().any() for parameter in small.parameters())
    assert len(list(reconstruct(dense, small, chunks_for(dense, x), how=QUICK, together=3))) > len(steps)
    assert not any(parameter.isnan().any() for parameter in small.parameters())


@pytest.mark.parametrize("count", [15 * 16 + 7, 15 * 16 + 16 + 1])
def test_samples_left_over_spoil_no_step(count: int) -> None:
    """A chunk of its own that nothing is held out of, or of a single sample, whose outputs do not vary."""
    dense, x = drawn(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))), normal(count, 8)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    chunks = chunks_for(dense, x)
    for step in reconstruct(dense, small, chunks, how=QUICK, together=0):
        assert isinstance(step, BlockDone)
    before = error(dense, small, x)
    list(as_one(dense, small, chunks, blocks_of(dense, chunks[0]), 40, floating, 0, chunks))
    assert error(dense, small, x) < 0.97 * before


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), seeds)
def test_what_does_not_vary_is_left_out_of_what_is_compared_within(
    rows: int, width: int, flat: bool, seed: int
) -> None:
    wanted, found = normal(rows, width, seed=seed), normal(rows, width, seed=seed + 1)
    constant = torch.full((3, width), 2.5)
    lost = (wanted - found).square().sum()
    varied = (wanted - wanted.mean(0)).square().sum() if rows > 1 else wanted.square().sum()
    wanted_all, found_all = ([wanted, constant], [found, constant + 1]) if flat else ([wanted], [found])
    torch.testing.assert_close(apart(wanted_all, found_all), lost / varied, rtol=1e-4, atol=0)
    assert apart([constant], [constant + 1]) == 0


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(12, 6), nn.Linear(6, 6), nn.Linear(6, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(self.embed(ids))))


def test_a_weight_that_two_blocks_hold_is_trained_in_none_of_them() -> None:
    """What the head makes of it, the table's block cannot see."""
    dense = drawn(Tied())
    small = copy.deepcopy(dense)
    with torch.no_grad():
        small.body.weight.mul_(0.5)
    chunks = first_samples(dense, [torch.arange(48) % 12], 48, chunk=16)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    list(reconstruct(dense, small, chunks, how=QUICK, together=0))
    assert torch.equal(small.embed.weight, before["embed.weight"])
    assert not torch.equal(small.body.weight, before["body.weight"])
    assert all(parameter.requires_grad for parameter in small.parameters())
    assert all(parameter.grad is None for parameter in small.parameters())


@pytest.mark.parametrize(("lr", "helps"), [(10.0, True), (1e4, False)])
def test_a_rate_that_does_harm_is_lowered_and_given_up_at_last(lr: float, helps: bool) -> None:
    dense, x = drawn(Encoder(1)), normal(256, 4, 5)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))

    def refined(rate: float) -> tuple[nn.Module, list[float]]:
        twin, how = copy.deepcopy(small), Refinement(steps=32, lr=rate)
        steps = reconstruct(dense, twin, chunks_for(dense, x), how=how, together=0)
        return twin, [step.loss for step in steps]

    (found, lost), (_, left) = refined(lr), refined(1e-12)  # which changes nothing
    assert all(one < other for one, other in zip(lost, left, strict=True)) == helps
    same = [torch.equal(a, b) for a, b in zip(found.parameters(), small.parameters(), strict=True)]
    assert all(same) != helps


def test_a_network_that_has_lost_nothing_is_left_alone() -> None:
    """Steps of Adam are as long for the noise of rounding as for an error."""
    dense, x = drawn(Encoder(2)), normal(64, 4, 5)
    same = copy.deepcopy(dense)
    list(reconstruct(dense, same, chunks_for(dense, x), how=QUICK))
    assert error(dense, same, x) == 0


def test_a_mask_as_long_as_a_chunk_is_no_batch() -> None:
    dense, x = drawn(Encoder(1)), normal(32, 16, 5)
    mask = (normal(16, 1, seed=2) > 0).float()
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    whole = Inputs({"x": x, "mask": mask}, (0, None))
    chunks = [whole.at(range(16)), whole.at(range(16, 32))]
    before = error(dense, small, x)
    list(reconstruct(dense, small, chunks, how=QUICK))
    assert error(dense, small, x) < before


def test_the_dense_network_and_modes_and_statistics_stay() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4)).eval()
    x = normal(40, 2, 6, 6)
    small = tenfold.decompose(dense, planned(dense, "1.5x", x[:1])).train()
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    mean = small[1].running_mean.clone()
    list(reconstruct(dense, small, chunks_for(dense, x), how=QUICK))
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())
    assert torch.equal(small[1].running_mean, mean)
    assert small.training
    assert small[1].training
    assert all(parameter.grad is None for parameter in small.parameters())


@pytest.mark.parametrize("stop", [1, 3, 6, 11])  # between blocks, in the passes through the whole network, after all
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, stop: int) -> None:
    dense, x = drawn(Encoder(2)), normal(64, 4, 5)
    chunks, plan = chunks_for(dense, x), planned(dense, "1.8x", x[:1])
    whole, cut, resumed = (tenfold.decompose(dense, plan) for _ in range(3))
    assert len(list(reconstruct(dense, whole, chunks, how=QUICK, together=6))) == 10
    steps = reconstruct(dense, cut, chunks, how=QUICK, together=6, state=tmp_path, run={"plan": "a"})
    for _ in range(stop):
        next(steps, None)
    left = list(reconstruct(dense, resumed, chunks, how=QUICK, together=6, state=tmp_path, run={"plan": "a"}))
    assert len(left) == {1: 9, 3: 7, 6: 6, 11: 0}[stop]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    again = tenfold.decompose(dense, plan)
    others = reconstruct(dense, again, chunks, how=QUICK, together=6, state=tmp_path, run={"plan": "b"})
    assert len(list(others)) == 10  # what another run has kept is not taken


def test_what_was_kept_of_other_networks_is_not_taken(tmp_path: Path) -> None:
    x = normal(64, 4, 5)
    one, other = drawn(Encoder(1)), drawn(Encoder(1), seed=1)
    deeper = drawn(Encoder(2))
    first = tenfold.decompose(one, planned(one, "1.8x", x[:1]))
    list(reconstruct(one, first, chunks_for(one, x), how=QUICK, together=2, state=tmp_path))
    for dense in (other, deeper):
        plan = planned(dense, "1.8x", x[:1])
        alone, beside = tenfold.decompose(dense, plan), tenfold.decompose(dense, plan)
        list(reconstruct(dense, alone, chunks_for(dense, x), how=QUICK, together=2))
        list(reconstruct(dense, beside, chunks_for(dense, x), how=QUICK, together=2, state=tmp_path))
        assert all(torch.equal(value, beside.state_dict()[name]) for name, value in alone.state_dict().items())


@settings(max_examples=30)
@given(st.integers(1, 40), st.sampled_from([0.1, 0.3]))
def test_the_rate_rises_to_its_top_and_falls(steps: int, rise: float) -> None:
    """Torch's own cycle divides by zero where its rise is one step long, as of ten."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, rates = one_cycle(optimiser, steps, rise), []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    top = rates.index(2.0)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0


# ---- distillation
def test_distillation_ends_where_held_out_batches_err_least() -> None:
    dense, x = drawn(Encoder(2)), normal(512, 4, 5)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    held, *batches = [Inputs(part, (0,)) for part in x[:384].split(64)]
    blocks, before = blocks_of(dense, held), error(dense, small, x[384:])

    def distilled(how: Distillation) -> list[StepDone]:
        given = itertools.cycle([[each] for each in batches])
        return list(distil(dense, small, given, how, floating, held=[held], blocks=blocks))

    steps = distilled(Distillation(steps=60, inside=0.5))
    assert len(steps) == 60
    assert error(dense, small, x[384:]) < 0.8 * before
    kept = {name: value.clone() for name, value in small.state_dict().items()}
    distilled(Distillation(steps=10, lr=10.0))  # a rate that only does harm
    assert all(torch.equal(value, kept[name]) for name, value in small.state_dict().items())


@pytest.mark.parametrize(("rates", "again"), [((10.0, 1e-3), 2), ((1e-3, 10.0), 1)])
def test_distillation_that_brings_nothing_is_taken_again(
    rates: tuple[float, float], again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("tenfold.api.reconstruct"), "RATES", rates)
    dense, x = drawn(Encoder(2)), normal(640, 4, 5)
    small = tenfold.decompose(dense, planned(dense, "1.8x", x[:1]))
    known = Unlabelled([Inputs(x[:1], (0,))], floating, ALL, [Inputs(part, (0,)) for part in x.split(64)])
    before = error(dense, small, x)
    assert len(list(distilled(dense, small, known, 30))) == 30 * again
    assert error(dense, small, x) < before
