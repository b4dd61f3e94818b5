"""What people bring: networks that keep, hook, patch and compute, compressed as their dense twins."""

import copy
import functools
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm
from torch.nn.utils import weight_norm as hooked_weight_norm

import tenfold
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, sites, untaken


def full_rank(name: str) -> Row:
    return Row(name, format="svd", ranks=(8,))


def low_rank(name: str) -> Row:
    return Row(name, format="svd", ranks=(2,))


def plan(*rows: Row) -> Plan:
    return Plan({row.name: row for row in rows})


def inputs(seed: int = 0) -> Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))


class Holder:
    """An object of the user's own."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer


class Unregistered(nn.Module):
    """A module that is kept in a list, and so registered nowhere."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


KEEPS: dict[str, tuple[Callable[[nn.Module], Any], Callable[[Any, Tensor], Tensor]]] = {
    "list": (lambda a: [a], lambda kept, x: kept[0](x)),
    "tuple": (lambda a: (1, (a,)), lambda kept, x: kept[1][0](x)),
    "dict": (lambda a: {"a": [a]}, lambda kept, x: kept["a"][0](x)),
    "key of a dict": (lambda a: {a: 1}, lambda kept, x: next(iter(kept))(x)),
    "set": (lambda a: {a}, lambda kept, x: next(iter(kept))(x)),
    "bound method": (lambda a: a.forward, lambda kept, x: kept(x)),
    "partial": (lambda a: functools.partial(a), lambda kept, x: kept(x)),
    "closure": (lambda a: lambda x: a(x), lambda kept, x: kept(x)),
    "default": (lambda a: lambda x, a=a: a(x), lambda kept, x: kept(x)),
    "object": (Holder, lambda kept, x: kept.layer(x)),
    "weak reference": (weakref.ref, lambda kept, x: kept()(x)),
    "unregistered module": (lambda a: [Unregistered(a)], lambda kept, x: kept[0](x)),
}


class Keeping(nn.Module):
    """A network that calls its first layer by way of what it keeps."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.keep, self.use = KEEPS[how]
        object.__setattr__(self, "kept", self.keep(self.a))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.use(self.kept, x).relu())


@pytest.mark.parametrize("how", KEEPS)
def test_what_is_kept_outside_the_tree_runs_in_cores(how: str, tmp_path: Any) -> None:
    model, x = Keeping(how).eval(), inputs()
    before = model(x)
    small = tenfold.decompose(model, plan(low_rank("a"), full_rank("b")))
    twin = copy.deepcopy(model.a)
    twin.weight = nn.Parameter(small.a.weight.in_axes().detach())
    assert torch.allclose(small(x), model.b(twin(x).relu()), atol=1e-5)
    lowered = tenfold.lower(small)
    assert torch.allclose(lowered(x), small(x), atol=1e-5)
    assert torch.equal(model(x), before)  # the argument is untouched
    result = tenfold.compress(model, inputs=x, plan=plan(low_rank("a"), full_rank("b")))
    tenfold.save(result, tmp_path / "out")
    loaded = tenfold.load(tmp_path / "out", model=Keeping(how))
    assert torch.equal(loaded(x), result.model(x))


def test_a_search_for_modules_with_a_weight_finds_as_many_as_before() -> None:
    """A weight in cores answered with a method, and penalties on all weights failed."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8))
    small = tenfold.decompose(model, Plan({name: Row(name, "svd", ranks=(2,)) for name in sites(model)}))
    found = [module.weight.norm() for module in small.modules() if hasattr(module, "weight")]
    assert len(found) == len(model)


def test_nothing_is_measured_on_inputs_with_nan() -> None:
    """All outputs were NaN, left out as masked, and said to be equal: relative error 0.000, cosine 1.000."""
    x = inputs()
    x[0, 0] = torch.nan
    with pytest.raises(TenfoldError, match=r"the inputs \(shape .* float32\) hold NaN"):
        tenfold.compress(nn.Sequential(nn.Linear(8, 8)), inputs=x, ranks=2)


