"""The six formats on ResNet-20 at 2.5x parameters and 2.5x multiply-adds, without training.

    python benchmarks/resnet20_formats.py --data DIR --weights resnet20-12fca82f.th

`global`: one multiplier for each budget over all layers; `uniform`: one share of the full ranks everywhere, the rest
filled in the same way. Top-1 on the 10,000 test images, of the lowered network: after decomposition, and after batch
norms were estimated anew on 32 batches of 128 augmented training images, no labels. One seed (CP alone draws numbers);
a standard error is 0.3 to 0.5 points.
"""

import tenfold
from resnet20 import BUDGETS, Task, task
from table import printed
from tenfold.formats import BUILT_IN
from tenfold.measure import macs, params
from tenfold.measure.score import score
from tenfold.planning import ErrorCurves


def row(given: Task, name: str, allocation: str, curves: ErrorCurves) -> tuple[str, ...]:
    """Ratios and scores of one format."""
    plan = tenfold.plan(given.model, given.profile, **BUDGETS, format=name, allocation=allocation, curves=curves)
    small = tenfold.decompose(given.model, plan)
    lowered = tenfold.lower(small)
    cost = macs(lowered, next(iter(given.data.inputs))[:1]).total
    plain = score(lowered, given.data.test, given.data)
    tenfold.recover(small, given.data, epochs=0)
    again = score(tenfold.lower(small), given.data.test, given.data)
    ratios = given.profile.params / params(small), (given.profile.macs or 0) / cost
    found = (name, allocation, *(f"{ratio:.2f}x" for ratio in ratios), f"{plain:.2f}", f"{again:.2f}")
    print(*found, flush=True)
    return found


def main() -> None:
    given = task()
    curves = ErrorCurves(given.profile.weights_hash)
    rows = [
        row(given, name, how, curves)
        for name in (*BUILT_IN, "auto")
        for how in ("global", "uniform")[: 1 + (name != "auto")]
    ]
    dense = score(given.model, given.data.test, given.data)
    head = ("format", "allocation", "params", "MACs", "top-1 decomposed", "top-1, batch norms anew")
    printed("resnet20-formats", "ResNet-20: six formats, no training", head, rows, f"Dense: {dense:.2f}.", __doc__)


if __name__ == "__main__":
    main()
