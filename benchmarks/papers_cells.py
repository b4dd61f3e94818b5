"""The networks of `papers`: what each is, and how one is trained, judged, and goes on after a stop."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

import tenfold
from ada_scada import size
from fits import evened, without_idle
from scratch import row_of
from tenfold.data import load_data
from tenfold.data.batches import Batches
from tenfold.formats import HT, STR, STT, SVD, TR, TT, ADATucker, Format, SCADATucker, Tucker2
from tenfold.measure import inspect, macs, params
from tenfold.measure.score import score
from tenfold.models import load_weights, zoo_model
from tenfold.network import TensorNetwork
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery.checkpoint import remove
from tenfold.surgery import Plan, Row, laid_out, sites

FACTORS = {16: (4, 2, 2), 32: (4, 4, 2), 64: (4, 4, 4), 128: (8, 4, 4), 256: (8, 8, 4),
           160: (4, 5, 8), 320: (5, 8, 8), 640: (8, 8, 10)}  # fmt: skip
PUBLISHED = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th", "resnet56": "resnet56-4bfd9763.th"}
ENERGIES = 0.9, 0.8, 0.7, 0.6, 0.5
SGD, ADAM = "sgd", "adam"
SCRATCH = ((SGD, 0.4), (ADAM, 0.003), (ADAM, 0.01))
TUNED = ((SGD, 0.04),)  # 0.02 at batch 128, settled before (resnet20-finetune), times the root of 512 / 128
CALIBRATED = ((SGD, 0.004),)  # a tenth of it
DECAY = {SGD: 5e-4, ADAM: 0.0}
SAMPLES = 2000  # unlabelled, of a calibration
TRAIN_IMAGES = 45_000
TRIAL_SEED, TRIAL = 9, 0.1  # of the epochs

Planner = Callable[[nn.Module], Plan]


@dataclass(frozen=True)
class Cell:
    """A network that is trained and judged.

    Attributes:
        name: row, network, and what becomes of it.
        network: of the zoo, or of `NETWORKS`.
        plan: what becomes of its weights; None: they stay dense.
        start: `scratch`; or trained weights, decomposed, and batch norms estimated anew (`norms`), or calibrated on
            2,000 unlabelled images (`calibrated`).
        epochs: unless others are asked for.
        rates: optimisers with their rates; of several, that which is best on the validation images after a tenth of
            the epochs, from another seed.
        needs: the cell whose weights it begins with; none: published ones, or none.
    """

    name: str
    network: str
    plan: Planner | None = None
    start: str = "scratch"
    epochs: int = 10
    rates: tuple[tuple[str, float], ...] = SCRATCH
    needs: str = ""

    @property
    def taught(self) -> bool:
        """Whether the dense network teaches."""
        return self.start != "scratch"

    def passes(self, epochs: int | None) -> float:
        """Epochs with those of trials."""
        whole = epochs or self.epochs
        return whole + (len(self.rates) * trial_epochs(whole) if len(self.rates) > 1 else 0)


@dataclass(frozen=True)
class How:
    """On what, and with what, cells are run.

    Attributes:
        data, weights: folders with `cifar10/`, and with the published weights.
        state: folder by which stopped cells go on.
        images: training images, the first in a fixed order; 0: all 45,000.
        until: seconds since the epoch at which a cell ends after its epoch.
    """

    data: str
    weights: Path
    state: Path
    device: str
    precision: str
    batch: int
    epochs: int | None
    images: int
    threads: int
    until: float


class OutOfTimeError(Exception):
    """The time is up; what was learnt is kept."""


# ---- networks
def six_kernels_three_matrices() -> nn.Module:
    """Like the network of Garipov et al. (2016): 1.1 million weights in kernels, 5.3 in three matrices."""
    layers: list[nn.Module] = []
    widths = (3, 64, 64, 128, 128, 256, 256)
    for k, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if k % 2 else []
    layers.append(nn.Flatten())
    for before, after in ((4096, 1024), (1024, 1024)):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"six-three": six_kernels_three_matrices}


def fresh(network: str, seed: int) -> nn.Module:
    """A dense network as its training begins."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[network]() if network in NETWORKS else zoo_model(network).build()


def axes_of(model: nn.Module) -> dict[str, Mapping[str, int]]:
    """The axes of every weight that the papers decompose: all but the first and the last."""
    return {name: site.axes for name, site in list(sites(model).items())[1:-1]}


