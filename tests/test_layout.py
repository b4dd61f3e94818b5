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
from tenfold.measure import Timing, in_fastest_layout, weights_hash
from tenfold.models.cifar_resnet import CifarResNet
from tenfold.protocols import TenfoldError
from tenfold.report import compare
from tenfold.surgery import Plan, Row, copied, laid_out
from tenfold.surgery.layout import LAYOUTS, layout_of

LAST = "channels_last"


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
    model(x, more={"ids": ids, "image": x, "word": "a"})
    assert isinstance(seen[0], Tensor)
    assert is_last(seen[0])
    more = seen[1]
    assert isinstance(more, dict)
    assert more["ids"] is ids
    assert is_last(more["image"])
    assert more["word"] == "a"


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
