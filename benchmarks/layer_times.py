"""Milliseconds beside parameters and multiply-adds: single layers in every format, next to tensorly-torch, in one run.

    python benchmarks/layer_times.py

A 1024 x 1024 linear layer at batch 1 and 128, a 3 x 3 convolution of 64 channels (8 x 8, batch 128) and one of 256
(14 x 14, batch 8), each format at no more than 25 % and 5 % of the parameters. Numbers in the cores are random: times
do not depend on them. The column of tensorly-torch needs `pip install tensorly-torch`; nothing else here does.
"""

import argparse
import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from table import page, table, written
from tenfold.formats import BUILT_IN, Format, name_of, options_of
from tenfold.layers import Conv, FactoredWeight, Layer, Linear
from tenfold.measure.timing import Timing, paired, ratio
from tenfold.network import Positions, Stages, TensorNetwork, partitions_of, unfolding_of

try:
    import tltorch
except ImportError:
    tltorch = None

SHARES = 0.25, 0.05
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SLOW = 4.0  # times the fastest first call: what takes longer, and longer than PATIENCE, is not timed again
PATIENCE = 0.03  # seconds
MOST = 2  # times the multiply-adds of the dense layer: what has more is not tried
TRIED = 16  # partitions of each setting, those with the fewest multiply-adds
TIE = 0.9  # of the time with the fewest multiply-adds: what takes less is a row of its own
HEAD = (
    "format", "least", "stages", "ranks", "params", "ratio", "MACs, M", "ratio", "layout", "ms", "time ratio", "spread",
    "tensorly-torch ms", "over ours", "spread",
)  # fmt: skip
NOTES = """## What the columns say

A ratio is dense over compressed: 4.00x is four times fewer, or four times faster.

- **format**: with the options that are not at their default. It stands once where the same stages have the fewest
  multiply-adds and the least time, else twice. Of each setting that the planner tries, the 16 partitions with the
  fewest multiply-adds (none beyond twice the dense layer's) and one stage in all were timed. Formats without a
  row are named below the table.
- **least**: what this row was chosen for, `MACs`, `time`, or `both`: MACs, and of equal ones the fastest, unless
  another is more than 10 % faster.
- **stages**: how many cores each stage holds, in order. `1+1+1` is one stage a core. One number is one stage: the
  dense weight, rebuilt beforehand, so that it runs as the dense layer does.
- **ranks**: in the order of the format's bonds: the largest common rank within the parameters asked for. On trees
  no bond is at its full rank, where it would be worthless.
- **params**: numbers in the cores, without the bias.
- **MACs**: multiply-adds of one sample in these stages, in millions.
- **layout**: of input and weights, the faster of contiguous and channels_last for this row; the dense layer is in its
  own better one, for every row. On a linear layer there is one only.
- **ms**: one forward of the lowered layer on the whole batch, in eval mode, without gradients; median of the rounds.
- **time ratio**, **spread**: dense over this row, round by round: median, and the distance between the quartiles.
- **tensorly-torch**: a layer of its own with the same modes and ranks, in the fastest of its implementations
  (`factorized`, `reconstructed`; for CP also `mobilenet`) and layouts: median, and its time over the time of this row,
  median and distance between the quartiles; above 1 this row is faster. Its CP has a factor for each window axis where
  the row has one for both. `-`: it does not have the format.

All rows of a layer, the dense one and tensorly-torch's run in turn, round by round, in one loop. Which stages, layouts
and implementations are the fastest was found in rounds before, whose times are not in the table."""


@dataclass(frozen=True)
class Site:
    """One dense layer and its input.

    Attributes:
        rounds: that are timed.
    """

    title: str
    dense: nn.Module
    kind: type[Layer]
    inputs: Tensor
    rounds: int

    @property
    def axes(self) -> dict[str, int]:
        """Of its weight."""
        return self.kind.axes(self.dense)["weight"]

    @property
    def params(self) -> int:
        """Numbers in its weight."""
        return math.prod(self.axes.values())

    @cached_property
    def positions(self) -> Positions:
        """Of one sample."""
        return self.kind.positions(self.dense, "weight", [self.inputs], self.dense(self.inputs))[0]

    @property
    def macs(self) -> int:
        """Multiply-adds of one sample."""
        return self.params * math.prod(after for _, after in self.positions.values())


