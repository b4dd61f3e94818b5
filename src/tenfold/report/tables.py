"""Measurements as tables for a screen; who prints them is not their concern."""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Protocol

from rich import box
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from tenfold.measure import LayerProfile, MsPerBatch, OutputError, Profile
from tenfold.report.exported import Exported, counted
from tenfold.report.frontier import Frontier
from tenfold.report.layer_row import LayerRow
from tenfold.report.measurement import Measurement, furthest
from tenfold.report.report import Report
from tenfold.report.runtimes import RuntimeTimes
from tenfold.report.words import COSTS
from tenfold.surgery import Plan
from tenfold.surgery.layout import CONTIGUOUS

UNKNOWN = "-"
BAR = 24  # columns


class PlannedCosts(Protocol):
    """A weight before and after: numbers stored and multiply-adds of one sample."""

    @property
    def params_before(self) -> int: ...

    @property
    def params(self) -> int: ...

    @property
    def macs_before(self) -> int | None: ...

    @property
    def macs(self) -> int | None: ...


def summary_table(report: Report) -> Table:
    """Dense, compressed, recovered, and dense over the final one."""
    networks = {"dense": report.dense, "compressed": report.compressed}
    networks |= {"recovered": report.recovered} if report.recovered is not None else {}
    ratio = report.ratio
    ratios = {
        "parameters": times(ratio.params),
        "parameters that run": times(ratio.deployed_params),
        "bytes of numbers": times(ratio.payload_bytes),
        "bytes in the file": times(ratio.file_bytes),
        "MACs a sample": times(ratio.macs),
        "ms a batch": "" if ratio.time is None else f"{ratio.time:.2f}x ± {ratio.time_spread:.2f}",
    }
    return side_by_side(networks, ratios)


def side_by_side(networks: Mapping[str, Measurement], ratios: Mapping[str, str] | None = None) -> Table:
    """A column a network, a row a number; with `ratios`, a last column."""
    table = titled("")
    for name in (*networks, *(("ratio",) if ratios is not None else ())):
        table.add_column(Text(name), justify="right", overflow="fold")
    for label, show in ROWS.items():
        shown = [show(network) for network in networks.values()]
        if label in OPTIONAL and set(shown) == {UNKNOWN}:
            continue
        add(table, label, *shown, *((ratios.get(label, ""),) if ratios is not None else ()))
    return table


def layer_table(layers: Iterable[LayerRow], *, wide: bool = False) -> Table:
    """What became of every weight; 80 columns will do, `wide` takes 120. Why: `reasons`.

    `kept`: the share of the dense weight's numbers.
    """
    table = titled("layer", *(("kind", "shape") if wide else ()), "format", "ranks", *(("stages",) if wide else ()))
    right(table, "params", "kept", "MACs", "error")
    for row in layers:
        shape = (row.kind, sizes(row.shape)) if wide else ()
        stages = (" ".join(f"({','.join(map(str, stage))})" for stage in row.stages),) if wide else ()
        shown = (
            number(row.params),
            share(row.params, prod(row.shape.values())),
            short(row.macs),
            UNKNOWN if row.rel_error is None else f"{row.rel_error:.3f}",
        )
        add(table, row.name, *shape, row.form, ranks(row.ranks), *stages, *shown)
    return table


def plan_table(plan: Plan, costs: Mapping[str, PlannedCosts]) -> Table:
    """What is to become of every weight, with its numbers and multiply-adds before and after. Why: `reasons`."""
    table = titled("layer", "format", "ranks")
    right(table, "params", "kept", "MACs", "kept")
    for row in plan.rows.values():
        cost = costs[row.name]
        shown = (number(cost.params), share(cost.params, cost.params_before), short(cost.macs))
        add(table, row.name, row.form, ranks(row.ranks), *shown, share(cost.macs, cost.macs_before))
    return table


def frontier_table(found: Frontier) -> Table:
    """What is foreseen to be lost and what is saved, under budgets that grow tighter; the bar is the error."""
    table = titled()
    right(table, "asked", *(COSTS[name] for name in found.rows[0].asked), "error")
    table.add_column("", width=BAR, no_wrap=True)
    largest = max(row.error for row in found.rows)
    for row in found.rows:
        asked = " ".join(dict.fromkeys(f"{ratio:g}x" for ratio in row.asked.values()))
        shown = (asked, *(times(row.ratio[name]) for name in row.asked), f"{row.error:.3f}")
        table.add_row(*map(Text, shown), Bar(largest or 1, 0, row.error, width=BAR))
    return table


def profile_table(profile: Profile, *, wide: bool = False) -> Table:
    """What `inspect` found: a row a weight, the rest, and the whole; 80 columns will do, `wide` takes 120."""
    table = titled("layer", *(("module",) if wide else ()), "shape")
    right(table, "params", "MACs", "ms", "MiB")
    table.add_column("gain")
    blank = ("",) if wide else ()
    for row in profile.layers.values():
        module = (row.module,) if wide else ()
        add(table, row.name, *module, sizes(row.axes), *costs(row), "no" if row.note else "yes")
    for other in profile.untaken.values():
        shape = " ".join(map(str, other.shape))
        add(table, other.name, *((other.module,) if wide else ()), shape, number(other.params), "", "", "", "no")
    named = [row.params for row in profile.layers.values()] + [other.params for other in profile.untaken.values()]
    rest = profile.params - sum(named)
    table.add_section()
    add(table, "all else", *blank, "", number(rest), short(profile.other_macs), "", "", "")
    whole = (number(profile.params), short(profile.macs), ms(profile.seconds), mebibytes(profile.peak_memory_bytes))
    add(table, "whole", *blank, "", *whole, "")
    return table


