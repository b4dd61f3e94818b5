"""ResNet-20 compressed by peers' methods and by tenfold: one run, the same weights, images, budgets and counting.

    pip install tensorly-torch
    python benchmarks/peers.py --data DIR --ratios 1.5x 2.5x 4x
    python benchmarks/peers.py --time

CIFAR-10, published weights, no labels, nothing trained on a loss of labels. Parameters and multiply-adds of the whole
network are both at the ratio or beyond it; both are counted on what came out, by torch. `Tucker` and `CP`:
tensorly-torch's factorised convolutions, made from all 3x3 ones but the first with its defaults; one share of the
parameters everywhere, the largest within both budgets; no data. `whitened SVD`: BALF's method (arXiv:2509.25136) with
tenfold's layers: every kernel as the matrix (o, i h w) whitened by the second moment of its patches, ranks by one
multiplier on the shares of the squared norm that are kept. `tenfold`: `auto`, calibrated, blocks refined one by one and
all together, no steps afterwards. The last two see 1,000 training images with their mirror images, another draw for
each seed.

Top-1 on all 10,000 test images and on the second half (tenfold's settings were settled on the first), as it comes out
and with batch norms estimated anew on the thousand images under the crops and flips of the training. Seconds of
processor time to compress, with all that a method needs. Milliseconds of a batch of 64: median and distance between the
quartiles, every network in the faster of the contiguous and the channels_last layout, batch norms folded where that can
be; all networks of a ratio and the dense one in turn, in one process; and how many times as long the dense one takes,
round by round.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import tenfold
from calibration import IMAGES, SHARED, Mirrored, Network, drawn, halves, kept, opened, spread
from table import page, table, written
from tenfold import surgery
from tenfold.api.calibrate import compared
from tenfold.data.batches import Batches
from tenfold.fitting import Metric
from tenfold.inputs import evaluating, first_samples
from tenfold.measure.timing import paired, ratio
from tenfold.recovery import reconstruct, reestimate
from tenfold.statistics import gather
from tenfold.surgery import Plan, Row

try:
    import tltorch
except ImportError:
    tltorch = None

BATCH, ROUNDS = 64, 40
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
HEAD = ("ratio", "method", "params / MACs", "seeds", "top-1", "second half", "batch norms anew", "second half",
        "seconds", "ms a batch", "dense, ms", "dense over it")  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Parameters, and multiply-adds of one image."""

    params: int
    macs: int

    @staticmethod
    def of(model: nn.Module) -> "Sizes":
        """Counted by torch."""
        counter = FlopCounterMode(display=False)
        with evaluating(model), counter:
            model(torch.zeros(1, 3, 32, 32))
        return Sizes(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)

    def over(self, other: "Sizes") -> tuple[float, float]:
        """How many times as large as another."""
        return self.params / other.params, self.macs / other.macs


@dataclass(frozen=True)
class Task:
    """A network to be compressed so many times, and 1,000 unlabelled images with their mirror images."""

    network: Network
    ratio: str
    seed: int

    @property
    def times(self) -> float:
        """The ratio as a number."""
        return float(self.ratio.rstrip("x"))

    @cached_property
    def images(self) -> Mirrored:
        """Those that are calibrated on."""
        return drawn(self.network.data, self.seed)[0]

    def fits(self, small: nn.Module) -> bool:
        """Whether both budgets are met."""
        return min(Sizes.of(self.network.model).over(Sizes.of(small))) >= self.times


# ---- the methods
def factorised(task: Task, factorization: str) -> nn.Module:
    """tensorly-torch's layers at the largest share of the parameters that is within both budgets."""
    if tltorch is None:
        raise SystemExit(
            "the rows of tensorly-torch need it: pip install tensorly-torch, or leave them out (--methods)."
        )
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        share = (low + high) / 2
        small = exchanged(task, factorization, share, decompose_weights=False)
        low, high = (share, high) if task.fits(small) else (low, share)
    return exchanged(task, factorization, low)


def exchanged(task: Task, factorization: str, share: float, *, decompose_weights: bool = True) -> nn.Module:
    """A copy with every convolution but the first in tensorly-torch's layer."""
    small = copy.deepcopy(task.network.model)
    convolutions = [(name, module) for name, module in small.named_modules() if isinstance(module, nn.Conv2d)]
    for name, module in convolutions[1:]:
        layer = tltorch.FactorizedConv.from_conv(
            module,
            rank=share,
            factorization=factorization,
            implementation="factorized",
            fixed_rank_modes="spatial" if factorization == "tucker" else None,
            decompose_weights=decompose_weights,
            decomposition_kwargs={"random_state": task.seed},
        )
        small.set_submodule(name, layer)
    return small


