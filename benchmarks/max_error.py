"""ResNet-20 with and without a cap on the relative error of one weight, and how far the outputs went.

    python benchmarks/max_error.py --data DIR --weights resnet20-12fca82f.th

Budgets on parameters, format `svd` or `tucker2`; batch norms estimated anew on 32 batches of 128 augmented training
images, no labels. Top-1 on the first 2,048 test images; outputs (logits) of the first 128 of them against the dense
network's. One seed; a standard error is about one point.
"""

from itertools import islice

import tenfold
from resnet20 import Task, task
from table import printed
from tenfold.measure import output_errors, outputs
from tenfold.measure.score import score
from tenfold.planning import ErrorCurves
from tenfold.report import layer_rows

BATCHES = 16  # of 128 test images


def row(given: Task, name: str, ratio: str, cap: float, curves: ErrorCurves) -> tuple[str, ...]:
    """The layer that errs most, the outputs and the score under one budget and cap."""
    plan = tenfold.plan(given.model, given.profile, params=ratio, format=name, max_error=cap, curves=curves)
    small = tenfold.decompose(given.model, plan)
    worst = max(each.rel_error or 0.0 for each in layer_rows(given.model, small, plan))
    tenfold.recover(small, given.data, epochs=0)
    batch = next(iter(given.data.inputs))
    error = output_errors(outputs(given.model, batch), outputs(small, batch))["output"]
    top1 = score(small, islice(given.data.test, BATCHES), given.data)
    far = f"{error.relative_error:.2f}", f"{error.cosine:.2f}", f"{100 * (error.agreement or 0):.0f} %"
    found = (name, ratio, f"{cap:g}", f"{worst:.3f}", *far, f"{top1:.1f}")
    print(*found, flush=True)
    return found


def main() -> None:
    given = task()
    curves = ErrorCurves(given.profile.weights_hash)
    rows = [
        row(given, name, ratio, cap, curves)
        for name in ("svd", "tucker2")
        for ratio in ("2x", "4x", "6x", "8x")
        for cap in (1.0, 0.9)
    ]
    dense = score(given.model, islice(given.data.test, BATCHES), given.data)
    head = ("format", "params", "cap", "largest error", "outputs' error", "cosine", "same largest entry", "top-1")
    printed("max-error", "ResNet-20: a cap on the error of one weight", head, rows, f"Dense: {dense:.1f}.", __doc__)


if __name__ == "__main__":
    main()
