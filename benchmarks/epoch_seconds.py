"""Seconds of a training epoch on a device: CIFAR-10 on it, batch 512, crops and flips, bfloat16 on a GPU.

    python benchmarks/epoch_seconds.py resnet20 wrn28-10 --data DIR

Networks of the zoo, dense, images channels_last on a GPU. Two short epochs of so many steps; the seconds of the second,
times the steps of a whole one.
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch

import tenfold
from tenfold.data import load_data
from tenfold.models import zoo_model
from tenfold.surgery import laid_out

BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    on_gpu = given.device.startswith("cuda")
    for name in given.networks:
        zoo = zoo_model(name)
        data: Any = load_data(
            f"cifar10:{given.data}/cifar10", mean=zoo.mean, std=zoo.std, batch_size=BATCH, device=given.device
        )
        whole = len(data.train)
        data.train.order = data.train.order[: BATCH * given.steps]
        model = laid_out(zoo.build().to(given.device), "channels_last" if on_gpu else None)
        at: list[float] = []

        def noting(steps: Iterable[Any], at: list[float] = at) -> Iterator[Any]:
            for step in steps:
                at.append(time.perf_counter())
                yield step

        tenfold.recover(
            model, replace(data, validation=[]), epochs=2, lr=0.1, bn=False, watch=noting, device=given.device,
            mixed_precision="bf16" if on_gpu else "no",
        )  # fmt: skip
        half = len(at) // 2
        step = (at[-1] - at[half]) / (len(at) - 1 - half)
        print(f"{name}: {1e3 * step:.1f} ms a step, {whole * step:.2f} s an epoch of {whole} steps, {given.device}")


if __name__ == "__main__":
    main()
