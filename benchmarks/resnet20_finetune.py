"""ResNet-20 at 2.5x parameters and 2.5x multiply-adds, five epochs with labels, from weights alone or calibrated.

    python benchmarks/resnet20_finetune.py --data DIR --formats auto ht2 --starts calibrated --seeds 0

Nesterov SGD, momentum 0.9, one cycle to the rate, batch 128, weight decay 5e-4, crops and flips, nine tenths of the
loss the distance to the dense network's outputs (temperature 4). `weights`: decomposed so that weights err least;
`calibrated`: by `tenfold.compress(calibrate=2000)` on 1,000 training images and their mirrors. The recipe was settled
from `weights` on the first half of the test images (the weights have seen all 50,000 training images, so no split of
those can choose); both halves are reported. The final weights are judged, no epoch is chosen. The last 5,000 training
images are left out, as always with `cifar10:DIR`.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tenfold
from calibration import IMAGES, drawn, kept, spread
from resnet20 import BUDGETS, Task, halves, parser, task
from table import page, table, written
from tenfold.measure.score import score

EPOCHS = 5
RATES = {"weights": 0.02, "calibrated": 0.002}  # the highest, unless given
HEAD = ("format", "start", "rate", "seeds", "before", "first half", "second half", "top-1", "seconds of training")


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    for form in given.formats:
        for start in given.starts:
            for seed in given.seeds:
                rate = given.lr or RATES[start]
                key = {"format": form, "start": start, "lr": rate, "seed": seed}
                if not any(key.items() <= row.items() for row in kept(given.results)):
                    row = {**key, **trained(form, start, rate, seed)}
                    print(json.dumps(row), flush=True)
                    with given.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    note = "Dense 91.73. One thread a run; spread: largest less smallest."
    text = page("ResNet-20, five epochs with labels", __doc__, table(HEAD, summary(kept(given.results))), note)
    print(text)
    if given.page:
        written("resnet20-finetune", text)


def arguments() -> argparse.Namespace:
    found = parser()
    found.add_argument("--formats", nargs="+", default=["auto", "ht2"])
    found.add_argument("--starts", nargs="+", default=["weights", "calibrated"], choices=["weights", "calibrated"])
    found.add_argument("--lr", type=float, help="the highest rate, for all that is run")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--device", default="cpu", help="where it is trained")
    found.add_argument("--results", type=Path, default=Path("finetune.jsonl"), help="rows that are done")
    found.add_argument("--page", action="store_true", help="write docs/benchmarks/resnet20-finetune.md")
    return found.parse_args()


def trained(form: str, start: str, rate: float, seed: int) -> dict[str, Any]:
    """Top-1 on all test images before training; on the first half, the second half and all after; seconds of it."""
    given = task(seed, arguments())
    small = started(given, form, start, seed)
    before = score(tenfold.lower(small), given.data.test, given.data)
    begun = time.perf_counter()
    tenfold.recover(
        small,
        given.data,
        teacher=given.model,
        epochs=EPOCHS,
        seed=seed,
        bn=start == "weights",
        lr=rate,
        distill=0.9,
        device=arguments().device,
    )
    seconds = time.perf_counter() - begun
    lowered = tenfold.lower(small)
    first, second, whole = (score(lowered, part, given.data) for part in (*halves(given.data), given.data.test))
    return {"before": before, "first": first, "second": second, "top-1": whole, "seconds": seconds}


def started(given: Task, form: str, start: str, seed: int) -> nn.Module:
    """The compressed network that is trained."""
    if start == "weights":
        plan = tenfold.plan(given.model, given.profile, **BUDGETS, format=form)
        return tenfold.decompose(given.model, plan, seed=seed)
    few, _ = drawn(given.data, seed)
    return tenfold.compress(
        given.model, given.data, **BUDGETS, format=form, calibration=few, calibrate=2 * IMAGES, seed=seed
    ).model


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line for each format, start and rate."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["format"], row["start"], f"{row['lr']:g}"), []).append(row)
    for key, each in groups.items():
        values = (spread([row[name] for row in each]) for name in ("before", "first", "second", "top-1"))
        yield *key, str(len(each)), *values, f"{sum(row['seconds'] for row in each) / len(each):.0f}"


if __name__ == "__main__":
    main()