# ---- plans
def digits(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Slow and fast digit of every mode."""
    return tuple(x for n in sizes for x in ((n // 2, 2) if n % 2 == 0 else (n, 1)))


def chained(model: nn.Module, *, maker: Format, rank: int, dealt: str = "") -> Plan:
    """Every kernel at one rank that no useful size caps, as the paper counts; `dealt`: axes whose modes are digits."""
    rows = {}
    for name, axes in axes_of(model).items():
        modes = {axis: digits(FACTORS[axes[axis]]) if axis in dealt else FACTORS[axes[axis]] for axis in "io"}
        net = maker.network(axes, None, modes)
        rows[name] = row_of(axes, name, maker, net.with_ranks([rank] * len(net.bonds)), modes=modes)
    return Plan(rows)


def no_larger(model: nn.Module, *, maker: Format, than: Planner) -> Plan:
    """The largest common rank at which the network holds no more numbers than by another plan."""
    most = held(model, than(model))
    rank = 1
    while held(model, chained(model, maker=maker, rank=rank + 1)) <= most:
        rank += 1
    return chained(model, maker=maker, rank=rank)


def held(model: nn.Module, plan: Plan) -> int:
    """Numbers in planned weights."""
    axes = axes_of(model)
    return sum(row.network(axes[name]).params for name, row in plan.rows.items())


def by_energy(model: nn.Module, *, energy: float) -> Plan:
    """HT-2 at an energy."""
    return tenfold.plan(model, inspect(model, torch.zeros(1, 3, 32, 32)), energy=energy, format="ht2")


def each_at(model: nn.Module, *, kernels: tuple[Format, float], matrices: tuple[Format, float]) -> Plan:
    """Every weight so many times smaller, ranks as equal as that allows."""
    rows = {}
    for name, axes in axes_of(model).items():
        maker, times = kernels if "h" in axes else matrices
        net = evened(without_idle(maker.network(axes)), math.prod(axes.values()) / times)
        assert net is not None, (name, maker, times)
        rows[name] = row_of(axes, name, maker, net)
    return Plan(rows)


def one_larger(ranks: Sequence[int], most: Sequence[int]) -> list[list[int]]:
    """The same ranks with one of them larger, the smallest first."""
    grown = sorted(range(len(ranks)), key=lambda k: ranks[k])
    return [[rank + (j == k) for j, rank in enumerate(ranks)] for k in grown if ranks[k] < most[k]]


def one_core_a_shape(model: nn.Module, *, times: float) -> Plan:
    """SCADA-Tucker: one core for all weights of one shape, so many times smaller together."""
    maker = SCADATucker(order=3, sweeps=10, starts=2)
    groups: dict[tuple[int, ...], dict[str, TensorNetwork]] = {}
    axes = axes_of(model)
    for name, each in axes.items():
        groups.setdefault(tuple(each.values()), {})[name] = maker.network(each)
    rows: dict[str, Row] = {}
    for shape, nets in groups.items():
        most = [next(iter(nets.values())).sizes[mode] for mode in next(iter(nets.values())).modes]
        ranks, budget = [1] * 3, len(nets) * math.prod(shape) / times
        while grown := [more for more in one_larger(ranks, most) if size(nets, more) <= budget]:
            ranks = grown[0]
        group = "x".join(map(str, shape)) if len(nets) > 1 else None
        rows |= {n: row_of(axes[n], n, maker, net.with_ranks(ranks), group=group) for n, net in nets.items()}
    return Plan({name: rows[name] for name in axes})


# ---- cells
def every_cell() -> dict[str, Cell]:
    """All cells by name, in the order in which they are worth running."""
    pairs, semi = TT(layout="pairs"), STT(layout="pairs")
    stt = partial(chained, maker=semi, rank=7, dealt="o")
    cells = [
        Cell("stt/resnet32/dense", "resnet32", epochs=15),
        Cell("stt/resnet32/stt-t2", "resnet32", stt, epochs=15),
        Cell("stt/resnet32/tt-r14", "resnet32", partial(chained, maker=pairs, rank=14), epochs=15),
        Cell("stt/resnet32/tt-equal", "resnet32", partial(no_larger, maker=pairs, than=stt), epochs=15),
    ]
    for network in ("resnet20", "resnet32", "resnet56"):
        for start, rates in (("norms", TUNED), ("calibrated", CALIBRATED)):
            cells += [
                Cell(f"ht2/{network}/{e}-{start}", network, partial(by_energy, energy=e), start, rates=rates)
                for e in ENERGIES
            ]
    for network in ("wrn16-4", "wrn28-10"):
        str_ = partial(chained, maker=STR(), rank=8, dealt="io")
        cells += [
            Cell(f"str/{network}/dense", network),
            Cell(f"str/{network}/str-t2", network, str_),
            Cell(f"str/{network}/tr-r16", network, partial(chained, maker=TR(), rank=16)),
            Cell(f"str/{network}/tr-equal", network, partial(no_larger, maker=TR(), than=str_)),
        ]
    ht, tt = (HT(order=2), HT(order=3)), (TT(layout="pairs", order=2), TT(layout="pairs", order=3))
    mixed = {"ht": (ht[0], ht[1]), "tt": (tt[0], tt[1]), "hybrid": (tt[0], ht[1]), "opposite": (ht[0], tt[1])}
    plans = {name: partial(each_at, kernels=(a, 4.0), matrices=(b, 40.0)) for name, (a, b) in mixed.items()}
    cells.append(Cell("hybrid/six-three/dense", "six-three"))
    trained = {"start": "norms", "epochs": 5, "rates": TUNED, "needs": "hybrid/six-three/dense"}
    cells += [Cell(f"hybrid/six-three/{name}-trained", "six-three", plan, **trained) for name, plan in plans.items()]
    cells += [Cell(f"hybrid/six-three/{name}-scratch", "six-three", plan) for name, plan in plans.items()]
    for network, needs in (("resnet20", ""), ("wrn16-4", "str/wrn16-4/dense")):
        for times in (4.0, 10.0):
            rivals: dict[str, Planner] = {
                name: partial(each_at, kernels=(maker, times), matrices=(maker, times))
                for name, maker in {"ada": ADATucker(order=3), "tucker2": Tucker2(), "svd": SVD()}.items()
            }
            rivals["scada"] = partial(one_core_a_shape, times=times)
            cells += [
                Cell(f"ada/{network}/{name}-{times:g}x", network, plan, "norms", rates=TUNED, needs=needs)
                for name, plan in rivals.items()
            ]
    return {cell.name: cell for cell in cells}


CELLS = every_cell()


# ---- how one is run
def run(name: str, seed: int, how: How) -> dict[str, Any] | None:
    """Train and judge a network; None where the time is up before, and the rest is for the next call."""
    cell = CELLS[name]
    torch.set_num_threads(how.threads)
    place = place_of(name, seed, how)
    began = time.time()
    data = data_for(cell, seed, how)
    dense = dense_for(cell, seed, how)
    reference = score(dense.to(how.device), data.test, data) if cell.taught else None
    try:
        optimizer, rate = best_rate(cell, dense, how, place)
        small = started(cell, dense, data, seed)
        if cell.taught:
            laid_out(dense, layout(data))
        before = score(small.to(how.device), data.test, data) if cell.taught else None
        seconds = train(cell, small, dense, data, seed, how, optimizer, rate, place)
    except OutOfTimeError:
        return None
    top1 = score(small.to(how.device), data.test, data)
    small, dense = small.cpu(), dense.cpu()
    if cell.plan is None:
        keep(small, kept_weights(cell.name, seed, how))
    remove(place / "steps")
    one = torch.zeros(1, 3, 32, 32)
    return {
        "cell": name, "seed": seed, "epochs": how.epochs or cell.epochs, "images": how.images or TRAIN_IMAGES,
        "batch": how.batch, "precision": how.precision, "optimizer": optimizer, "rate": rate,
        "params": params(small), "ratio": params(dense) / params(small),
        "macs_ratio": macs(dense, one).total / macs(small, one).total, "dense": reference, "before": before,
        "top1": top1, "seconds_an_epoch": seconds, "seconds": time.time() - began, "device": device_name(how.device),
    }  # fmt: skip


def data_for(cell: Cell, seed: int, how: How) -> Data:
    """CIFAR-10 on the device, under the network's normalisation, training images cut to so many."""
    zoo = zoo_model("wrn28-10" if cell.network in NETWORKS else cell.network)
    data = load_data(
        f"cifar10:{how.data}/cifar10", mean=zoo.mean, std=zoo.std, batch_size=how.batch, seed=seed, device=how.device
    )
    if how.images:
        for part in (data.train, data.validation):  # the test images are all judged
            few = of_images(part)
            few.order = few.order[: how.images]
    return data


def dense_for(cell: Cell, seed: int, how: How) -> nn.Module:
    """The dense network: as training begins, published, or as another cell trained it."""
    dense = fresh(cell.network, seed)
    if cell.taught:
        load_weights(
            dense, kept_weights(cell.needs, seed, how) if cell.needs else how.weights / PUBLISHED[cell.network]
        )
    return dense.eval()


def started(cell: Cell, dense: nn.Module, data: Data, seed: int) -> nn.Module:
    """The network as its training begins, images lying as a GPU wants them."""
    if cell.plan is None:
        small = dense
    elif cell.start == "scratch":
        small = tenfold.fresh(dense, cell.plan(dense), init="cores", seed=seed)
    elif cell.start == "calibrated":
        plan = cell.plan(dense.cpu())
        few = min(SAMPLES, len(of_images(data.train).order))
        small = tenfold.compress(dense.to(device_of(data)), data, plan=plan, calibrate=few, seed=seed).model
    else:
        small = tenfold.decompose(dense.cpu(), cell.plan(dense.cpu()), seed=seed)
    return laid_out(small, layout(data))


def layout(data: Data) -> str | None:
    """How images lie from the first layer to the last: as the kernels of a GPU want them, else as they come."""
    return "channels_last" if device_of(data).type == "cuda" else None


def device_of(data: Data) -> torch.device:
    """Where its batches are."""
    return of_images(data.train).device


def of_images(batches: Iterable[Any]) -> Batches:
    """Batches of CIFAR-10, as `data_for` makes them."""
    assert isinstance(batches, Batches)
    return batches


def best_rate(cell: Cell, dense: nn.Module, how: How, place: Path) -> tuple[str, float]:
    """The optimiser and the rate that are best on the validation images after short runs; kept on the way."""
    if len(cell.rates) == 1:
        return cell.rates[0]
    file = place / "rates.json"
    found: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    short = replace(how, epochs=trial_epochs(how.epochs or cell.epochs))
    for optimizer, rate in cell.rates:
        if (key := f"{optimizer} {rate}") not in found:
            data = data_for(cell, TRIAL_SEED, how)
            start = dense if cell.taught else fresh(cell.network, TRIAL_SEED)
            small = started(cell, start, data, TRIAL_SEED)
            tried = place / key.replace(" ", "-")
            try:
                train(cell, small, start, data, TRIAL_SEED, short, optimizer, rate, tried)
                found[key] = score(small.to(how.device), data.validation, data) or 0.0
            except TenfoldError as error:  # of a rate that is too high
                print(f"{cell.name} at {key}: {error}", flush=True)
                found[key] = 0.0
            remove(tried / "steps")
            written(file, json.dumps(found))
    return max(cell.rates, key=lambda each: found[f"{each[0]} {each[1]}"])


def trial_epochs(epochs: int) -> int:
    """Of a short run."""
    return max(1, round(TRIAL * epochs))


def train(
    cell: Cell, small: nn.Module, dense: nn.Module, data: Data, seed: int, how: How, optimizer: str, rate: float,
    place: Path,
) -> float:  # fmt: skip
    """Train in place, going on where a run stopped; seconds an epoch. Raises: OutOfTimeError at the end of an epoch."""
    began, done = time.time(), 0
    steps = len(of_images(data.train))

    def timed(steps_done: Iterator[Any]) -> Iterator[Any]:
        nonlocal done
        for step in steps_done:
            yield step
            ends = step.step % steps == 0
            done += ends
            if ends and step.step < step.steps and time.time() + (time.time() - began) / done > how.until:
                raise OutOfTimeError

    tenfold.recover(
        small, replace(data, validation=[]), teacher=dense if cell.taught else None,
        epochs=how.epochs or cell.epochs, bn=cell.start == "norms", seed=seed, state=place / "steps",
        run={"cell": cell.name, "images": how.images, "batch": how.batch}, watch=timed, lr=rate, optimizer=optimizer,
        weight_decay=DECAY[optimizer], warmup=0.2, mixed_precision=how.precision, device=how.device,
    )  # fmt: skip
    return (time.time() - began) / max(1, done)


def place_of(name: str, seed: int, how: How) -> Path:
    """The folder by which a cell goes on: one for each length of its training."""
    length = f"{how.epochs or CELLS[name].epochs}-{how.images or TRAIN_IMAGES}-{how.batch}"
    return how.state / f"{name}-{seed}-{length}".replace("/", "-")


def kept_weights(name: str, seed: int, how: How) -> Path:
    """Where a dense network's trained weights are kept for the cells that begin with them."""
    return place_of(name, seed, how) / "trained.safetensors"


def keep(model: nn.Module, path: Path) -> None:
    """Write weights, whole or not at all."""
    part = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, part)
    part.rename(path)


def written(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".partial")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def device_name(device: str) -> str:
    """What a run was made on."""
    where = torch.device(device)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
