"""The smallest ResNet that loses at most half a point, without labels for anything but judging.

    python benchmarks/max_drop.py --data DIR --network resnet20 --objectives params macs time

`tenfold.compress(max_drop=0.5, objective=...)`, format `auto`, calibrated on 1,000 training images and their mirrors.
The published weights have seen all training images, so the first half of the test images judges; what is reported is of
the second half, which has chosen nothing. What each attempt lost is of the first half. A stopped run goes on.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import tenfold
from calibration import IMAGES, SHARED, WEIGHTS, drawn, kept, opened
from table import page, table, written
from tenfold.measure.score import score

HEAD = ("network", "objective", "params", "MACs", "times faster", "dense", "found", "lost", "attempts: asked (lost)",
        "seconds")  # fmt: skip


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    for objective in given.objectives:
        if not any((row["network"], row["objective"]) == (given.network, objective) for row in kept(given.results)):
            row = {"network": given.network, "objective": objective, **found(given, objective)}
            print(json.dumps(row), flush=True)
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
    text = page("At most half a point", __doc__, table(HEAD, lines(kept(given.results))))
    print(text)
    if given.page:
        written("max-drop", text)


def found(given: argparse.Namespace, objective: str) -> dict[str, Any]:
    """One search."""
    network = opened(given)
    few, rest = drawn(network.data, 0)
    test = list(network.data.test)
    judging, reported = test[: len(test) // 2], test[len(test) // 2 :]
    data = replace(network.data, validation=judging, test=reported)
    began = time.perf_counter()
    result = tenfold.compress(
        network.model, data, max_drop=given.max_drop, objective=objective, format="auto",
        calibration=list(chain(few, list(rest)[:16])), calibrate=2 * IMAGES, profile=given.kept / given.network,
        state=given.kept / f"{given.network}-{objective}",
    )  # fmt: skip
    seconds, dense, final = time.perf_counter() - began, result.report.dense, result.report.final
    scores = [score(model, reported, data) for model in (network.model, result.model)]
    return {"params": dense.params / final.params, "macs": (dense.macs or 0) / (final.macs or 1),
            "faster": final.speedup.median if final.speedup else None, "scores": scores, "seconds": seconds,
            "attempts": result.report.settings["attempts"], "words": result.words[0]}  # fmt: skip


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line for each search."""
    for row in rows:
        dense, small = row["scores"]
        tried = ", ".join(f"{each['ratio']:.3g}x ({lost(each['loss'])})" for each in row["attempts"])
        yield (row["network"], row["objective"], f"{row['params']:.2f}x", f"{row['macs']:.2f}x", f"{row['faster']:.2f}",
               f"{dense:.2f}", f"{small:.2f}", f"{dense - small:.2f}", tried, f"{row['seconds']:.0f}")  # fmt: skip


def lost(points: float | None) -> str:
    """`0.29`; that nobody can tell."""
    return "-" if points is None else f"{points:.2f}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--network", default="resnet20", choices=WEIGHTS)
    parser.add_argument("--weights", type=Path, help=f"by default in {SHARED.name}/ beside the project")
    parser.add_argument("--objectives", nargs="+", default=["params", "macs", "time"])
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("max-drop.jsonl"), help="rows that are done")
    parser.add_argument("--kept", type=Path, default=Path("max-drop"), help="folder of profiles and of what was tried")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/max-drop.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