def test_outputs_without_a_finite_number_are_not_said_to_be_equal() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Threshold(torch.inf, torch.nan))
    result = tenfold.compress(model, inputs=inputs(), ranks=2)
    assert any("cannot be compared with the dense network's" in each for each in result.words)


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (nn.Linear(8, 8), torch.ones(5, 8), "data is .*, where a tenfold.Data or None belongs"),
        ({"weight": torch.ones(8, 8)}, None, "model is .*, where a torch.nn.Module belongs"),
    ],
)
def test_what_stands_in_the_wrong_place_is_said(model: Any, data: Any, words: str) -> None:
    with pytest.raises(TenfoldError, match=words):
        tenfold.compress(model, data, ranks=2)


@pytest.mark.parametrize("layer", [nn.LazyLinear(8), nn.Linear(8, 8, device="meta")], ids=["lazy", "meta"])
def test_a_weight_without_numbers_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(TenfoldError, match=r"parameter '0.weight' has no numbers yet; run the network on an input"):
        tenfold.compress(nn.Sequential(layer), inputs=inputs(), ranks=2)


class Skips(nn.Module):
    """A network that does not call all of its layers: one is for training, of another it reads the weight only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.read, self.aux = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(self.a(x), self.read.weight, self.read.bias)
        return self.aux(y) if self.training else y


@pytest.mark.parametrize("asked", [{"params": "2.2x", "max_error": 1.0}, {"ranks": 2}, {"energy": 0.4}])
def test_layers_that_are_not_called_are_planned_and_say_so(asked: dict[str, Any]) -> None:
    """They stayed dense, at any budget, with a reason that was not theirs."""
    result = tenfold.compress(Skips(), inputs=inputs(), format="svd", **asked)
    rows = result.plan.rows
    assert not any(row.is_dense for row in rows.values())
    assert ["never called on these inputs" in row.reason for row in rows.values()] == [False, True, True]
    assert result.report.final.params == sum(parameter.numel() for parameter in result.model.parameters())
    result.model.train()(inputs()).sum().backward()
    assert all(parameter.grad is not None for parameter in result.model.parameters())


def test_where_only_multiply_adds_count_they_stay_dense_for_that_reason() -> None:
    rows = tenfold.compress(Skips(), inputs=inputs(), macs="1.5x", format="svd").plan.rows
    assert [row.is_dense for row in rows.values()] == [False, True, True]
    assert rows["aux"].reason == "left dense: nothing smaller within the errors allowed saves any of the budgets"


class TiesInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(12, 8), nn.Linear(8, 12, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        self.out.weight = self.words.weight
        return self.out(self.words(ids))


def test_a_forward_that_exchanges_parameters_is_refused() -> None:
    """It threw the cores out, and a report counted what no longer ran."""
    model, ids = TiesInForward(), torch.arange(12).reshape(3, 4)
    own = model.out.weight
    with pytest.raises(TenfoldError, match=r"layer 'out': the network's forward puts another parameter in .* 'weight'"):
        tenfold.compress(model, inputs=ids, params="9999x")  # refused before any planning
    assert model.out.weight is own
    model.out.weight = model.words.weight
    tenfold.compress(nn.Sequential(model.words, model.out), inputs=ids, params="1.2x", max_error=1.0)


class HoldsParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.kept = [self.a.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) @ self.kept[0]


def test_a_parameter_kept_outside_the_tree_stays_dense_with_the_reason() -> None:
    assert sites(HoldsParameter())["a"].obstacle == (
        "'kept' holds its parameter, too, and would go on with the dense one"
    )
    with pytest.raises(TenfoldError, match=r"layer 'a': 'kept' holds its parameter, too, .*; leave the layer dense"):
        tenfold.decompose(HoldsParameter(), plan(low_rank("a")))


class Applies(nn.Module):
    """A network that has its layer's weight once more."""

    def __init__(self, how: Callable[[nn.Module, nn.Linear], Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.again = how(self, self.a)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) + self.again(x)


def in_a_closure(owner: nn.Module, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = layer.weight
    return lambda x: nn.functional.linear(x, weight)


def as_a_view_in_a_closure(owner: nn.Module, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = layer.weight.detach()[2:6]
    return lambda x: nn.functional.linear(x, weight).sum(1, keepdim=True)


def as_a_view_in_a_list(owner: nn.Module, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    owner.kept = [layer.weight.detach().T]  # type: ignore[assignment]
    return lambda x: x @ owner.kept[0]  # type: ignore[index]


@pytest.mark.parametrize("how", [in_a_closure, as_a_view_in_a_closure, as_a_view_in_a_list])
def test_a_weight_that_is_also_seen_from_elsewhere_stays_dense_and_is_copied_along(
    how: Callable[[nn.Module, nn.Linear], Callable[[Tensor], Tensor]], tmp_path: Path
) -> None:
    """A closure over a parameter was left with the original's: loaded, other weights ran than were saved."""
    model, x = Applies(how), inputs()
    result = tenfold.compress(model, inputs=x, params="1.2x", format="svd", max_error=1.0)
    assert result.plan.rows["a"].is_dense
    assert "holds its parameter, too, and would go on with the dense one" in result.plan.rows["a"].reason
    assert not result.plan.rows["b"].is_dense
    copy = result.model(x)
    with torch.no_grad():
        model.a.weight.zero_()
    assert torch.equal(result.model(x), copy)
    tenfold.save(result, tmp_path / "out")
    assert torch.equal(tenfold.load(tmp_path / "out", model=Applies(how))(x), copy)


def test_a_buffer_that_looks_into_a_weight_keeps_it_dense() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model.register_buffer("alias", model[0].weight.detach()[2:])
    model.register_buffer("copy", model[1].weight.detach().clone())
    assert [site.obstacle is None for site in sites(model).values()] == [False, True]


@pytest.mark.parametrize("part", [slice(None), slice(2, 6)])
def test_so_does_an_array(part: slice) -> None:
    """`self.w = self.a.weight.detach().numpy()`: the layer was compressed, and the loaded network ran other numbers."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].seen = model[0].weight.detach().numpy()[part]
    model.copy = model[1].weight.detach().numpy().copy()
    model.words = np.array(["a"])
    assert [site.obstacle is None for site in sites(model).values()] == [False, True]


class Global(nn.Module):
    """A network that keeps its layer where nobody can find it."""

    kept: dict[str, nn.Module] = {}  # noqa: RUF012  (the fault that is tested)

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)
        Global.kept["a"] = self.a

    def forward(self, x: Tensor) -> Tensor:
        return Global.kept["a"](x)


def test_a_layer_that_is_not_called_any_more_is_an_error() -> None:
    asked = {"plan": plan(low_rank("a"))}, {"params": "1.2x", "max_error": 1.0}
    for each in asked:
        with pytest.raises(TenfoldError, match="layer 'a': calls in one forward fell from 1 to 0"):
            tenfold.compress(Global(), inputs=inputs(), **each)  # type: ignore[arg-type]


def test_modules_are_listed_once_however_many_there_are() -> None:
    """They were listed for every attribute of every module: 3.4 s for the sites of 48 encoder layers."""

    class Counted(nn.Sequential):
        lists = 0

        def modules(self) -> Iterator[nn.Module]:
            self.lists += 1
            return super().modules()

    found = []
    for count in (1, 20):
        model = Counted(*(nn.Linear(2, 2) for _ in range(count)))
        assert len(sites(model)) == count
        found.append(model.lists)
    assert found[0] == found[1]


# ---- what hangs on an instance
def hooked(layer: nn.Linear) -> None:
    layer.register_forward_hook(lambda module, args, output: output * 2)


def pre_hooked(layer: nn.Linear) -> None:
    layer.register_forward_pre_hook(lambda module, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True)


def gradient_hooked(layer: nn.Linear) -> None:
    layer.register_full_backward_hook(lambda module, given, out: tuple(None if g is None else 3 * g for g in given))


def attributed(layer: nn.Linear) -> None:
    layer.i, layer.f, layer.type = 3, [-1, 2], "Linear"  # type: ignore[assignment]


HANGS = (hooked, pre_hooked, gradient_hooked, attributed)


@pytest.mark.parametrize("hang", HANGS)
@pytest.mark.parametrize("form", ["cores", "lowered"])
def test_what_hangs_on_a_layer_goes_along(hang: Callable[[nn.Linear], None], form: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double().eval()
    hang(model[0])  # type: ignore[arg-type]
    assert sites(model)["0"].obstacle is None
    small = tenfold.decompose(model, plan(full_rank("0")))
    small = tenfold.lower(small) if form == "lowered" else small
    x = inputs().double().requires_grad_()
    found, wanted = small(x), model(x)
    assert torch.allclose(found, wanted, atol=1e-12)
    (a,), (b,) = torch.autograd.grad(found.sum(), x), torch.autograd.grad(wanted.sum(), x)
    assert torch.allclose(a, b, atol=1e-12)
    if hang is attributed:
        assert (small[0].i, small[0].f, small[0].type) == (3, [-1, 2], "Linear")


def patched(layer: nn.Linear) -> None:
    layer.forward = lambda x: nn.functional.linear(x, 2 * layer.weight)  # type: ignore[method-assign]


def in_the_way(layer: nn.Linear) -> None:
    layer.chain = "mine"  # type: ignore[assignment]


def buffered(layer: nn.Linear) -> None:
    layer.register_buffer("gain", torch.ones(()))


def with_child(layer: nn.Linear) -> None:
    layer.adapter = nn.Linear(8, 8)


def renaming(layer: nn.Linear) -> None:
    layer.register_state_dict_post_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("hang", "words"),
    [
        (patched, "its forward was replaced on the instance"),
        (in_the_way, "attribute 'chain', a name that a compressed layer needs for itself"),
        (buffered, "it was given a buffer 'gain'"),
        (with_child, "it was given a module 'adapter'"),
        (renaming, "it has hooks on its state dict"),
    ],
)
def test_what_cannot_go_along_leaves_the_layer_dense(hang: Callable[[nn.Linear], None], words: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval()
    hang(model[0])  # type: ignore[arg-type]
    assert words in (sites(model)["0"].obstacle or "")
    with pytest.raises(TenfoldError, match=f"layer '0': .*{words}.*; leave the layer dense"):
        tenfold.decompose(model, plan(low_rank("0")))
    profile = tenfold.inspect(model, inputs())
    found = tenfold.plan(model, profile, params="1.1x", format="svd")
    assert found.rows["0"].is_dense
    assert words in found.rows["0"].reason


# ---- weights computed from others
def masked(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 0.5)


def normed_by_hook(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own deprecation; networks still have it
        return hooked_weight_norm(layer)


COMPUTED = [parametrizations.weight_norm, parametrizations.spectral_norm, spectral_norm, masked, normed_by_hook]


@pytest.mark.parametrize("wrap", COMPUTED)
@pytest.mark.parametrize("build", [lambda: nn.Linear(8, 8), lambda: nn.Conv1d(8, 8, 1)])
def test_a_computed_weight_is_taken_as_it_is_applied(
    wrap: Callable[[nn.Module], nn.Module], build: Callable[[], nn.Module]
) -> None:
    model = nn.Sequential(wrap(build()), nn.Tanh()).double().eval()
    x = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted, state = model(x).detach(), {name: value.clone() for name, value in model.state_dict().items()}
    small = tenfold.decompose(model, plan(full_rank("0")))
    assert torch.allclose(small(x), wanted, atol=1e-12)
    assert torch.allclose(tenfold.lower(small)(x), wanted, atol=1e-12)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(name.startswith("0.parametrizations") for name in small.state_dict())


# ---- every weight has a row
class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class Named(nn.Linear):
    """The same layer with another initialisation."""

    def reset_parameters(self) -> None:
        nn.init.eye_(self.weight)
        nn.init.zeros_(self.bias)


class Helping(nn.Linear):
    def half(self, x: Tensor) -> Tensor:
        return self(x) / 2


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


def whole_numbers() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)
    return layer


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Scaled(8, 8), "Scaled is a Linear with its own forward"),
        (lambda: Helping(8, 8), "Helping is a Linear with its own half"),
        (Positions, "no kind of layer takes the weights of Positions"),
        (lambda: nn.Bilinear(4, 4, 8), "no kind of layer takes the weights of Bilinear"),
        (lambda: nn.Linear(8, 8, dtype=torch.complex64), r"its numbers are complex \(complex64\)"),
        (whole_numbers, r"its numbers are whole \(int8\)"),
        (lambda: nn.Embedding(9, 8, scale_grad_by_freq=True), "its gradients are scaled by the frequency of a row"),
        (lambda: parametrizations.orthogonal(nn.LSTM(8, 8), "weight_hh_l0"), "'weight_hh_l0' is computed from"),
    ],
)
def test_a_weight_that_is_not_taken_has_a_row_with_the_reason(build: Callable[[], nn.Module], reason: str) -> None:
    model = nn.Sequential(build(), nn.Linear(8, 8))
    rows = untaken(model)
    assert {row.partition(".")[0] for row in rows} == {"0"}
    profile = tenfold.inspect(model)
    found = tenfold.plan(model, profile, params="1.05x", format="svd")
    for row in rows:
        with pytest.raises(TenfoldError, match=f"layer '{row}': .*{reason}.*; leave the layer dense"):
            tenfold.decompose(model, plan(low_rank(row)))
        assert found.rows[row].is_dense
    assert list(tenfold.decompose(model, found).state_dict())  # the plan's own dense rows are no error


def test_a_subclass_that_runs_as_its_base_is_taken() -> None:
    model = nn.Sequential(Named(8, 8), nn.Linear(8, 8)).double()
    assert list(sites(model)) == ["0", "1"]
    assert untaken(model) == {}
    small = tenfold.decompose(model, plan(full_rank("0")))
    assert torch.allclose(small(inputs().double()), model(inputs().double()), atol=1e-12)


def test_float8_is_decomposed_from_its_values() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    small = tenfold.decompose(model, plan(full_rank("0")))
    found = small[0].weight.in_axes().float()
    assert torch.allclose(found, model[0].weight.float(), atol=0.02)
    assert small[0].weight.dtype == torch.bfloat16


# ---- wrapped networks, and numbers that are none
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda model: torch.compile(nn.DataParallel(model))])
def test_a_wrapped_network_is_taken_out_of_its_wrapping(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)).eval()
    plain = tenfold.compress(model, inputs=inputs(), params="1.2x", format="svd")
    found = tenfold.compress(wrap(model), inputs=inputs(), params="1.2x", format="svd")
    assert list(found.model.state_dict()) == list(plain.model.state_dict())
    assert tenfold.inspect(wrap(model)).layers.keys() == tenfold.inspect(model).layers.keys()


def broken(where: str, value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
    with torch.no_grad():
        model.get_submodule("2").register_buffer("mask", torch.zeros(3))
        (model.state_dict()[where]).view(-1)[1] = value
    return model


@pytest.mark.parametrize("where", ["0.weight", "1.running_mean", "1.weight", "2.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_with_numbers_that_are_none_is_refused_by_name(where: str, value: float) -> None:
    words = rf"'{where}' has 1 of (64|8) numbers that are NaN or infinite"
    model = broken(where, value)
    with pytest.raises(TenfoldError, match=words):
        tenfold.compress(model, inputs=inputs(), params="1.2x", exclude=["0"])
    with pytest.raises(TenfoldError, match=words):
        tenfold.plan(model, tenfold.inspect(model), params="1.2x")
    with pytest.raises(TenfoldError, match=words):
        tenfold.decompose(model, plan(low_rank("0")))


def test_minus_infinity_in_a_mask_is_no_fault() -> None:
    tenfold.decompose(broken("2.mask", -float("inf")), plan(low_rank("0")))


class Remembering(nn.Module):
    """A network that keeps an activation, with its history."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.a(x)
        return self.last


def test_a_network_that_keeps_an_activation_is_copied() -> None:
    model = Remembering()
    model(inputs())
    assert model.last is not None
    small = tenfold.decompose(model, plan(low_rank("a")))
    assert small(inputs()).shape == (5, 8)
    assert model.last.grad_fn is not None


def test_a_network_with_an_open_file_is_refused_in_a_sentence(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    with (tmp_path / "log").open("w") as model.log, pytest.raises(TenfoldError, match="Sequential cannot be copied"):  # type: ignore[assignment]
        tenfold.decompose(model, plan(low_rank("0")))
