"""LeNet-5 and an LSTM over the rows of MNIST, trained here, compressed on 1,000 unlabelled images.

    python benchmarks/small_networks.py --data DIR --ratios 10x 20x

Parameters of the whole network at the ratio, formats chosen by `auto`. `no data`: by weight error alone (neither
network has batch norms). Then, each step on top of the one before: `metric`: planned and fitted so that outputs err
least; `blocks`: refined one by one and all together; `150 steps`: of Adam at batch 128 on the squared difference of the
logits, on further training images, labels unseen. The thousand images are another draw for each seed. Top-1 error, in
per cent, on the 10,000 test images.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tenfold
from calibration import Clock, kept, spread
from row_mnist import NETWORK as LSTM
from row_mnist import RECIPES
from table import page, table, written
from tenfold.api import predicted
from tenfold.api.calibrate import Unlabelled, compared
from tenfold.api.reconstruct import distilled
from tenfold.data import load_data
from tenfold.inputs import first_samples
from tenfold.protocols import Data
from tenfold.recovery import reconstruct
from tenfold.statistics import gather
from training import TRAINED, Images, top1, trained

IMAGES, STEPS = 1000, 150
SCORES = "no data", "metric", "blocks", "150 steps"
TIMES = "statistics", "plan", "fit", "refine", "distil"
HEAD = "network", "ratio", "params", "MACs", "seeds", *SCORES, f"seconds: {', '.join(TIMES)}"
TRAINED[LSTM] = RECIPES[LSTM]


def measured(model: nn.Module, data: Data, ratio: str, seed: int) -> dict[str, Any]:
    """One run: the error after each step, and seconds of each."""
    images, test, outputs = Images.of(data.train).images, Images.of(data.test), compared(data)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chunks = first_samples(model, images[order[:IMAGES]].split(50), IMAGES)
    profile = tenfold.inspect(model, images[:1])
    asked: dict[str, Any] = {"params": ratio, "seed": seed, "max_error": 1.0}  # a matrix may be given up
    blind = tenfold.decompose(model, tenfold.plan(model, profile, **asked), seed=seed)
    found: dict[str, Any] = {"no data": error(blind, test)}
    clock = Clock(found)
    statistics = gather(model, chunks, outputs=outputs, seed=seed)
    clock.stop("statistics")
    plan = tenfold.plan(model, profile, **asked, metrics=statistics.metrics)
    clock.stop("plan")
    small = tenfold.decompose(model, plan, statistics=statistics, seed=seed)
    clock.stop("fit")
    sizes = predicted(model, plan, profile).ratio
    found |= {"params": sizes.params, "macs": sizes.macs, "metric": error(small, test)}
    clock.start()
    for _ in reconstruct(model, small, chunks, outputs=outputs, seed=seed):
        pass
    clock.stop("refine")
    found["blocks"] = error(small, test)
    clock.start()
    further = [replace(chunks[0], value=images[index]) for index in order[IMAGES:].split(128)[: STEPS + 2]]
    for _ in distilled(model, small, Unlabelled(chunks, outputs, further), STEPS):
        pass
    clock.stop("distil")
    found["150 steps"] = error(small, test)
    return found


def error(model: nn.Module, test: Images) -> float:
    """Percent of the test images whose class does not come first."""
    return 100 - top1(model, test)


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line for each network and ratio."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in rows:
        groups.setdefault((each["network"], each["ratio"]), []).append(each)
    for (network, ratio), group in sorted(groups.items()):
        yield (
            network, ratio, f"{group[0]['params']:.2f}", f"{group[0]['macs']:.2f}", str(len(group)),
            *(spread([each[step] for each in group]) for step in SCORES),
            ", ".join(f"{sum(each[name] for each in group) / len(group):.0f}" for name in TIMES),
        )  # fmt: skip


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    data = load_data(f"mnist:{given.data}/mnist")
    test, dense = Images.of(data.test), []
    for network in given.networks:
        model = trained(network, given.data, given.cache)
        dense.append(f"{network} {error(model, test):.2f}")
        for ratio in given.ratios:
            for seed in given.seeds:
                key = (network, ratio, seed)
                if any((done["network"], done["ratio"], done["seed"]) == key for done in kept(given.results)):
                    continue
                row = {"network": network, "ratio": ratio, "seed": seed, **measured(model, data, ratio, seed)}
                print(json.dumps(row), flush=True)
                with given.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    note = f"Dense: {', '.join(dense)}. Spread over seeds: largest less smallest."
    text = page(
        "LeNet-5 and an LSTM, 1,000 unlabelled images", __doc__, table(HEAD, summary(kept(given.results))), note
    )
    print(text)
    if given.page:
        written("small-networks", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with mnist/")
    parser.add_argument("--cache", type=Path, default=Path("small-networks"), help="folder of the trained weights")
    parser.add_argument("--networks", nargs="+", default=["lenet5", LSTM])
    parser.add_argument("--ratios", nargs="+", default=["10x", "20x"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("small-networks.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/small-networks.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
