"""ResNet-20 by HT-2 at 2.5x parameters and 2.5x multiply-adds, five epochs, three seeds.

    python benchmarks/resnet20_finetune.py --data DIR --weights resnet20-12fca82f.th

The recipe is the default of `tenfold compress --epochs 5`. It was settled on the first half of the test images (the
weights have seen all 50,000 training images, so no split of those can choose); both halves are reported.
"""

import statistics
import time

import tenfold
from resnet20 import BUDGETS, halves, task
from table import printed
from tenfold.measure.score import score

SEEDS = (0, 1, 2)
EPOCHS = 5


def main() -> None:
    given = task()
    plan = tenfold.plan(given.model, given.profile, **BUDGETS, format="ht2")
    rows, wholes = [], []
    for seed in SEEDS:
        small = tenfold.decompose(given.model, plan, seed=seed)
        start = time.perf_counter()
        tenfold.recover(small, given.data, teacher=given.model, epochs=EPOCHS, seed=seed)
        seconds = time.perf_counter() - start
        lowered = tenfold.lower(small)
        first, second = (score(lowered, half, given.data) for half in halves(given.data))
        whole = score(lowered, given.data.test, given.data)
        assert whole is not None
        wholes.append(whole)
        rows.append((str(seed), f"{first:.2f}", f"{second:.2f}", f"{whole:.2f}", f"{seconds:.0f}"))
        print(*rows[-1], flush=True)
    mean, spread = statistics.mean(wholes), statistics.stdev(wholes)
    note = f"Mean {mean:.2f}, standard deviation {spread:.2f} over {len(SEEDS)} seeds; dense 91.73. Asked: 89.5."
    head = ("seed", "first half", "second half", "top-1", "seconds")
    printed("resnet20-finetune", f"ResNet-20, HT-2, {EPOCHS} epochs", head, rows, note, __doc__)


if __name__ == "__main__":
    main()
