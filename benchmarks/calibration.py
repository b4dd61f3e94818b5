"""A trained CIFAR-10 network calibrated on 1,000 unlabelled training images, nothing trained on labels.

    python benchmarks/calibration.py --data DIR --network resnet20 --ratios 1.5x 2.5x 4x 8.5x --formats auto

Parameters and multiply-adds both at the ratio, by the budget rule, of the whole network. Steps, each on top of the one
before: `metric`: planned and fitted so that outputs err least, means made good; `blocks`: refined one by one and all
together; `150 steps`: of Adam at batch 128 on the squared difference of the logits, on further training images, labels
unseen. The thousand images, with their mirror images, are another draw for each seed. Top-1 on all 10,000 test images,
and on the second half alone (settings were settled on the first); mean and spread (largest less smallest) over seeds.
Seconds are those of one run on this machine, with others beside it where that is said.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tenfold
from table import page, table, written
from tenfold.api import open_network, predicted
from tenfold.api.calibrate import Calibrated, compared, counted
from tenfold.api.reconstruct import distilled
from tenfold.api.settled import settled
from tenfold.data import load_data
from tenfold.data.augmentation import flip
from tenfold.data.batches import Batches
from tenfold.inputs import first_samples
from tenfold.measure.score import score
from tenfold.protocols import Data
from tenfold.recovery import reconstruct
from tenfold.recovery.reconstruction import BlockDone
from tenfold.statistics import gather

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "weights" / "cifar10"
WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
IMAGES, STEPS = 1000, 150


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    network = opened(given)
    for ratio in given.ratios:
        for form in given.formats:
            for seed in given.seeds:
                name = f"{form}, solved" if given.solve else form
                if not any(same(row, given.network, ratio, name, seed) for row in kept(given.results)):
                    row = {"network": given.network, "ratio": ratio, "format": name, "seed": seed,
                           "device": given.device, **measured(network, ratio, form, seed, given)}  # fmt: skip
                    print(json.dumps(row), flush=True)
                    with given.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    rows = kept(given.results)
    dense = "Dense: ResNet-20 91.73, ResNet-56 93.39."
    text = page("1,000 unlabelled images", __doc__, table(HEAD, summary(rows)), dense)
    print(text)
    if given.page:
        written("calibration", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--network", default="resnet20", choices=WEIGHTS)
    parser.add_argument("--weights", type=Path, help="by default beside the project")
    parser.add_argument("--ratios", nargs="+", default=["1.5x", "2.5x", "4x", "8.5x"])
    parser.add_argument("--formats", nargs="+", default=["auto"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--solve", action="store_true", help="layers are solved for before a block is refined")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="where blocks and the whole network are refined")
    parser.add_argument("--results", type=Path, default=Path("calibration.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/calibration.md")
    return parser.parse_args()


@dataclass(frozen=True)
class Network:
    """A trained network and its data."""

    model: nn.Module
    data: Data


def opened(given: argparse.Namespace) -> Network:
    """The network with its published weights."""
    found = open_network(given.network, weights=given.weights or SHARED / WEIGHTS[given.network])
    return Network(found.model, load_data(f"cifar10:{given.data}/cifar10", mean=found.mean, std=found.std))


@dataclass(frozen=True)
class Mirrored:
    """Batches, each with its mirror images."""

    batches: Batches

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.batches:
            yield torch.cat([batch, batch.flip(3)])


def drawn(data: Data, seed: int) -> tuple[Mirrored, Batches]:
    """1,000 training images with their mirror images, and all others flipped at random."""
    whole: Any = data.inputs
    order = torch.randperm(len(whole.images), generator=torch.Generator().manual_seed(seed))
    mean, std = (value.flatten().tolist() for value in (whole.mean, whole.std))
    made = partial(Batches, whole.images, None, mean=mean, std=std)
    few = made(batch_size=16, order=order[:IMAGES])
    return Mirrored(few), made(batch_size=128, order=order[IMAGES:], augment=flip, seed=seed)


def measured(network: Network, ratio: str, form: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run: top-1 after each step, on all test images and on the second half; seconds of each step."""
    model, data = network.model, network.data
    few, rest = drawn(data, seed)
    outputs, test = compared(data), list(data.test)
    found: dict[str, Any] = {}
    clock = Clock(found)
    chunks = first_samples(model, few, 2 * IMAGES)
    statistics = gather(model, chunks, outputs=outputs, seed=seed)
    clock.stop("statistics")
    profile = tenfold.inspect(model, next(iter(data.inputs))[:1])
    further = [replace_chunk(chunks[0], batch) for _, batch in zip(range(STEPS + 2), rest, strict=False)]
    known = Calibrated(chunks, outputs, counted(data), further, statistics)
    clock.start()
    plan, small = settled(model, profile, known, params=ratio, macs=ratio, format=form, seed=seed)
    small = small or tenfold.decompose(model, plan, statistics=statistics, seed=seed)
    sizes = predicted(model, plan, profile).ratio
    found |= {"params": sizes.params, "macs": sizes.macs}
    clock.stop("plan and fit")
    model, small = (copy.deepcopy(each).to(given.device) for each in (model, small))
    chunks, further = ([chunk.to(given.device) for chunk in each] for each in (chunks, further))
    known = replace(known, chunks=chunks, further=further)
    found["metric"] = halves(small, test, data)
    clock.start()
    steps = reconstruct(model, small, chunks, solve=given.solve, metrics=statistics.metrics, outputs=outputs, seed=seed)
    for step in steps:
        if isinstance(step, BlockDone) and step.step == step.steps:
            break
    clock.stop("blocks seconds")
    found["blocks"] = halves(small, test, data)
    clock.start()
    for _ in steps:
        pass
    clock.stop("together seconds")
    found["together"] = halves(small, test, data)
    print(json.dumps(found), flush=True)
    clock.start()
    for _ in distilled(model, small, known, STEPS):
        pass
    clock.stop("distil seconds")
    found["distilled"] = halves(small, test, data)
    return found


