"""What people bring, one row each: taken at full rank it is its dense twin, in cores, lowered and loaded; or why not.

`python tests/test_brought.py > docs/brought.md` writes the page that a test compares.
"""

import functools
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import tenfold
from tenfold.formats import format_named
from tenfold.inputs import call, inputs_for, tensors_in
from tenfold.protocols import Data, TenfoldError
from tenfold.surgery import Plan, Row, sites, untaken, unwrapped
from tenfold.tasks import Objective, Running
from test_inputs import BRINGS

PAGE = Path(__file__).parent.parent / "docs" / "brought.md"
LIMIT = 1e-5  # of the largest output, in float32


@dataclass(frozen=True)
class Brought:
    """A network and what it is given."""

    model: nn.Module
    inputs: Any


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Keeping(nn.Module):
    """A network that calls its layer by way of something that it keeps."""

    def __init__(self, keep: Callable[[nn.Module], Any], use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.use = nn.Linear(8, 8), use
        object.__setattr__(self, "kept", keep(self.fc))

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.kept, x)


def kept(keep: Callable[[nn.Module], Any], use: Callable[[Any, Tensor], Tensor]) -> Callable[[], Brought]:
    return lambda: Brought(Keeping(keep, use), features(5, 8))


class Global(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        globals()["_OUT_OF_SIGHT"] = self.fc

    def forward(self, x: Tensor) -> Tensor:
        return globals()["_OUT_OF_SIGHT"](x)


def hung(hang: Callable[[nn.Linear], Any]) -> Callable[[], Brought]:
    def build() -> Brought:
        layer = nn.Linear(8, 8)
        hang(layer)
        return Brought(nn.Sequential(layer, nn.Tanh()), features(5, 8))

    return build


def patch(layer: nn.Linear) -> None:
    layer.forward = lambda x: nn.functional.linear(x, 2 * layer.weight)  # type: ignore[method-assign]


def hold_parameter(layer: nn.Linear) -> list[nn.Parameter]:
    return [layer.weight]


def applied(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = layer.weight
    return lambda x: x @ weight.T


def layer(build: Callable[[], nn.Module], *shape: int) -> Callable[[], Brought]:
    return lambda: Brought(nn.Sequential(build()), features(*(shape or (5, 8))))


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Drawn(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.table = nn.Linear(8, 8), nn.Parameter(torch.ones(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.table


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_experts, self.weight = 2, nn.Parameter(features(2, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nd,eod->no", x, self.weight)


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.forward(features(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.fc(x)
        return self.last


class Reading(nn.Module):
    """A network that reads its layer's weight, as half of transformers' files do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.to(self.fc.weight.dtype), self.fc.weight) + self.fc(x)


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 8)
        self.fc.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.linear(x, self.fc.weight / 127, self.fc.bias))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(8, 8, dtype=torch.complex64), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x.to(torch.complex64)).real)


def lost() -> nn.Module:
    result = nn.Linear(8, 8)
    result.weight.data[0, 0] = float("nan")
    return result


def compiled() -> Brought:
    return Brought(torch.compile(nn.Sequential(nn.Linear(8, 8))), features(5, 8))  # type: ignore[arg-type]


ROWS: Mapping[str, Mapping[str, Callable[[], Brought]]] = {
    "Layers that are kept outside the module tree": {
        "`self.order = [self.fc]`": kept(lambda fc: [fc], lambda held, x: held[0](x)),
        "a dict, a tuple in it": kept(lambda fc: {"a": (fc,)}, lambda held, x: held["a"][0](x)),
        "a bound method, `self.run = self.fc.forward`": kept(lambda fc: fc.forward, lambda held, x: held(x)),
        "a partial": kept(functools.partial, lambda held, x: held(x)),
        "a closure, `lambda x: fc(x)`": kept(lambda fc: lambda x: fc(x), lambda held, x: held(x)),
        "a weak reference": kept(weakref.ref, lambda held, x: held()(x)),
        "its parameter in a list": kept(hold_parameter, lambda held, x: x @ held[0].T),
        "its parameter in a closure": kept(applied, lambda held, x: held(x)),
        "a part of its weight": kept(lambda fc: fc.weight.detach()[:4], lambda held, x: x @ held.T),
        "a global variable": lambda: Brought(Global(), features(5, 8)),
    },
    "What hangs on a layer": {
        "a forward hook": hung(lambda fc: fc.register_forward_hook(lambda m, args, y: 2 * y)),
        "a forward pre-hook": hung(lambda fc: fc.register_forward_pre_hook(lambda m, args: (args[0] + 1,))),
        "attributes, `m.i = 3`": hung(lambda fc: setattr(fc, "i", 3)),
        "an attribute that hides a method of all modules, `m.type = 'fc'`": hung(lambda fc: setattr(fc, "type", "fc")),
        "an attribute that hides a method of compressed layers": hung(lambda fc: setattr(fc, "lower", 3)),
        "a `forward` patched on the instance": hung(patch),
        "a hook on the state dict": hung(lambda fc: fc.register_state_dict_post_hook(lambda *_: None)),
        "a buffer": hung(lambda fc: fc.register_buffer("gain", torch.ones(1))),
    },
    "Weights of every kind": {
        "a subclass that only draws its weights otherwise": layer(lambda: Drawn(8, 8)),
        "a subclass with a forward of its own": layer(lambda: Scaled(8, 8)),
        "`weight_norm`": layer(lambda: parametrizations.weight_norm(nn.Linear(8, 8))),
        "`spectral_norm`": layer(lambda: parametrizations.spectral_norm(nn.Linear(8, 8))),
        "a pruned mask": layer(lambda: prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5)),
        "a parameter that no layer holds": lambda: Brought(Table(), features(5, 8)),
        "experts in one parameter (n, o, i)": lambda: Brought(Mixture(), features(5, 8)),
        "whole numbers (int8)": layer(Quantised),
        "complex numbers": layer(Complex),
        "NaN": layer(lost),
        "a weight that the network reads, `self.fc.weight`": lambda: Brought(Reading(), features(5, 8)),
    },
    "Networks of every kind": {
        "an activation that is kept": lambda: Brought(Remembering(), features(5, 8)),
        "`torch.compile`": compiled,
        "`DataParallel`": lambda: Brought(nn.DataParallel(nn.Sequential(nn.Linear(8, 8))), features(5, 8)),
    },
}


def understood(name: str) -> str:
    """How many samples are seen in inputs, and what they share."""
    build, value, _, _, _ = BRINGS[name]
    found = inputs_for(build().eval(), value)
    if found.note:
        return "one sample, and the report says so"
    shared = sum(dim is None for dim in found.dims)
    return f"{found.size} samples" + (f"; parts that all of them share: {shared}" if shared else "")


def judged(outputs: Tensor, targets: Tensor, task: str = "classification") -> str:
    """What a score says of outputs and targets."""
    running = Running(Objective.of(Data([], [], [], [], task=task)))
    try:
        running.update(outputs, (None, targets))
        return f"{running.score.name} {running.compute():.1f}"
    except TenfoldError as error:
        return f"refused: {error}"


def classes(*shape: int) -> Tensor:
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(0))


SAID: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "Inputs of every kind": {name: functools.partial(understood, name) for name in BRINGS},
    "Scores": {
        "classes (n, c) and targets (n,)": lambda: judged(features(8, 2), classes(8)),
        "pixels: (n, 2, h, w) and (n, h, w)": lambda: judged(features(4, 2, 6, 6), classes(4, 6, 6)),
        "the same, `task='segmentation'`": lambda: judged(features(4, 2, 6, 6), classes(4, 6, 6), "segmentation"),
        "one-hot targets (n, c)": lambda: judged(features(8, 2), nn.functional.one_hot(classes(8), 2)),
        "targets (n, 1)": lambda: judged(features(8, 2), classes(8, 1)),
        "sequences: (n, t, c) and (n, t)": lambda: judged(features(4, 5, 2), classes(4, 5)),
        "the same, `task='tokens'`": lambda: judged(features(4, 5, 2), classes(4, 5), "tokens"),
        "the same, `task='language'`": lambda: judged(features(4, 5, 2), classes(4, 5), "language"),
    },
}
EVERY = [(part, name) for rows in (ROWS, SAID) for part in rows for name in rows[part]]


def outcome(build: Callable[[], Brought]) -> str:
    """What happens: in cores; dense, or refused, and why. AssertionError where it is neither its twin nor refused."""
    torch.manual_seed(0)
    given = build()
    model = given.model.eval()
    try:
        free = {name: site for name, site in sites(unwrapped(model)).items() if site.obstacle is None}
        plan = Plan({name: Row(name, "svd", ranks=full(site.axes)) for name, site in free.items()})
        result = tenfold.compress(model, inputs=given.inputs, plan=plan)
    except TenfoldError as error:
        return f"refused: {error}"
    with torch.no_grad():
        wanted = flat(call(model, given.inputs))
        assert_near(flat(call(result.model, given.inputs)), wanted)
        assert_near(flat(call(tenfold.lower(result.model), given.inputs)), wanted)
        with tempfile.TemporaryDirectory() as folder:
            tenfold.save(result, Path(folder) / "out")
            loaded = tenfold.load(Path(folder) / "out", model=build().model.eval())
        assert torch.equal(flat(call(loaded, given.inputs)), flat(call(result.model, given.inputs)))
    stays = {row.reason for row in untaken(unwrapped(model)).values()}
    stays |= {str(site.obstacle) for site in sites(unwrapped(model)).values() if site.obstacle is not None}
    words = ["in cores"] if free else []
    return "; ".join([*words, *(f"dense: {reason}" for reason in sorted(stays))])


def full(axes: Mapping[str, int]) -> tuple[int, ...]:
    return format_named("svd").network(axes).ranks


def flat(outputs: Any) -> Tensor:
    return torch.cat([x.flatten() for x in tensors_in(outputs) if x.is_floating_point()])


def assert_near(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).abs().max() <= LIMIT * wanted.abs().max()


@functools.cache
def cell(part: str, name: str) -> str:
    return SAID[part][name]() if part in SAID else outcome(ROWS[part][name])


# ---- the page
INTRODUCTION = """\
# What you bring, and what happens

Every row is a network that people have, compressed at full rank. *In cores*: its outputs are those of the dense one,
in cores, lowered, and loaded from its folder. *Dense*: the layer stays as it is, for this reason, and the rest of the
network goes on. *Refused*: this sentence, before any work. Of inputs the page says which samples are seen in them, of
scores what they say.
"""
COMMAND = """\
Written by the tests that hold it up:

```bash
python tests/test_brought.py > docs/brought.md
```
"""


def page() -> str:
    """The table as a page."""
    parts = [INTRODUCTION]
    for part, rows in {**ROWS, **SAID}.items():
        lines = [f"| {name} | {cell(part, name)} |" for name in rows]
        parts.append("\n".join([f"## {part}", "", "| what | happens |", "|---|---|", *lines, ""]))
    return "\n".join([*parts, COMMAND])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(("part", "name"), EVERY)
def test_what_is_brought_is_taken_or_answered(part: str, name: str) -> None:
    assert cell(part, name)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_page_is_what_the_tests_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/brought.md is old: python tests/test_brought.py > it"


if __name__ == "__main__":
    print(page(), end="")
