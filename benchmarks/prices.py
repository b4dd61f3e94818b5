"""What errors of the weights of an LSTM are foretold to do to the outputs, against what they do.

    python benchmarks/prices.py --data DIR

The LSTM over the rows of MNIST, trained here, in float64; statistics of 1,000 unlabelled images; squared errors of the
logits on the same. `random`: Gaussian errors of that size, relative to the weight, mean of four; `svd`: the weight
truncated at that rank, by itself; `metric`: in the metric, where the error hides in the directions that cost least.
The bias of the linear layer makes shifts of its mean good. `foretold`: by the metric, over what happened; `moments
alone`: by the product of input and output moment, unscaled.
"""

import argparse
import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from row_mnist import NETWORK, RECIPES
from table import printed
from tenfold.data import load_data
from tenfold.fitting import Metric
from tenfold.fitting.metric import roots_of
from tenfold.inputs import first_samples
from tenfold.statistics import Statistics, gather
from training import TRAINED, Images, trained

IMAGES = 1000
HEAD = "weight", "error", "relative", "happened", "foretold", "moments alone"
WEIGHTS = {
    "lstm.weight_ih_l0": (25, 14, 7),
    "lstm.weight_hh_l0": (115, 64, 32),
    "linear": (9, 7, 5),
}  # ranks of truncations
TRAINED[NETWORK] = RECIPES[NETWORK]


def errors(weight: Tensor, metric: Metric, ranks: tuple[int, ...]) -> Iterator[tuple[str, list[Tensor]]]:
    """Errors of a weight, by what they are called."""
    draw = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 1e-1):
        each = [torch.randn(weight.shape, generator=draw, dtype=weight.dtype) for _ in range(4)]
        yield f"random {size:g}", [error * (size * weight.norm() / error.norm()) for error in each]
    inputs, outputs = (roots_of(metric.moments[axis]) for axis in "io")
    for rank in ranks:
        yield f"svd {rank}", [truncated(weight, rank) - weight]
        whitened = outputs[0] @ weight @ inputs[0]
        yield f"metric {rank}", [outputs[1] @ truncated(whitened, rank) @ inputs[1] - weight]


def truncated(weight: Tensor, rank: int) -> Tensor:
    """The nearest matrix of this rank."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    nearest: Tensor = u[:, :rank] * s[:rank] @ v[:rank]
    return nearest


def rows(model: nn.Module, images: Tensor) -> Iterator[tuple[str, ...]]:
    """A line for every error of every weight."""
    found = gather(model, first_samples(model, images.split(50), IMAGES))
    alone = unscaled(found)
    with torch.no_grad():
        wanted = model(images)
    for name, ranks in WEIGHTS.items():
        parameter = name if "weight" in name else f"{name}.weight"
        weight, metric = model.get_parameter(parameter).detach(), found.metrics[name]
        for words, each in errors(weight, metric, ranks):
            happened = 0.0
            for error in each:
                changed = copy.deepcopy(model)
                with torch.no_grad():
                    changed.get_parameter(parameter).add_(error)
                    if name in found.shifts:
                        changed.get_parameter(found.shifts[name]).sub_(error @ found.mean(name)[0])
                    happened += float((changed(images) - wanted).square().sum()) / len(images)
            costs = [sum(one.squared_error(error, "oi") for error in each) for one in (metric, alone.metrics[name])]
            size = sum(float(error.norm() / weight.norm()) for error in each) / len(each)
            yield (name, words, f"{size:.3f}", f"{happened / len(each):.3g}",
                   *(f"{cost / happened:.2f}" for cost in costs))  # fmt: skip


def unscaled(found: Statistics) -> Statistics:
    """The same statistics without gradients of weights."""
    return replace(
        found, seen={name: tuple(replace(each, slope=None) for each in seen) for name, seen in found.seen.items()}
    )


NOTE = """\
A random change is foretold within a seventh, one of the LSTM's matrices up to a tenth of the weight; moments alone
foretell a fifth to a quarter of it. Errors that the fit has moved to where they cost little are overestimated."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with mnist/")
    parser.add_argument("--cache", type=Path, default=Path("small-networks"), help="folder of the trained weights")
    given = parser.parse_args()
    model = trained(NETWORK, given.data, given.cache).double()
    images = Images.of(load_data(f"mnist:{given.data}/mnist").train).images.double()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    title = "What errors of an LSTM's weights cost"
    printed("prices", title, HEAD, rows(model, images[order[:IMAGES]]), NOTE, __doc__)


if __name__ == "__main__":
    main()
