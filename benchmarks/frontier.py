"""What is foreseen for ResNet-20 beside what comes of it.

    python benchmarks/frontier.py --data DIR --weights resnet20-12fca82f.th

Parameters and multiply-adds both at the ratio, formats `svd` and `tucker2`, calibrated on 1,000 training images without
labels. Foreseen: the relative error of the logits that `tenfold plan --frontier` prints and draws. Measured: that of
the decomposed network, fitted in the metric, means made good, nothing refined, on those images and on the first 2,048
test images; and its top-1 there.
"""

from itertools import islice

import torch

import tenfold
from resnet20 import Task, task
from table import PAGES, printed
from tenfold.api.calibrate import compared
from tenfold.inputs import Inputs, first_samples
from tenfold.measure import outputs
from tenfold.measure.score import score
from tenfold.report import FrontierRow
from tenfold.statistics import Statistics

SAMPLES, BATCHES = 1000, 16  # training images, batches of 128 test images
PICTURE = PAGES.parent / "pictures" / "frontier.svg"


def row(
    given: Task, found: FrontierRow, statistics: Statistics, seen: list[Inputs], new: list[Inputs]
) -> tuple[str, ...]:
    """Foreseen and measured under one budget."""
    small = tenfold.decompose(given.model, found.plan, statistics=statistics)
    errors = [relative_error(given, small, batches) for batches in (seen, new)]
    top1 = score(small, islice(given.data.test, BATCHES), given.data)
    cells = f"{found.asked['params']:g}x", *(f"{error:.3f}" for error in (found.error, *errors)), f"{top1:.1f}"
    print(*cells, flush=True)
    return cells


def relative_error(given: Task, small: torch.nn.Module, batches: list[Inputs]) -> float:
    """Of the logits about their mean."""
    what = compared(given.data)
    apart = whole = 0.0
    for batch in batches:
        (dense,), (found,) = (what(outputs(model, batch.value)) for model in (given.model, small))
        apart, whole = apart + float((found - dense).square().sum()), whole + float(dense.square().sum())
    return (apart / whole) ** 0.5


def main() -> None:
    given = task()
    seen = list(first_samples(given.model, given.data.inputs, SAMPLES))
    new = list(first_samples(given.model, (images for images, _ in given.data.test), BATCHES * 128))
    found = tenfold.frontier(given.model, given.data, format="svd,tucker2", calibrate=SAMPLES)
    found.draw(PICTURE, title="ResNet-20", overwrite=True)
    statistics = tenfold.calibrate(given.model, given.data.inputs, samples=SAMPLES, data=given.data)
    rows = [row(given, each, statistics, seen, new) for each in found.rows]
    dense = score(given.model, islice(given.data.test, BATCHES), given.data)
    note = f"Dense: {dense:.1f}.\n\n![foreseen error against what is saved](../pictures/{PICTURE.name})"
    head = ("ratio", "foreseen", "measured", "on test images", "top-1")
    printed("frontier", "ResNet-20: foreseen and measured", head, rows, note, __doc__)


if __name__ == "__main__":
    main()
