"""What each step of a calibration brings and costs, on the trained ResNet-20; nothing is trained on labels.

    python benchmarks/ladder.py --data DIR --ratios 2.5x 4x --formats ht2 cp auto --page
    python benchmarks/ladder.py --data DIR --ratios 2.5x --formats all \\
        --steps weights batch-norms metric blocks

Parameters and multiply-adds both at the ratio, of the whole network; parameters alone where a format's stages cannot
save multiply-adds. 1,000 training images and their mirror images, one draw. Each step on top of the one before, but for
`layers`, which the steps after it do not build on:

- `weights`: planned and fitted by the error of the weights, no data;
- `batch-norms`: of that network, estimated anew on the images;
- `metric`: planned and fitted so that outputs err least, means made good;
- `layers`: solved one after the other for what the dense ones gave, fed with what the compressed ones before them give;
- `blocks`: refined one by one;
- `together`: all blocks at once;
- `150-steps`: of the whole network at batch 128, on further training images.

Top-1 on all 10,000 test images, and on the second half alone; seconds of the step, on one thread with other work beside
it; the memory that the step takes at its peak beyond what was in use before it (rows of one process find the memory of
those before them free: the first row says what a step takes). Milliseconds: batch 64, lowered, batch norms folded, each
in its best layout, paired with the dense network in its best, median and spread.
"""

import argparse
import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

import tenfold
from calibration import IMAGES, SHARED, STEPS, WEIGHTS, Clock, Network, drawn, halves, kept, opened, replace_chunk
from peers import file_of, timed
from table import PAGES, page, table, written
from tenfold.api.calibrate import Calibrated, compared, counted
from tenfold.api.reconstruct import distilled
from tenfold.api.settled import settled
from tenfold.formats import BUILT_IN
from tenfold.inputs import first_samples
from tenfold.measure import Profile, macs, params
from tenfold.protocols import TenfoldError
from tenfold.recovery import reconstruct, reestimate
from tenfold.recovery.reconstruction import BlockDone, Refinement, StepDone
from tenfold.statistics import gather

PICTURE = PAGES.parent / "pictures" / "ladder.svg"
ASIDE = "layers"  # what no later step builds on
LADDER = ("weights", "batch-norms", "metric", ASIDE, "blocks", "together", "150-steps")


@dataclass
class Climb:
    """One format at one ratio, step after step.

    Attributes:
        budgets: by name.
        known: the images, and what the network showed on them.
        small: as it is after the last step.
        refining: of the blocks and then of all together, begun.
    """

    network: Network
    profile: Profile
    format: str
    budgets: Mapping[str, str]
    known: Calibrated
    small: nn.Module = field(default_factory=nn.Module)
    refining: Iterator[BlockDone | StepDone] = field(default_factory=lambda: iter(()))

    def step(self, name: str) -> nn.Module:
        """The network after a step."""
        made: nn.Module = getattr(self, name.replace("-", "_").replace("150", "last"))()
        if name != ASIDE:
            self.small = made
        return made

    def weights(self) -> nn.Module:
        """No data."""
        model, asked = self.network.model, {"format": self.format, **self.budgets}
        return tenfold.decompose(model, tenfold.plan(model, self.profile, **asked))

    def batch_norms(self) -> nn.Module:
        """Estimated anew."""
        reestimate(self.small, ((chunk.value, None) for chunk in self.known.chunks), feed=self.network.data.feed)
        return self.small

    def metric(self) -> nn.Module:
        """The better of two plans by held-out outputs, as `tenfold compress` takes it."""
        model, asked = self.network.model, {"format": self.format, **self.budgets}
        plan, small = settled(model, self.profile, self.known, **asked)
        return small or tenfold.decompose(model, plan, statistics=self.known.statistics)

    def layers(self) -> nn.Module:
        """Solved, in a copy."""
        twin = copy.deepcopy(self.small)
        how, metrics = Refinement(steps=0), self.known.statistics.metrics
        for _ in self.reconstruction(twin, how=how, solve=True, together=0, metrics=metrics):
            pass
        return twin

    def blocks(self) -> nn.Module:
        """Refined."""
        self.refining = self.reconstruction(self.small)
        for done in self.refining:
            if isinstance(done, BlockDone) and done.step == done.steps:
                break
        return self.small

    def together(self) -> nn.Module:
        """All at once."""
        for _ in self.refining:
            pass
        return self.small

    def last_steps(self) -> nn.Module:
        """On further images."""
        for _ in distilled(self.network.model, self.small, self.known, STEPS):
            pass
        return self.small

    def reconstruction(self, small: nn.Module, **how: Any) -> Iterator[BlockDone | StepDone]:
        """On the images."""
        return reconstruct(self.network.model, small, self.known.chunks, outputs=self.known.outputs, **how)


