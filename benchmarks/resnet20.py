"""What the ResNet-20 benchmarks share: the trained network, the data, the budgets."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tenfold.api import open_network
from tenfold.data import load_data
from tenfold.measure import Profile, inspect
from tenfold.protocols import Data

WEIGHTS = Path(__file__).parent.parent.parent / "shared" / "data" / "weights" / "cifar10" / "resnet20-12fca82f.th"
BUDGETS = {"params": "2.5x", "macs": "2.5x"}


@dataclass(frozen=True)
class Task:
    """The trained network, CIFAR-10 under its normalisation, and its profile at one image."""

    model: nn.Module
    data: Data
    profile: Profile


def parser() -> argparse.ArgumentParser:
    """What every ResNet-20 benchmark takes."""
    found = argparse.ArgumentParser()
    found.add_argument("--weights", default=str(WEIGHTS), help="resnet20-12fca82f.th")
    found.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the benchmarks that train")
    return found


def task(seed: int = 0, given: argparse.Namespace | None = None) -> Task:
    """The network and the data that the arguments name; `seed` orders and augments the training batches."""
    given = given or parser().parse_args()
    opened = open_network("resnet20", weights=given.weights)
    data = load_data(f"cifar10:{given.data}/cifar10", mean=opened.mean, std=opened.std, batch_size=128, seed=seed)
    return Task(opened.model, data, inspect(opened.model, next(iter(data.inputs))[:1]))


def halves(data: Data) -> tuple[list[object], list[object]]:
    """The test batches in two halves: the first may settle a recipe, the second judges it."""
    batches = list(data.test)
    return batches[: len(batches) // 2], batches[len(batches) // 2 :]