def replace_chunk(like: Any, batch: Tensor) -> Any:
    """Inputs of a batch."""
    return replace(like, value=batch)


class Clock:
    """Seconds since it was last started or stopped."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        self.start()

    def start(self) -> None:
        self.began = time.perf_counter()

    def stop(self, name: str) -> None:
        self.found[name] = round(time.perf_counter() - self.began, 1)
        self.start()


def halves(model: nn.Module, test: Sequence[Any], data: Data) -> tuple[float, float]:
    """Top-1 on all test images, and on the second half alone."""
    first, second = test[: len(test) // 2], test[len(test) // 2 :]
    parts = [(score(model, part, data), sum(len(labels) for _, labels in part)) for part in (first, second)]
    whole = sum((value or 0) * n for value, n in parts) / sum(n for _, n in parts)
    return round(whole, 2), round(parts[1][0] or 0, 2)


def kept(path: Path) -> list[dict[str, Any]]:
    """The rows that are done."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def same(row: dict[str, Any], *key: Any) -> bool:
    """Whether a row is of this run."""
    return (row["network"], row["ratio"], row["format"], row["seed"]) == key


HEAD = ("network", "format", "ratio", "params / MACs", "seeds", "metric", "blocks", "together", "150 steps",
        "second half: metric", "blocks", "together", "150 steps",
        "seconds: statistics, plan and fit, blocks, together, 150 steps")  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each network, format and ratio."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["format"], row["ratio"]), []).append(row)
    lines = []
    for (network, form, ratio), group in groups.items():
        scores = [
            spread([row[step][half] for row in group])
            for half in (0, 1)
            for step in ("metric", "blocks", "together", "distilled")
        ]
        names = ("statistics", "plan and fit", "blocks seconds", "together seconds", "distil seconds")
        seconds = ", ".join(f"{sum(row[name] for row in group) / len(group):.0f}" for name in names)
        first = group[0]
        lines.append(
            (network, form, ratio, f"{first['params']:.2f} / {first['macs']:.2f}", str(len(group)), *scores, seconds)
        )
    return lines


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`91.20 (0.10)`: the mean, and the largest less the smallest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f}" + (f" ({max(values) - min(values):.{digits}f})" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