@dataclass(frozen=True)
class Whitened:
    """The weight of a layer as a matrix, the moment of what it meets, and the output positions of one image."""

    matrix: Tensor
    moment: Tensor
    positions: int

    @cached_property
    def shares(self) -> Tensor:
        """Of the squared norm of the whitened matrix, what each rank from 1 keeps."""
        values, vectors = torch.linalg.eigh(self.moment)
        whitened = self.matrix.double() @ (vectors * values.clamp_min(0).sqrt())
        energies = torch.linalg.svdvals(whitened).square().cumsum(0)
        return energies / energies[-1]

    @property
    def params(self) -> Tensor:
        """At each rank; never more than dense."""
        o, i = self.matrix.shape
        return (torch.arange(1, min(o, i) + 1) * (o + i)).clamp_max(o * i)


def whitened_svd(task: Task) -> nn.Module:
    """BALF's method: one multiplier on multiply-adds, the smallest that is within both budgets."""
    model = task.network.model
    layers = seen(model, task.images)
    whole = Sizes.of(model)
    spared = whole.params - sum(each.matrix.numel() for each in layers.values())

    def ranks(multiplier: float) -> dict[str, int]:
        return {
            name: 1 + int((each.shares - multiplier * each.params * each.positions / whole.macs).argmax())
            for name, each in layers.items()
        }

    def fits(chosen: Mapping[str, int]) -> bool:
        costs = [(int(layers[name].params[rank - 1]), layers[name].positions) for name, rank in chosen.items()]
        params, macs = spared + sum(n for n, _ in costs), sum(n * positions for n, positions in costs)
        return min(Sizes(params, macs).over(whole)) > 0 and max(Sizes(params, macs).over(whole)) <= 1 / task.times

    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(ranks(middle)) else (middle, high)
    rows = {name: row(name, layers[name], rank) for name, rank in ranks(high).items()}
    axes = {name: "i h w" if isinstance(model.get_submodule(name), nn.Conv2d) else "i" for name in layers}
    metrics = {name: Metric({axes[name]: each.moment}) for name, each in layers.items()}
    return surgery.decompose(model, Plan(rows), metrics)


def row(name: str, layer: Whitened, rank: int) -> Row:
    """Two factors, or dense where these are not smaller."""
    o, i = layer.matrix.shape
    return Row(name, "svd", ranks=(rank,)) if rank * (o + i) < o * i else Row(name)


def seen(model: nn.Module, batches: Mirrored) -> dict[str, Whitened]:
    """Every convolution and linear layer with the second moment of all that it meets."""
    moments: dict[str, Tensor] = {}
    positions: dict[str, int] = {}

    def watching(name: str) -> Callable[..., None]:
        def see(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
            (x,) = args
            if isinstance(module, nn.Conv2d):
                x = functional.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride).mT
            rows = x.flatten(0, -2)
            moments[name] = moments.get(name, 0) + (rows.mT @ rows).double()
            positions[name] = result[0].numel() // len(module.weight)

        return see

    watched = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    hooks = [module.register_forward_hook(watching(name)) for name, module in watched.items()]
    with evaluating(model):
        for batch in batches:
            model(batch)
    for hook in hooks:
        hook.remove()
    return {
        name: Whitened(module.weight.detach().flatten(1), moments[name], positions[name])
        for name, module in watched.items()
    }


def ours(task: Task) -> nn.Module:
    """Planned and fitted in the two-sided metric, then refined block after block."""
    model, data = task.network.model, task.network.data
    outputs = compared(data)
    chunks = first_samples(model, task.images, 2 * IMAGES)
    statistics = gather(model, chunks, outputs=outputs, seed=task.seed)
    profile = tenfold.inspect(model, torch.zeros(1, 3, 32, 32))
    plan = tenfold.plan(model, profile, params=task.ratio, macs=task.ratio, metrics=statistics.metrics, seed=task.seed)
    small = tenfold.decompose(model, plan, statistics=statistics, seed=task.seed)
    for _ in reconstruct(model, small, chunks, outputs=outputs, seed=task.seed):
        pass
    return small


METHODS: dict[str, Callable[[Task], nn.Module]] = {
    "tensorly-torch, Tucker": partial(factorised, factorization="tucker"),
    "tensorly-torch, CP": partial(factorised, factorization="cp"),
    "whitened SVD (BALF)": whitened_svd,
    "tenfold": ours,
}


# ---- what is measured
def measured(task: Task, method: str, models: Path) -> dict[str, Any]:
    """One row, and the network as it runs kept for its times."""
    began = time.process_time()
    small = METHODS[method](task).eval()
    seconds = time.process_time() - began
    params, macs = Sizes.of(task.network.model).over(Sizes.of(as_it_runs(small, fold=False)))
    models.mkdir(parents=True, exist_ok=True)
    torch.save(as_it_runs(small), file_of(models, method, task.ratio, task.seed))
    test = list(task.network.data.test)
    plain = halves(small, test, task.network.data)
    reestimate(small, augmented(task), feed=task.network.data.feed)
    anew = halves(small, test, task.network.data)
    return {"method": method, "ratio": task.ratio, "seed": task.seed, "params": params, "macs": macs, "top1": plain,
            "anew": anew, "seconds": seconds}  # fmt: skip


