"""What each measure against lost milliseconds brings: one left out at a time.

    pip install 'tenfold[export]'
    python benchmarks/speed_measures.py --page

Two threads, nothing else on the machine. ResNet-20 (batch 64) and ResNet-50 (224 x 224, batch 1), random weights,
`auto`, `macs 4x`. `all`: planned with a clock, lowered, images channels_last, batch norms folded, activations in place.
Each other row leaves one of these out, or runs `all` elsewhere. All of a network run in turn, in one process; `speed`
is the dense network with all measures, eager, over the row, round by round: median and distance between the quartiles.
`pointwise`: 1x1 convolutions as linear layers on channels_last memory.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

import tenfold
from table import page, table, written
from tenfold.api import open_network, planned
from tenfold.inputs import Inputs, evaluating, inputs_for, run
from tenfold.measure import Clock, ratio
from tenfold.measure.runtimes import RUNTIMES
from tenfold.measure.timing import paired
from tenfold.surgery import laid_out, lower
from tenfold.surgery.carry_out import skeleton
from tenfold.surgery.layout import CHANNELS_LAST, CONTIGUOUS

NETWORKS = {"resnet20": (64, 3, 32, 32), "resnet50": (1, 3, 224, 224)}
HEAD = ("network", "form", "ms", "speed", "spread")
ASKED = {"macs": "4x"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
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
        (row["network"], row["form"], f"{row['ms']:.1f}", f"{row['speed']:.2f}x", f"{row['spread']:.2f}")
        for row in kept]))  # fmt: skip
    print(text)
    if given.page:
        written("speed-measures", text)


def rows(name: str, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for every form of a network."""
    model = open_network(name, seed=0).model
    given = inputs_for(model, torch.randn(*NETWORKS[name], generator=torch.Generator().manual_seed(0)))
    with torch.no_grad(), evaluating(model):
        times = paired(forwards(model, given), repeats=rounds)
    for form, each in times.items():
        found = ratio(times["dense"], each)
        yield {"network": name, "form": form, "ms": 1e3 * each.median, "speed": found.median, "spread": found.spread}


def forwards(model: nn.Module, given: Inputs) -> dict[str, Callable[[], Any]]:
    """Every form, ready to run."""
    measured, clock = tenfold.inspect(model, given.samples(1)), Clock.of(model, given)
    plan = planned(model, measured, inputs=given, batch=given.size, clock=clock, **ASKED)
    small = skeleton(model, plan)
    alone = skeleton(model, tenfold.plan(model, measured, **ASKED))
    best, dense = ready(small), ready(model)
    found: dict[str, Callable[[], Any]] = {
        "dense": runs(dense, given),
        "all": runs(best, given),
        "planned by multiply-adds alone": runs(ready(alone), given),
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


if __name__ == "__main__":
    main()
