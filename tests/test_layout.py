"""How images lie in memory: turned once at the door, held to the end, and nothing else changed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from tenfold import measure
from tenfold.inputs import inputs_for
from tenfold.measure import Timing, in_fastest_layout, weights_hash
from tenfold.measure.layouts import runs
from tenfold.models.cifar_resnet import CifarResNet
from tenfold.protocols import TenfoldError
from tenfold.report import compare
from tenfold.surgery import Plan, Row, copied, laid_out
from tenfold.surgery.layout import LAYOUTS, layout_of

LAST = "channels_last"
SCRIPTING = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def convolutions(dims: int, seed: int = 0) -> nn.Module:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    torch.manual_seed(seed)
    return nn.Sequential(
        conv(4, 12, 3, padding=1), nn.ReLU(), conv(12, 12, 3, stride=2), nn.ReLU(), conv(12, 5, 1)
    ).eval()


def is_last(tensor: Tensor) -> bool:
    form = LAYOUTS[LAST].get(tensor.ndim)
    return form is not None and tensor.is_contiguous(memory_format=form)


def turned(model: nn.Module, x: Tensor) -> list[str]:
    """The modules that give what does not lie as the layout wants it."""
    found: list[str] = []

    def note(name: str, y: object) -> None:
        if isinstance(y, Tensor) and y.ndim > 3 and not is_last(y):
            found.append(name)

    handles = [m.register_forward_hook(lambda _, __, y, n=n: note(n, y)) for n, m in model.named_modules()]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["svd", "tt", "cp", "tucker2", "ht2"]), st.integers(1, 3), st.integers(0, 99))
def test_a_layout_changes_no_output_and_no_weight(form: str, dims: int, seed: int) -> None:
    model, x = convolutions(dims, seed), normal(2, 4, *[7] * dims, seed=seed)
    plan = tenfold.plan(model, tenfold.inspect(model, x[:1]), params="1.2x", format=form)
    small = tenfold.decompose(model, plan)
    other = laid_out(copied(small), LAST)
    with torch.no_grad():
        wanted = small(x)
        for each in (other, tenfold.lower(other), laid_out(copied(other), "contiguous")):
            assert torch.dist(each(x), wanted) <= 1e-5 * wanted.norm()
    assert weights_hash(other) == weights_hash(small)
    assert layout_of(tenfold.lower(other)) is None  # the kernels turn what comes in


@pytest.mark.parametrize("form", ["svd", "tucker2", "ht2"])
def test_it_is_held_from_the_first_layer_to_the_last(form: str) -> None:
    model, x = CifarResNet(20).eval(), normal(2, 3, 32, 32)
    plan = tenfold.plan(model, tenfold.inspect(model, x[:1]), params="2x", format=form)
    small = tenfold.decompose(model, replace(plan, layout=LAST))
    assert turned(small, x) == turned(tenfold.lower(small), x) == []
    assert turned(laid_out(copied(small), "contiguous"), x) != []


def test_a_network_has_one_door_and_gives_it_up() -> None:
    model = laid_out(laid_out(convolutions(2), LAST), LAST)
    assert len(model._forward_pre_hooks) == 1
    model = laid_out(model, "contiguous")
    assert not model._forward_pre_hooks
    assert not model._forward_pre_hooks_with_kwargs
    assert all(p.is_contiguous() for p in model.parameters())
    assert laid_out(model, None) is model


def test_what_lies_otherwise_by_its_owners_will_stays_so() -> None:
    model = convolutions(2).to(memory_format=torch.channels_last)
    assert all(is_last(p) for p in tenfold.lower(model).parameters() if p.ndim == 4)


def test_what_is_no_image_goes_through_the_door_as_it_is() -> None:
    seen: list[object] = []

    class Taking(nn.Module):
        def forward(self, x: Tensor, *, more: dict[str, object]) -> Tensor:
            seen.extend([x, more])
            return x

    model, ids, x = laid_out(Taking(), LAST), torch.ones(2, 3, 4, 4).long(), normal(2, 3, 4, 4)
    more: dict[str, object] = {"image": x, "word": "a"}
    model(x, more=more)
    model(ids, more=more)
    assert isinstance(seen[0], Tensor)
    assert is_last(seen[0])
    assert seen[1] is seen[3] is more
    assert seen[2] is ids


def test_a_plan_keeps_it_and_a_folder_too(tmp_path: Path) -> None:
    model, x = convolutions(2), normal(2, 4, 7, 7)
    plan = Plan({"0": Row("0", "svd", ranks=(3,))}, layout=LAST)
    assert Plan.from_yaml(plan.to_yaml()) == plan
    result = tenfold.compress(model, inputs=x, plan=plan)
    assert result.plan.layout == LAST
    tenfold.save(result, tmp_path / "out")
    loaded = tenfold.load(tmp_path / "out", model=model)
    assert layout_of(loaded) == LAST
    assert turned(loaded, x) == []
    with torch.no_grad():
        assert torch.equal(loaded(x), result.model(x))
    with pytest.raises(TenfoldError, match="layout"):
        Plan.from_yaml(plan.to_yaml().replace(LAST, "sideways"))


class Viewing(nn.Module):
    """Asks how a map, or a kernel, lies."""

    def __init__(self, what: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.end = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3), nn.Linear(32 * 36, 10)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(self.one(x).relu())
        if self.what == "kernel":
            y = y * self.one.weight.view(16, -1).std()
        return self.end(y.view(y.size(0), -1) if self.what == "map" else y.flatten(1))


class Writing(nn.Module):
    """Keeps what it has seen where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor, seen: dict[str, Tensor], buffer: Tensor) -> Tensor:
        seen["last"] = x
        buffer.add_(1)
        return self.conv(x)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which images are always faster with their channels last."""

    def timings(networks: dict[str, nn.Module], inputs: object, **_: object) -> dict[str, Timing]:
        del inputs
        return {name: Timing((0.5 if name == LAST else 1.0,) * 3, 1) for name in networks}

    monkeypatch.setattr("tenfold.measure.layouts.forward_timings", timings)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("what", "layout"), [("map", "contiguous"), ("kernel", "contiguous"), ("nothing", LAST)])
def test_a_network_that_asks_how_its_maps_lie_keeps_them(what: str, layout: str) -> None:
    model, x = Viewing(what).eval(), normal(4, 3, 8, 8)
    for asked in ({}, {"batch": 4}):
        result = tenfold.compress(model, inputs=x, params="1.5x", format="svd", **asked)
        assert result.plan.layout == layout
        assert layout_of(result.model) == (LAST if layout == LAST else None)
        result.model(normal(2, 3, 8, 8))


@pytest.mark.usefixtures("eager")
def test_what_a_network_is_given_to_write_to_is_written_to() -> None:
    model, x = Writing().eval(), normal(2, 4, 8, 8)
    assert in_fastest_layout(model, (x, {}, torch.zeros(1, 3, 2, 2)))[1] == "contiguous"
    seen: dict[str, Tensor] = {}
    laid_out(model, LAST)(x, seen, torch.zeros(3))
    assert torch.equal(seen["last"], x)


@SCRIPTING
@pytest.mark.usefixtures("eager")
def test_a_scripted_part_cannot_be_looked_into() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), torch.jit.script(nn.ReLU()))
    assert in_fastest_layout(model.eval(), normal(2, 3, 8, 8))[1] == "contiguous"


def test_a_layout_in_which_a_network_does_not_run_is_none() -> None:
    model, given = Viewing("map").eval(), inputs_for(convolutions(2), normal(2, 4, 8, 8))
    given = replace(given, value=normal(2, 3, 8, 8))
    assert runs(model, "contiguous", given)
    assert not runs(model, LAST, given)
    with pytest.raises(TenfoldError, match="cannot run"):
        runs(model, "contiguous", replace(given, value=normal(2, 5, 8, 8)))


def test_it_is_compiled_as_a_whole() -> None:
    model, x = laid_out(convolutions(2), LAST), normal(2, 4, 7, 7)
    with torch.no_grad():
        assert torch.allclose(torch.compile(model, backend="eager", fullgraph=True)(x), model(x), atol=1e-6)


@SCRIPTING
def test_lowering_takes_inner_doors_away() -> None:
    plain = tenfold.lower(nn.Sequential(laid_out(convolutions(2), LAST), nn.Softmax(1)))
    assert all(layout_of(module) is None for module in plain.modules())
    assert all(is_last(p) for p in plain.parameters() if p.ndim == 4)
    torch.jit.script(plain)


def test_a_kernel_that_something_looks_into_stays_where_it_is() -> None:
    model = convolutions(2)
    model.register_buffer("look", model[0].weight.detach().view(12, -1))
    where = model[0].weight.data_ptr()
    laid_out(model, LAST)
    assert model[0].weight.data_ptr() == where
    assert is_last(model[2].weight)


def test_the_clock_chooses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, seconds = convolutions(2), normal(2, 4, 7, 7), {"contiguous": 1.0, LAST: 0.9}

    def timings(networks: dict[str, nn.Module], inputs: object, **_: object) -> dict[str, Timing]:
        del inputs
        return {name: Timing((seconds.get(name, 2.0),) * 3, 1) for name in networks}

    monkeypatch.setattr("tenfold.measure.layouts.forward_timings", timings)
    monkeypatch.setattr(measure, "forward_timings", timings)
    found, layout = in_fastest_layout(model, x)
    assert (layout, layout_of(found), layout_of(model)) == (LAST, LAST, None)
    assert tenfold.compress(model, inputs=x, params="1.5x", format="svd").plan.layout == LAST
    measured = compare({"dense": model, "small": model}, x, reference="dense")
    assert (measured["dense"].layout, measured["small"].layout) == (LAST, "contiguous")
    seconds[LAST] = 0.99  # not clearly less
    assert in_fastest_layout(model, x)[1] == "contiguous"
    assert tenfold.compress(model, inputs=x, params="1.5x", format="svd").plan.layout == "contiguous"
    assert in_fastest_layout(nn.Linear(4, 4), x)[1] == "contiguous"