def budgets(network: Network, profile: Profile, form: str, ratio: str) -> dict[str, str]:
    """Both, or parameters alone where the format cannot meet both."""
    both = {"params": ratio, "macs": ratio}
    try:
        tenfold.plan(network.model, profile, format=form, **both)
    except TenfoldError:
        return {"params": ratio}
    return both


def measured(network: Network, form: str, ratio: str, steps: Sequence[str], models: Path) -> dict[str, Any]:
    """Top-1, seconds and memory of each step; the network kept for its time."""
    model, data = network.model, network.data
    few, rest = drawn(data, 0)
    chunks, outputs = first_samples(model, few, 2 * IMAGES), compared(data)
    found: dict[str, Any] = {"seconds": {}, "megabytes": {}, "top1": {}}
    with Costs(found, "statistics"):
        statistics = gather(model, chunks, outputs=outputs)
    further = [replace_chunk(chunks[0], batch) for _, batch in zip(range(STEPS + 2), rest, strict=False)]
    known = Calibrated(chunks, outputs, counted(data), further, statistics)
    profile = tenfold.inspect(model, next(iter(data.inputs))[:1])
    climb = Climb(network, profile, form, budgets(network, profile, form, ratio), known)
    for name in steps:
        with Costs(found, name):
            made = climb.step(name)
        found["top1"][name] = halves(made, list(data.test), data)
        print(form, ratio, name, *(found[key][name] for key in ("top1", "seconds", "megabytes")), flush=True)
    models.mkdir(parents=True, exist_ok=True)
    lowered = tenfold.lower(climb.small)
    torch.save(lowered, file_of(models, form, ratio, 0))
    cost = macs(tenfold.lower(climb.small, fold=False), next(iter(data.inputs))[:1]).total
    return {"params": profile.params / params(climb.small), "macs": (profile.macs or 0) / cost, **found}


class Costs:
    """Seconds and megabytes of a step, noted."""

    def __init__(self, found: dict[str, Any], name: str) -> None:
        self.found, self.name = found, name

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        self.before = peak()
        self.clock = Clock(self.found["seconds"])

    def __exit__(self, *_: object) -> None:
        self.clock.stop(self.name)
        self.found["megabytes"][self.name] = round(peak() - self.before)


