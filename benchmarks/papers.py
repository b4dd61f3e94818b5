"""What the four papers claim of networks trained on CIFAR-10, one command a row.

    python benchmarks/papers.py stt ht2 --data DIR --weights DIR --jobs 8 --minutes 7
    python benchmarks/papers.py ht2/resnet20/0.8-norms --epochs 1 --images 512 --data DIR
    python benchmarks/papers.py --list
    python benchmarks/papers.py --page --results papers.jsonl more.jsonl

A row is the beginning of a name, or a pattern: `stt`, `str/wrn16-4`, `ht2/*/0.8-norms`. 45,000 training images with
crops and flips, in batches of 512; the last weights are judged, once, on all 10,000 test images. From scratch: SGD at
0.4 or Adam at 0.003 or 0.01, whichever is best on the 5,000 validation images after a tenth of the epochs from another
seed; one cycle, a fifth of it rising. From trained weights: SGD at 0.04 (calibrated: 0.004), nine tenths of the loss
the distance to the dense network's outputs; these rates are those that were settled at batch 128 before, times the root
of four. A call goes on where an earlier one was stopped, after its last whole epoch at least, and does not repeat what
is done.
"""

import argparse
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from papers_cells import CELLS, TRAIN_IMAGES, Cell, How, axes_of, fresh, kept_weights, run
from papers_claims import claims
from table import page, table, written
from tenfold.measure import macs

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "weights" / "cifar10"
TEST_IMAGES = 10_000
ROWS = "stt", "ht2", "str", "hybrid", "ada"
Row = dict[str, Any]


def main() -> None:
    given = arguments()
    rows = [row for file in given.results for row in kept(file)]
    if given.page:
        written("papers", page_of(rows))
        return
    how = how_of(given)
    jobs = [Job(cell, seed) for seed in given.seeds for cell in chosen(given.rows)]
    pace = Pace.measured(how)
    foretell(jobs, how, pace)
    if not given.list:
        given.state.mkdir(parents=True, exist_ok=True)
        board = Board(unfinished(jobs, rows, how), rows, how, pace, given.results[0])
        board.run(given.jobs)
        print(table(HEAD, map(line, board.rows)))
        left = [job.name for job in jobs if not job.done(board.rows, how)]
        print(f"left for another call: {', '.join(left) or 'nothing'}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rows", nargs="*", help="names of cells, or the beginnings of names; all, if none is given")
    parser.add_argument(
        "--list", action="store_true", help="print the cells and how long each is foretold to take here"
    )
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/papers.md from the results")
    parser.add_argument("--results", type=Path, nargs="+", default=[Path("papers.jsonl")], help="rows that are done")
    parser.add_argument("--state", type=Path, default=Path("papers-state"), help="what cells go on from, and logs")
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--weights", type=Path, default=SHARED, help="folder with the published weights")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["no", "bf16"], help="bf16 on a GPU, unless given")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, help="of every cell; its own, unless given")
    parser.add_argument("--images", type=int, default=0, help="training images, the first; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side, each in a process of its own")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no cell begins or goes on")
    return parser.parse_args()