@dataclass(frozen=True, eq=False)
class Run:
    """A module on its input in one layout."""

    module: nn.Module
    layout: str
    inputs: Tensor

    def __call__(self) -> object:
        return self.module(self.inputs)


@dataclass(frozen=True)
class Candidate:
    """A format at some ranks, in some stages."""

    maker: Format
    stages: Stages

    @property
    def net(self) -> TensorNetwork:
        """Labels and ranks."""
        return self.stages.net

    @property
    def label(self) -> str:
        """The format with its options."""
        options = ", ".join(f"{option}={value}" for option, value in options_of(self.maker).items())
        return name_of(self.maker) + (f" ({options})" if options else "")


@dataclass(frozen=True)
class Entry:
    """One row that is timed: a candidate, why it is there, and the same network in tensorly-torch."""

    candidate: Candidate
    why: str
    run: Run
    peer: Run | None


def sites(rounds: int) -> list[Site]:
    """The four layers."""

    def convolution(channels: int, size: int, batch: int) -> Site:
        title = f"Convolution {channels} x {channels} x 3 x 3, {size} x {size}, batch {batch}"
        conv = nn.Conv2d(channels, channels, 3, padding=1).eval()
        return Site(title, conv, Conv, torch.randn(batch, channels, size, size), rounds)

    def linear(batch: int) -> Site:
        title = f"Linear 1024 x 1024, batch {batch}"
        return Site(title, nn.Linear(1024, 1024).eval(), Linear, torch.randn(batch, 1024), 3 * rounds)

    return [linear(1), linear(128), convolution(64, 8, 128), convolution(256, 14, 8)]


# ---- networks
def fitted(maker: Format, axes: Mapping[str, int], params: int) -> TensorNetwork | None:
    """The network with the largest common rank that has no more than so many numbers; None where rank 1 has more."""
    found = None
    for rank in range(1, params):
        net = at_rank(maker, maker.network(axes), rank)
        if net.params > params or net == found:
            break
        found = net
    return found


def at_rank(maker: Format, whole: TensorNetwork, rank: int) -> TensorNetwork:
    """One rank in every bond; on trees none at its full rank, where a bond is worthless."""
    net = whole.with_ranks(maker.common_ranks(whole, rank))
    if any(unfolding_of(whole, bond) is None for bond in whole.bonds):
        return net
    useful = [max(1, full - 1) for full in whole.ranks]
    return useful(net.with_ranks([min(pair) for pair in zip(net.ranks, useful, strict=True)]))


def candidates(maker: Format, site: Site, params: int) -> list[Candidate]:
    """Of every setting of a format the partitions with the fewest multiply-adds, and one stage in all; fewest first.

    One stage in all is there once: it is the dense weight, whatever the setting. Empty where no setting has so few
    parameters.
    """

    def macs(candidate: Candidate) -> int:
        return candidate.stages.macs(positions)

    positions, found = site.positions, []
    for variant in maker.variants(site.axes):
        net = fitted(variant, site.axes, params)
        each = [Candidate(variant, Stages.of(net, partition)) for partition in partitions_of(net)] if net else []
        found += each[:1] + sorted((one for one in each[1:] if macs(one) <= MOST * site.macs), key=macs)[:TRIED]
    rebuilt = next((one for one in found if one.stages.rebuilds), None)
    return sorted((one for one in found if one is rebuilt or not one.stages.rebuilds), key=macs)


# ---- modules
def lowered(site: Site, candidate: Candidate) -> nn.Module:
    """The layer of a candidate as plain modules, with random numbers of a trained weight's size."""
    net = candidate.net
    deviation = (1 / (site.axes["i"] * net.size(net.bonds))) ** (1 / (2 * len(net.cores)))
    cores = [torch.randn(shape) * deviation for shape in net.shapes]
    weight = FactoredWeight(net, cores, candidate.stages.partition)
    return site.kind.from_dense(site.dense, {"weight": weight}).eval().lower()


def in_layouts(site: Site, module: nn.Module) -> list[Run]:
    """A module on the site's input in every layout that there is."""
    if site.inputs.ndim != 4:
        return [Run(module, "", site.inputs)]
    return [
        Run(copy.deepcopy(module).to(memory_format=form), name, site.inputs.contiguous(memory_format=form))
        for name, form in LAYOUTS.items()
    ]