def peak() -> float:
    """Megabytes in use at the peak since it was counted anew."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    network = opened(given)
    names = [*BUILT_IN, "auto"] if given.formats == ["all"] else given.formats
    for ratio in given.ratios:
        for form in names:
            if any((row["method"], row["ratio"]) == (form, ratio) for row in kept(given.results)):
                continue
            row = {"method": form, "ratio": ratio, "seed": 0,
                   **measured(network, form, ratio, given.steps, given.models)}  # fmt: skip
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
    if given.page:
        show(network, given.results, given.models)


def show(network: Network, results: Path, models: Path) -> None:
    """The page, its tables and the picture; networks are timed."""
    rows = kept(results)
    climbed = [row for row in rows if LADDER[-1] in row["top1"]]
    ratios = list(dict.fromkeys(row["ratio"] for row in rows))
    times = {ratio: timed(network.model, models, ratio, rows) for ratio in ratios}
    costs = ("format", "ratio", "statistics", *LADDER)
    parts = [
        "## Formats, without data and with it", table(FORMATS, formats(rows, times)),
        "## Step by step", table(("format", "ratio", *LADDER), steps(climbed, "top1")),
        "![top-1 after each step](../pictures/ladder.svg)",
        "## What a step costs", "Seconds:", table(costs, steps(climbed, "seconds")),
        "Megabytes:", table(costs, steps(climbed, "megabytes")), "Dense: 91.73.",
    ]  # fmt: skip
    text = page("Step by step: what calibration brings and costs", __doc__, *parts)
    print(text)
    written("ladder", text)
    if climbed:
        draw(climbed)


SHOWN = "weights", "batch-norms", "metric", "blocks"
FORMATS = ("format", "ratio", "params / MACs", *SHOWN, "gained", "ms", "dense ms", "times faster")


def formats(rows: Sequence[Mapping[str, Any]], times: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line for each row that has all of these steps; the most gained first."""
    whole = [row for row in rows if all(name in row["top1"] for name in SHOWN)]
    for row in sorted(whole, key=lambda row: (row["ratio"], gained(row)), reverse=True):
        took, dense = (times[row["ratio"]].get(name) for name in (row["method"], "dense"))
        yield (
            row["method"], row["ratio"], f"{row['params']:.2f} / {row['macs']:.2f}",
            *(f"{row['top1'][name][0]:.2f}" for name in SHOWN), f"{gained(row):+.1f}",
            f"{took['ms']:.1f} ({took['spread']:.1f})", f"{dense['ms']:.1f}", f"{took['gain']:.2f}",
        )  # fmt: skip


def gained(row: Mapping[str, Any]) -> float:
    """Points that refined blocks left more than weights alone, batch norms estimated anew where that is better."""
    top1 = {name: each[0] for name, each in row["top1"].items()}
    return float(top1["blocks"] - max(top1["weights"], top1["batch-norms"]))


def steps(rows: Sequence[Mapping[str, Any]], what: str) -> Iterator[tuple[str, ...]]:
    """A line for each row, a number a step."""
    names = LADDER if what == "top1" else ("statistics", *LADDER)
    for row in rows:
        found = (row[what].get(name) for name in names)
        said = ("-" if each is None else f"{each[0]:.2f}" if what == "top1" else f"{each:.0f}" for each in found)
        yield (row["method"], row["ratio"], *said)


def draw(rows: Sequence[Mapping[str, Any]]) -> None:
    """Top-1 after each step."""
    ratios = sorted({row["ratio"] for row in rows})
    figure = Figure(figsize=(8, 3.6))
    for ax, ratio in zip(figure.subplots(1, len(ratios), sharey=True, squeeze=False)[0], ratios, strict=True):
        for row in rows:
            if row["ratio"] == ratio:
                names = [name for name in LADDER if name != ASIDE and name in row["top1"]]
                ax.plot(names, [row["top1"][name][0] for name in names], marker="o", label=row["method"])
        ax.axhline(91.73, color="#888", linewidth=0.8, linestyle="--")
        ax.set_title(f"{ratio} fewer parameters and multiply-adds")
        ax.tick_params(axis="x", rotation=40)
        ax.grid(color="#e5e5e5")
    figure.axes[0].set_ylabel("top-1")
    figure.axes[0].legend(frameon=False)
    figure.savefig(PICTURE, bbox_inches="tight", facecolor="white", metadata={"Date": None})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--network", default="resnet20", choices=WEIGHTS)
    parser.add_argument("--weights", type=Path, default=SHARED / WEIGHTS["resnet20"])
    parser.add_argument("--ratios", nargs="+", default=["2.5x", "4x"])
    parser.add_argument("--formats", nargs="+", default=["ht2", "cp", "auto"], help="or all")
    parser.add_argument("--steps", nargs="+", default=LADDER, choices=LADDER)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("ladder.jsonl"), help="rows that are done")
    parser.add_argument("--models", type=Path, default=Path("ladder-models"), help="networks, kept for their times")
    parser.add_argument(
        "--page", action="store_true", help="time them, write docs/benchmarks/ladder.md and its picture"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