def how_of(given: argparse.Namespace) -> How:
    """What all cells have in common."""
    precision = given.precision or ("bf16" if given.device.startswith("cuda") else "no")
    threads = max(1, (len(os.sched_getaffinity(0)) if given.device.startswith("cuda") else torch.get_num_threads())
                  // given.jobs)  # fmt: skip
    return How(
        given.data, given.weights, given.state, given.device, precision, given.batch, given.epochs, given.images,
        threads, time.time() + 60 * given.minutes,
    )  # fmt: skip


def chosen(names: Sequence[str]) -> list[Cell]:
    """Cells of these rows, each after the one that it begins with, in the order of the names."""
    found: dict[str, Cell] = {}
    for name in names or ROWS:
        cells = [cell for cell in CELLS.values() if fnmatch(f"{cell.name}/", f"{name}/*")]
        if not cells:
            sys.exit(f"no row is called '{name}'; there are {', '.join(CELLS)}.")
        for cell in cells:
            found |= {each.name: each for each in ([CELLS[cell.needs]] if cell.needs else []) + [cell]}
    return list(found.values())


@dataclass(frozen=True)
class Job:
    """A cell with a seed."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        return f"{self.cell.name} seed {self.seed}"

    def begins_with(self, other: "Job") -> bool:
        """Whether its weights are those that the other trains."""
        return (self.cell.needs, self.seed) == (other.cell.name, other.seed)

    def ready(self, how: How) -> bool:
        """Whether the weights that it begins with are there."""
        return not self.cell.needs or kept_weights(self.cell.needs, self.seed, how).exists()

    def done(self, rows: Iterable[Row], how: How) -> bool:
        """Whether it is among the results."""
        key = {"cell": self.cell.name, "seed": self.seed, "epochs": how.epochs or self.cell.epochs,
               "images": how.images or TRAIN_IMAGES, "batch": how.batch, "precision": how.precision}  # fmt: skip
        return any(key.items() <= row.items() for row in rows)


def unfinished(jobs: Sequence[Job], rows: Sequence[Row], how: How) -> list[Job]:
    """Those that are not done, or whose weights are gone and needed by others that are not."""
    missing = [job for job in jobs if not job.done(rows, how)]

    def again(job: Job) -> bool:
        needed = any(other.begins_with(job) for other in missing)
        return needed and not kept_weights(job.cell.name, job.seed, how).exists()

    return [job for job in jobs if job in missing or again(job)]


# ---- how long
@dataclass(frozen=True)
class Pace:
    """Seconds of one step: so many a weight, and so many a multiply-add of a forward."""

    weight: float
    mac: float

    @classmethod
    def measured(cls, how: How) -> "Pace":
        """Of ResNet-20 here, at one image and at sixteen; on a GPU what was measured on one before."""
        if how.device.startswith("cuda"):
            return cls(3e-4, 1e-13)
        model = fresh("resnet20", 0).train()
        one, some = (min(step_seconds(model, n) for _ in range(3)) for n in (2, 32))
        count, cost = counted("resnet20")
        slope = (some - one) / 30 / cost
        return cls(max(0.0, one - 2 * cost * slope) / count, slope)

    def seconds(self, cell: Cell, how: How) -> float:
        """Of a whole cell, alone."""
        images, (count, cost) = how.images or TRAIN_IMAGES, counted(cell.network)
        weights = count * ((1 if cell.plan is None else 4) + cell.taught)
        each = images / how.batch * self.weight * weights + images * self.mac * cost * (4 / 3 if cell.taught else 1)
        judged = (1 + 2 * cell.taught) * TEST_IMAGES * self.mac * cost / 3
        return cell.passes(how.epochs) * each + judged


@cache
def counted(network: str) -> tuple[int, int]:
    """Weights, and multiply-adds of one image, of a dense network."""
    model = fresh(network, 0).eval()
    return len(axes_of(model)), macs(model, torch.zeros(1, 3, 32, 32)).total


def step_seconds(model: torch.nn.Module, images: int) -> float:
    """Forward and backward."""
    began = time.perf_counter()
    model(torch.zeros(images, 3, 32, 32)).sum().backward()
    return time.perf_counter() - began


def foretell(jobs: Sequence[Job], how: How, pace: Pace) -> None:
    """Print how long each is to take."""
    total = 0.0
    for job in jobs:
        seconds = pace.seconds(job.cell, how)
        total += seconds
        print(f"{job.name:45} {job.cell.passes(how.epochs):5.0f} epochs  {duration(seconds):>8}")
    print(f"{len(jobs)} cells, one after the other: {duration(total)}", flush=True)


def duration(seconds: float) -> str:
    """`3.2 h`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


# ---- side by side
@dataclass
class Board:
    """What is still to be run, and what is done; threads take jobs from it, each with a process of its own.

    Attributes:
        slow: how many times longer cells took here than was foretold, at least; those at the end have the device to
            themselves.
    """

    pending: list[Job]
    rows: list[Row]
    how: How
    pace: Pace
    results: Path
    running: list[Job] = field(default_factory=list)
    slow: float | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def run(self, count: int) -> None:
        """All jobs, so many side by side."""
        threads = [threading.Thread(target=self.work, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def work(self) -> None:
        """One job after another. What one raises is written down, and the next has a new process."""
        pool = new_process()
        while (job := self.taken()) is not None:
            row = None
            try:
                row = pool.submit(run, job.cell.name, job.seed, self.how).result()
                print(f"{job.name}: {'time is up' if row is None else json.dumps(row)}", flush=True)
            except Exception:  # noqa: BLE001  (of a cell or of its process: the other cells go on)
                (self.how.state / f"{job.name}.log".replace("/", "-")).write_text(traceback.format_exc())
                print(f"{job.name}: failed\n{traceback.format_exc(limit=-2)}", flush=True)
                pool.shutdown(wait=False, cancel_futures=True)
                pool = new_process()
            self.finished(job, row)
        pool.shutdown()

    def taken(self) -> Job | None:
        """The first job that can begin and be done in time, once there is one; None where there will be none."""
        with self.changed:
            while True:
                for job in self.pending:
                    if job.ready(self.how) and self.in_time(job):
                        self.pending.remove(job)
                        self.running.append(job)
                        return job
                if not any(job.begins_with(other) for job in self.pending for other in self.running):
                    return None
                self.changed.wait()

    def in_time(self, job: Job) -> bool:
        """Whether it would be done before the time is up, as far as those that are done tell."""
        return time.time() + (self.slow or 0.0) * self.pace.seconds(job.cell, self.how) < self.how.until

    def finished(self, job: Job, row: Row | None) -> None:
        """Keep the row of a job, which others may have waited for."""
        with self.changed:
            self.running.remove(job)
            if row is not None:
                self.rows.append(row)
                appended(self.results, row)
                took = row["seconds"] / self.pace.seconds(job.cell, self.how)
                self.slow = took if self.slow is None else min(self.slow, took)
            self.changed.notify_all()


def new_process() -> ProcessPoolExecutor:
    """One process, which ends with this one."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=ends_with, initargs=(os.getpid(),))


def ends_with(parent: int) -> None:
    """End this process once its parent has, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ---- results
def kept(path: Path) -> list[Row]:
    """The rows of a file; a line that a kill cut off is no row."""
    if not path.exists():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.endswith("}")]


def appended(path: Path, row: Row) -> None:
    """Add a row to a file, on a line of its own, whatever a kill has left there: in one piece, and to the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{json.dumps(row)}\n")
        file.flush()
        os.fsync(file.fileno())


NOTE = """`reproduced`: as the paper says, or within 0.3 points of its figure; `beaten`: more than 0.3 points above it;
`within noise`: two that are compared lie within 0.3 points. Ten or fifteen epochs, where the papers train for a hundred
or more: what is `not reached` so soon is not refuted. Weights in cores are rebuilt in training (one stage), `ht2`
aside, so multiply-adds are those of the dense network."""
HEAD = ("cell", "seed", "times fewer parameters", "MACs", "top-1", "dense", "change", "before training",
        "optimiser, rate", "epochs", "images", "batch, precision", "seconds an epoch", "device")  # fmt: skip


def line(row: Row) -> tuple[str, ...]:
    """A run in the table of all."""
    dense = row["dense"]
    return (
        row["cell"], str(row["seed"]), f"{row['ratio']:.2f}x", f"{row['macs_ratio']:.2f}x", f"{row['top1']:.2f}",
        "" if dense is None else f"{dense:.2f}", "" if dense is None else f"{row['top1'] - dense:+.2f}",
        "" if row["before"] is None else f"{row['before']:.2f}", f"{row['optimizer']}, {row['rate']}",
        str(row["epochs"]), str(row["images"]), f"{row['batch']}, {row['precision']}",
        f"{row['seconds_an_epoch']:.1f}", row["device"],
    )  # fmt: skip


def page_of(rows: Sequence[Row]) -> str:
    """The page: what became of each claim, and every run."""
    order = list(CELLS)
    runs = sorted(rows, key=lambda row: (order.index(row["cell"]), row["seed"], row["epochs"], row["images"]))
    full = [row for row in runs if row["images"] == TRAIN_IMAGES]
    few = {line(row)[:-2]: line(row) for row in runs if row["images"] < TRAIN_IMAGES}  # a run repeated is one line
    said = table(("paper", "claim", "its figure", "ours", "seeds, epochs, device", "verdict"), claims(full))
    parts = [said, NOTE, "## Every run", table(HEAD, map(line, full))]
    parts += ["## On few images\n\nThat every row works, from start to page.", table(HEAD, few.values())]
    return page("The papers' trained tables", __doc__, *parts)


if __name__ == "__main__":
    main()