def as_it_runs(small: nn.Module, *, fold: bool = True) -> nn.Module:
    """In plain modules, batch norms folded; tensorly-torch's layers are left to run as they are."""
    if tltorch is not None and any(isinstance(module, tltorch.FactorizedConv) for module in small.modules()):
        return copy.deepcopy(small)
    return tenfold.lower(small, fold=fold)


def augmented(task: Task) -> Iterator[tuple[Tensor, None]]:
    """The thousand images under the crops and flips of the training, four times."""
    train: Any = task.network.data.train
    mean, std = (value.flatten().tolist() for value in (train.mean, train.std))
    order = task.images.batches.order
    again = Batches(train.images, None, mean=mean, std=std, batch_size=125, augment=train.augment, order=order,
                    seed=task.seed)  # fmt: skip
    for _ in range(4):
        yield from ((images, None) for images in again)


def file_of(models: Path, method: str, ratio: str, seed: int) -> Path:
    """Where a network is kept."""
    return models / f"{method.replace(', ', '-').replace(' ', '-')}-{ratio}-{seed}.pt"


def timed(dense: nn.Module, models: Path, ratio_asked: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Milliseconds of every network of a ratio, of the first seed that is kept, and of the dense one."""
    nets = {"dense": tenfold.lower(dense)}
    for each in rows:
        path = file_of(models, each["method"], ratio_asked, each["seed"])
        if each["ratio"] == ratio_asked and each["method"] not in nets and path.exists():
            nets[each["method"]] = torch.load(path, weights_only=False)
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, generator=draw)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, net in nets.items():
        for layout, order in LAYOUTS.items():
            twin = copy.deepcopy(net).eval().to(memory_format=order)
            runs[name, layout] = partial(twin, images.contiguous(memory_format=order))
    with torch.no_grad():
        times = paired({f"{name}/{layout}": run for (name, layout), run in runs.items()}, repeats=ROUNDS)
    best = {
        name: min((times[f"{name}/{layout}"] for layout in LAYOUTS), key=lambda timing: timing.median) for name in nets
    }
    found = {}
    for name, timing in best.items():
        gain = ratio(best["dense"], timing)
        found[name] = {"ms": 1e3 * timing.median, "spread": 1e3 * timing.spread, "gain": gain.median,
                       "gain spread": gain.spread, "threads": timing.threads}  # fmt: skip
    return found


def summary(rows: Sequence[Mapping[str, Any]], times: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line for each ratio and method."""
    groups: dict[tuple[float, str], list[Mapping[str, Any]]] = {}
    for each in rows:
        groups.setdefault((float(each["ratio"].rstrip("x")), each["method"]), []).append(each)
    for number, method in sorted(groups, key=lambda key: (key[0], [*METHODS].index(key[1]))):
        group = groups[number, method]
        first = group[0]
        took, dense = (times.get(first["ratio"], {}).get(name) for name in (method, "dense"))
        speed = ("-", "-", "-")
        if took and dense:
            speed = (f"{took['ms']:.1f} ({took['spread']:.1f})", f"{dense['ms']:.1f} ({dense['spread']:.1f})",
                     f"{took['gain']:.2f} ({took['gain spread']:.2f})")  # fmt: skip
        yield (
            first["ratio"], method, f"{first['params']:.2f} / {first['macs']:.2f}", str(len(group)),
            *(spread([each[key][half] for each in group]) for key in ("top1", "anew") for half in (0, 1)),
            f"{sum(each['seconds'] for each in group) / len(group):.0f}", *speed,
        )  # fmt: skip


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    network = opened(given)
    for seed in given.seeds:
        for asked in given.ratios:
            for method in given.methods:
                key = (method, asked, seed)
                if any((done["method"], done["ratio"], done["seed"]) == key for done in kept(given.results)):
                    continue
                found = measured(Task(network, asked, seed), method, given.models)
                print(json.dumps(found), flush=True)
                with given.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    rows, path = kept(given.results), given.results.with_suffix(".times.json")
    times = json.loads(path.read_text()) if path.exists() else {}
    for asked in given.ratios:
        if given.time or asked not in times:
            times[asked] = timed(network.model, given.models, asked, rows)
            path.write_text(json.dumps(times))
    threads = sorted({each["threads"] for found in times.values() for each in found.values()})
    note = f"Dense: 91.73. Spread over seeds: largest less smallest. Milliseconds with {threads} threads."
    text = page("Beside peers", __doc__, table(HEAD, summary(rows, times)), note)
    print(text)
    if given.page:
        written("peers", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--weights", type=Path, default=SHARED / "resnet20-12fca82f.th")
    parser.add_argument("--ratios", nargs="+", default=["1.5x", "2.5x", "4x"])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("peers.jsonl"), help="rows that are done")
    parser.add_argument("--models", type=Path, default=Path("peers-models"), help="networks, kept for their times")
    parser.add_argument("--time", action="store_true", help="time all networks that are kept again")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/peers.md")
    parser.set_defaults(network="resnet20")
    return parser.parse_args()


if __name__ == "__main__":
    main()