def titled(*left: str) -> Table:
    """A table with these columns, no wider than it must be."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in left:
        table.add_column(name, overflow="fold")
    return table


def right(table: Table, *names: str) -> None:
    """Columns of numbers, which stand on the right and are never broken."""
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def add(table: Table, *cells: str) -> None:
    """A row of plain texts: a `[` in a layer's name means nothing more."""
    table.add_row(*(Text(cell) for cell in cells))


def costs(row: LayerProfile) -> tuple[str, str, str, str]:
    """The numbers of one weight."""
    return number(row.params), short(row.macs), ms(row.seconds), mebibytes(row.memory_bytes)


# ---- numbers as text
def number(value: int | None) -> str:
    """`1,234,567`."""
    return UNKNOWN if value is None else f"{value:,}"


def short(value: int | None) -> str:
    """`231.2M`."""
    if value is None:
        return UNKNOWN
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:,.1f}{unit}"
    return str(value)


def share(part: int | None, whole: int | None) -> str:
    """`23 %`."""
    return UNKNOWN if part is None or not whole else f"{100 * part / whole:.0f} %"


def ranks(given: Iterable[int | None]) -> str:
    """`12 full 8`: a bond that is not cut is full."""
    return " ".join("full" if rank is None else str(rank) for rank in given)


def times(value: float | None) -> str:
    """`3.97x`."""
    return UNKNOWN if value is None else f"{value:.2f}x"


def ms(seconds: float | None) -> str:
    """Milliseconds."""
    return UNKNOWN if seconds is None else f"{1e3 * seconds:,.2f}"


def mebibytes(count: int | None) -> str:
    """Bytes as MiB."""
    return UNKNOWN if count is None else f"{count / 2**20:,.2f}"


def sizes(axes: Mapping[str, int]) -> str:
    """`o64 i32 h3 w3`."""
    return " ".join(f"{axis}{size}" for axis, size in axes.items())


def batch_time(network: Measurement) -> str:
    """`12.31 ± 0.40`, in milliseconds; the second number is the distance between the quartiles."""
    return UNKNOWN if network.ms_per_batch is None else shown_time(network.ms_per_batch)


def shown_time(time: MsPerBatch) -> str:
    """Likewise."""
    return f"{time.median:,.2f} ± {time.spread:,.2f}"


def runtimes_table(found: RuntimeTimes) -> Table:
    """Milliseconds a batch: a row a runtime, a column a network."""
    table = Table("ms a batch", *found.networks, box=box.SIMPLE)
    for runtime in dict.fromkeys(runtime for _, runtime in found.times):
        row = (found.times.get((name, runtime)) for name in found.networks)
        table.add_row(runtime, *(UNKNOWN if time is None else shown_time(time) for time in row))
    return table


def export_table(found: Exported) -> Table:
    """Bytes and milliseconds of an exported file, beside the dense network's."""
    files = {"dense": found.dense, "exported": found.file} if found.dense else {"exported": found.file}
    table = titled("")
    right(table, *files, *(("ratio",) if found.dense else ()))
    smaller = (times(found.dense.bytes / found.file.bytes),) if found.dense else ()
    faster = (f"{found.speedup.median:.2f}x ± {found.speedup.spread:.2f}",) if found.speedup else ()
    add(table, "bytes in the file", *(number(file.bytes) for file in files.values()), *smaller)
    label = f"ms for {counted(found.file.ms_per_batch.batch)}"
    add(table, label, *(shown_time(file.ms_per_batch) for file in files.values()), *faster)
    return table


def scored(network: Measurement) -> str:
    """`top-1 93.10`."""
    return UNKNOWN if network.score is None else f"{network.score.name} {network.score.shown}"


def output_error(errors: Mapping[str, OutputError]) -> str:
    """Relative error of the output that went furthest."""
    worst = furthest(errors)
    error = worst[1].relative_error if worst else None
    return UNKNOWN if error is None else f"{error:.3f}"


def agreement(errors: Mapping[str, OutputError]) -> str:
    """How often its largest entry is the dense network's, in per cent."""
    worst = furthest(errors)
    share = worst[1].agreement if worst else None
    return UNKNOWN if share is None else f"{100 * share:.1f} %"


ROWS: dict[str, Callable[[Measurement], str]] = {
    "parameters": lambda network: number(network.params),
    "parameters that run": lambda network: number(network.deployed_params),
    "bytes of numbers": lambda network: number(network.payload_bytes),
    "bytes in the file": lambda network: number(network.file_bytes),
    "MACs a sample": lambda network: number(network.macs),
    "peak memory, MiB": lambda network: mebibytes(network.peak_memory_bytes),
    "ms a batch": batch_time,
    "layout": lambda network: network.layout if network.layout not in (None, CONTIGUOUS) else UNKNOWN,
    "score": scored,
    "outputs' error": lambda network: output_error(network.outputs),
    "same largest entry": lambda network: agreement(network.outputs),
    "error, other inputs": lambda network: output_error(network.elsewhere),
    "largest entry, other inputs": lambda network: agreement(network.elsewhere),
}
OPTIONAL = ("layout", "score", "outputs' error", "same largest entry", "error, other inputs",
            "largest entry, other inputs")  # fmt: skip
