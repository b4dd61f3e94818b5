"""What a learning rate does to LeNet-300 on MNIST, dense, at full rank and ten times smaller.

    python benchmarks/rates.py --data DIR

Three epochs in batches of 250, Adam (0.9, 0.99), a tenth of the steps to warm up, cosine to zero, gradients clipped at
5; weights as `tenfold.fresh` draws them. Top-1 on the test images, one seed. `uniform` gives every layer one share of
its full ranks, `global` is the allocation that `compress` makes by the errors of the weights, which are random here.
"""

import argparse
import os
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

import tenfold
from table import printed
from tenfold.planning import Asked
from tenfold.surgery import Plan
from training import Recipe, Split, drawn, top1, train

NETWORK, RATES, RECIPE = "lenet300", (0.001, 0.003, 0.01, 0.03), Recipe(epochs=3, batch=250)


def cored(**asked: object) -> Callable[[], nn.Module]:
    """LeNet-300 with new weights in cores, as `tenfold.plan` says."""

    def build() -> nn.Module:
        dense = drawn(NETWORK, 0)
        plan = tenfold.plan(dense, tenfold.inspect(dense), **cast(Asked, asked))
        return tenfold.fresh(dense, plan)

    return build


ROWS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: drawn(NETWORK, 0),
    "`svd`, full rank": lambda: full_rank("dense"),
    '`svd`, full rank, `init="cores"`': lambda: full_rank("cores"),
    "`svd`, 10x, uniform": cored(params="10x", format="svd", allocation="uniform"),
    "`svd`, 10x, global": cored(params="10x", format="svd"),
    "`tt`, 10x, uniform": cored(params="10x", format="tt", allocation="uniform"),
    "`tt`, 10x, global": cored(params="10x", format="tt"),
}


def full_rank(init: str) -> nn.Module:
    """LeNet-300 with every weight in two cores at full rank."""
    dense = drawn(NETWORK, 0)
    rows = {name: tenfold.Row(name, "svd", ranks=(rank,)) for name, rank in (("fc1", 300), ("fc2", 100), ("fc3", 10))}
    return tenfold.fresh(dense, Plan(rows), init="cores" if init == "cores" else "dense")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with the data sets")
    split = Split.of("mnist", parser.parse_args().data)
    torch.set_num_threads(1)
    lines = []
    for label, build in ROWS.items():
        scores = []
        for rate in RATES:
            model = build()
            train(model, split.train, RECIPE, rate, 0)
            scores.append(f"{top1(model, split.test):.2f}")
        lines.append((label, *scores))
        print(lines[-1], flush=True)
    note = (
        "The learning rate decides more than the format; with random weights, errors say nothing of what a layer needs."
    )
    printed("rates", "Learning rates from scratch", ("weights", *map(str, RATES)), lines, note, __doc__)


if __name__ == "__main__":
    main()
