"""Networks trained from scratch in cores: what is run, and a file of runs that a stopped benchmark goes on from."""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tenfold
from fits import evened, without_idle
from tenfold.formats import Format, name_of, options_of
from tenfold.formats.base import Modes
from tenfold.measure import params
from tenfold.network import TensorNetwork
from tenfold.surgery import Plan, Row, sites
from training import Recipe, Split, drawn, top1, train

SEEDS = 0, 1, 2
KERNELS = Recipe(epochs=3, batch=128, images=20_000)
RECIPES = {"lenet300": Recipe(epochs=8, batch=250), "lenet5": KERNELS, "three-kernels": KERNELS}
TRIALS = {**RECIPES, "lenet300": Recipe(epochs=4, batch=250)}
TRIAL_SEED = 9
USUAL = 0.003, 0.01, 0.03
RATES = {"lenet300": USUAL, "lenet5": USUAL, "three-kernels": (0.01, 0.03, 0.1)}
HOW = """\
Adam (0.9, 0.99), a tenth of the steps to warm up, cosine to zero, gradients clipped at 5, no augmentation: LeNet-300
8 epochs in batches of 250 on 55,000 images, the others 3 epochs in batches of 128 on the first 20,000 (short runs,
which favour what learns fast). The rate is the best of 0.003, 0.01 and 0.03 (0.01, 0.03 and 0.1 for a network other
than the LeNets) on the 5,000 validation images after one run of this kind (LeNet-300: of 4 epochs) from seed 9; a
first pass, with rates from much shorter runs, was discarded after its test scores showed that they were too large.
Test images are read once, at the end of each run. Weights start as `tenfold.fresh` draws them and are rebuilt in one
stage. Mean ± standard deviation over seeds 0, 1, 2; seconds of processor time of training on one thread."""


@dataclass(frozen=True)
class Entry:
    """A network to be trained.

    Attributes:
        network, data: `lenet300`, `lenet5` or `three-kernels`; `mnist` or `fashion-mnist`.
        rows: what becomes of its weights; none: they stay dense.
        widths: of the hidden layers, where they are not the usual ones.
    """

    label: str
    network: str
    data: str
    rows: Mapping[str, Row] = field(default_factory=dict)
    widths: tuple[int, ...] = ()

    def build(self, seed: int) -> nn.Module:
        """The network as its training begins."""
        if self.widths:
            return of_widths(self.network, seed, *self.widths)
        dense = initial(self.network, seed)
        return tenfold.fresh(dense, Plan(self.rows), seed=seed) if self.rows else dense


def narrow_lenet300(first: int, second: int) -> nn.Module:
    """LeNet-300 with other widths."""
    hidden = [nn.Linear(784, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(second, 10))


def narrow_lenet5(first: int, second: int, third: int) -> nn.Module:
    """LeNet-5 with other widths."""
    maps = [nn.Conv2d(1, first, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(first, second, 5), nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(*maps, nn.Flatten(), nn.Linear(16 * second, third), nn.ReLU(), nn.Linear(third, 10))


def three_kernels(first: int, second: int, third: int) -> nn.Module:
    """Three convolutions and a mean over the map; semi-tensor formats want even channels."""
    maps = [nn.Conv2d(1, first, 5, stride=2, padding=2), nn.ReLU()]
    maps += [nn.Conv2d(first, second, 3, padding=1), nn.BatchNorm2d(second), nn.ReLU(), nn.MaxPool2d(2)]
    maps += [nn.Conv2d(second, third, 3, padding=1), nn.BatchNorm2d(third), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*maps, nn.Flatten(), nn.Linear(third, 10))


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "lenet300": narrow_lenet300,
    "lenet5": narrow_lenet5,
    "three-kernels": three_kernels,
}


def of_widths(network: str, seed: int, *widths: int) -> nn.Module:
    """A network of these widths from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BUILDERS[network](*widths)


def initial(network: str, seed: int) -> nn.Module:
    """A dense network as its training begins."""
    return of_widths(network, seed, 16, 32, 64) if network == "three-kernels" else drawn(network, seed)


@cache
def axes_of(network: str) -> Mapping[str, Mapping[str, int]]:
    """The axes of every weight of a network."""
    return {name: site.axes for name, site in sites(initial(network, 0)).items()}


def row(network: str, layer: str, maker: Format, budget: float, *, group: str | None = None) -> Row:
    """A weight in a format with as many parameters as the budget allows, in one stage."""
    whole = maker.network(axes_of(network)[layer])
    net = evened(without_idle(whole), budget)
    assert net is not None, (layer, maker, budget)
    return row_at(network, layer, maker, net, group=group)


def row_at(network: str, layer: str, maker: Format, net: TensorNetwork, *, group: str | None = None) -> Row:
    """A weight in a format at these ranks, in one stage."""
    return row_of(axes_of(network)[layer], layer, maker, net, group=group)


def row_of(
    axes: Mapping[str, int],
    layer: str,
    maker: Format,
    net: TensorNetwork,
    *,
    modes: Modes | None = None,
    group: str | None = None,
) -> Row:
    """A weight of these axes in a format at these ranks, in one stage."""
    modes = modes or maker.default_modes(axes)
    ranks = tuple(net.sizes.get(bond) for bond in maker.network(axes, None, modes).bonds)  # None: merged away
    stages = (tuple(range(len(net.cores))),)
    sizes = {axis: tuple(each) for axis, each in modes.items()}
    return Row(layer, name_of(maker), sizes, ranks, stages, options_of(maker), group)


class Runs:
    """Runs of a benchmark, kept one a line; those that are there already are not made again."""

    def __init__(self, path: Path, data: str) -> None:
        self.path, self.data = path, data
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.known: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.split = cache(lambda name: Split.of(name, data))

    def run(self, entry: Entry, rate: float, seed: int, *, trial: bool) -> dict[str, Any]:
        """Top-1 (on validation images in a trial, else on test images), seconds and parameters of one run."""
        about = {"label": entry.label, "network": entry.network, "data": entry.data}
        key = {**about, "rate": rate, "seed": seed, "trial": trial}
        for each in self.known:
            if key.items() <= each.items():
                return each
        split = self.split(entry.data)
        model = entry.build(seed)
        seconds = train(model, split.train, (TRIALS if trial else RECIPES)[entry.network], rate, seed)
        score = top1(model, split.validation if trial else split.test)
        found = {**key, "top1": score, "seconds": seconds, "params": params(model)}
        self.known.append(found)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)
        return found

    def rate(self, entry: Entry) -> float:
        """The rate whose trial is best."""
        return max(RATES[entry.network], key=lambda rate: self.run(entry, rate, TRIAL_SEED, trial=True)["top1"])

    def row(self, entry: Entry) -> tuple[str, ...]:
        """A line of the table."""
        rate = self.rate(entry)
        runs = [self.run(entry, rate, seed, trial=False) for seed in SEEDS]
        scores = [each["top1"] for each in runs]
        dense = params(initial(entry.network, 0))
        return (
            entry.network,
            entry.label,
            f"{runs[0]['params']:,}",
            f"{dense / runs[0]['params']:.2f}x",
            f"{rate}",
            f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}",
            f"{statistics.mean(each['seconds'] for each in runs):.0f}",
        )


HEAD = "network", "weights", "params", "fewer", "rate", "top-1", "seconds"


def rows_of(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """The table of a benchmark; the command line says where data and runs are."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="JSON-lines file of runs; what it holds is not run")
    given = parser.parse_args()
    runs = Runs(given.runs, given.data)
    return [runs.row(entry) for entry in entries]