def peer(site: Site, candidate: Candidate) -> Run | None:
    """The same network in tensorly-torch, in the fastest implementation and layout; None where it has none."""
    found = factorization(site, candidate) if tltorch is not None else None
    if found is None:
        return None
    kind, rank = found
    ways = ("factorized", "reconstructed", *(("mobilenet",) if kind == "cp" else ()))
    modules = [tensorly_torch(site, candidate.net, factorization=kind, rank=rank, implementation=way) for way in ways]
    return fastest([run for module in modules for run in in_layouts(site, module)])


def factorization(site: Site, candidate: Candidate) -> tuple[str, object] | None:
    """What tensorly-torch calls a format, and its ranks in the order of its modes: output, input, window."""
    ranks, window = candidate.net.ranks, tuple(site.axes.values())[2:]
    match name_of(candidate.maker), len(window):
        case "tucker", _:
            return "tucker", (ranks[-1], *ranks[:-1])
        case "tucker2", 2:
            return "tucker", (*reversed(ranks), *window)
        case "cp", 2:
            return "cp", ranks[0]
        case "tt", count:
            return "tt" if count else "blocktt", (1, *ranks, 1)
    return None


def tensorly_torch(site: Site, net: TensorNetwork, **options: object) -> nn.Module:
    """A layer of tensorly-torch with random numbers."""
    if isinstance(site.dense, nn.Conv2d):
        conv = site.dense
        sizes = conv.in_channels, conv.out_channels, conv.kernel_size
        module = tltorch.FactorizedConv(*sizes, padding=1, bias=True, **options)
        module.reset_parameters()
        return module.eval()
    modes = {fold.axes: net.shape(fold.modes) for fold in net.folds}
    return tltorch.FactorizedLinear(modes["i",], modes["o",], **options).eval()


# ---- times
def scouted(runs: Sequence[Run]) -> dict[Run, float]:
    """Seconds of one call of each: the median of a few rounds; the first call of what is slow beside the fastest."""
    first = timed(runs, repeats=1, warmup=0)
    least = min(timing.median for timing in first.values())
    quick = [run for run, timing in first.items() if timing.median <= max(PATIENCE, SLOW * least)]
    return {run: timing.median for run, timing in (first | timed(quick, repeats=5, warmup=1)).items()}


def timed(runs: Iterable[Run], *, repeats: int, warmup: int) -> dict[Run, Timing]:
    """`paired`, without gradients."""
    each = dict.fromkeys(runs)
    with torch.no_grad():
        timings = paired({str(k): run for k, run in enumerate(each)}, repeats=repeats, warmup=warmup)
    return dict(zip(each, timings.values(), strict=True))


def fastest(runs: Sequence[Run]) -> Run:
    """The one with the least time."""
    seconds = scouted(runs)
    return min(seconds, key=seconds.__getitem__)


def entries(site: Site, tried: Sequence[Candidate]) -> list[Entry]:
    """The candidate with the fewest multiply-adds, and the one with the least time where that is another."""
    origin = {run: candidate for candidate in tried for run in in_layouts(site, lowered(site, candidate))}
    seconds = scouted(list(origin))
    quickest = min(seconds, key=seconds.__getitem__)
    macs = {run: candidate.stages.macs(site.positions) for run, candidate in origin.items()}
    cheapest = fastest([run for run in origin if macs[run] == min(macs.values())])
    if macs[quickest] == macs[cheapest] or seconds[quickest] > TIE * seconds[cheapest]:
        chosen = [(cheapest, "both")]
    else:
        chosen = [(cheapest, "MACs"), (quickest, "time")]
    return [Entry(origin[run], why, run, peer(site, origin[run])) for run, why in chosen]


# ---- the page
@dataclass(frozen=True)
class Chosen:
    """What is timed at one share of the parameters, and the formats that are not, by reason."""

    share: float
    entries: list[Entry]
    left_out: dict[str, list[str]]

    @property
    def note(self) -> str:
        """The formats without a row."""
        each = [f"{', '.join(f'`{name}`' for name in names)}: {reason}" for reason, names in self.left_out.items()]
        return "Without a row: " + "; ".join(each) + "."


def chosen(site: Site, share: float) -> Chosen:
    """Every built-in format that suits the layer and reaches the share, stand-ins and doubles left out."""
    found: dict[str, list[Candidate]] = {}
    rows: list[Entry] = []
    left_out: dict[str, list[str]] = {}
    for name, kind in BUILT_IN.items():
        answer = kind().suit(site.axes)
        if isinstance(answer, str) or name_of(answer) != name:
            reason = answer if isinstance(answer, str) else f"`{name_of(answer)}` stands in"
            left_out.setdefault(reason, []).append(name)
            continue
        tried = candidates(answer, site, int(share * site.params))
        twin = next((other for other, theirs in found.items() if same(tried, theirs)), None)
        if not tried:
            left_out.setdefault("rank 1 has more parameters", []).append(name)
        elif twin is not None:
            left_out.setdefault(f"the networks of `{twin}`", []).append(name)
        else:
            found[name] = tried
            print(f"{site.title}, {share:.0%}: {name}", flush=True)
            rows += entries(site, tried)
    return Chosen(share, rows, left_out)


def same(some: Sequence[Candidate], others: Sequence[Candidate]) -> bool:
    """Whether two formats come to the same networks in the same stages."""
    return {each.stages for each in some} == {each.stages for each in others}


def section(site: Site) -> str:
    """The tables of one layer, all of it timed in one loop."""
    dense = fastest(in_layouts(site, site.dense))
    each = [chosen(site, share) for share in SHARES]
    runs = [run for part in each for entry in part.entries for run in (entry.run, entry.peer) if run is not None]
    timings = timed([dense, *runs], repeats=site.rounds, warmup=2)
    parts = [f"## {site.title}"]
    for part in each:
        rows = [dense_row(site, dense, timings[dense]), *(row(site, entry, dense, timings) for entry in part.entries)]
        parts += [f"### {part.share:.0%} of the parameters", table(HEAD, rows)]
        parts += [part.note] if part.left_out else []
    return "\n\n".join(parts)


def dense_row(site: Site, run: Run, timing: Timing) -> tuple[str, ...]:
    """The layer as it is."""
    counts = f"{site.params:,}", "", f"{site.macs / 1e6:.3g}", ""
    return "dense", "", "", "", *counts, run.layout, milliseconds(timing), "", "", "", "", ""


def row(site: Site, entry: Entry, dense: Run, timings: Mapping[Run, Timing]) -> tuple[str, ...]:
    """One row of the table."""
    stages, net, own = entry.candidate.stages, entry.candidate.net, timings[entry.run]
    macs = stages.macs(site.positions)
    return (
        entry.candidate.label,
        entry.why,
        "+".join(str(len(stage.cores)) for stage in stages.each),
        " ".join(str(rank) for rank in net.ranks),
        f"{net.params:,}", times(site.params / net.params),
        f"{macs / 1e6:.3g}", times(site.macs / macs),
        entry.run.layout, milliseconds(own), *compared(timings[dense], own),
        *peer_cells(entry, timings),
    )  # fmt: skip


def peer_cells(entry: Entry, timings: Mapping[Run, Timing]) -> tuple[str, ...]:
    """tensorly-torch's time, and over the row's own."""
    if tltorch is None:
        return "not installed", "", ""
    if entry.peer is None:
        return "-", "", ""
    return milliseconds(timings[entry.peer]), *compared(timings[entry.peer], timings[entry.run])


def compared(one: Timing, other: Timing) -> tuple[str, str]:
    """How many times as long the one takes: median and spread."""
    found = ratio(one, other)
    return times(found.median), f"{found.spread:.2f}"


def milliseconds(timing: Timing) -> str:
    """The median."""
    return f"{1e3 * timing.median:.3g}"


def times(number: float) -> str:
    """`2.50x`."""
    return f"{number:.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--quick", action="store_true", help="few rounds, printed only: whether all of it runs")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    begin = time.perf_counter()
    tables = [section(site) for site in sites(3 if given.quick else 31)]
    versions = f"torch {torch.__version__}" + (f", tensorly-torch {tltorch.__version__}" if tltorch else "")
    note = f"{given.threads} threads, {versions}; {time.perf_counter() - begin:.0f} seconds for all of it."
    text = page("Times of single layers", __doc__, note, *tables, NOTES)
    print(text)
    if not given.quick:
        written("layer-times", text)


if __name__ == "__main__":
    main()
