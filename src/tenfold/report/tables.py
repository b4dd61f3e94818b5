"""Measurements as tables for a screen; who prints them is not their concern."""

from collections.abc import Callable, Iterable, Mapping

from rich.table import Table

from tenfold.measure import LayerProfile, Profile
from tenfold.report.layer_row import LayerRow
from tenfold.report.measurement import Measurement
from tenfold.report.report import Report

UNKNOWN = "-"


def summary_table(report: Report) -> Table:
    """Dense, compressed, recovered, and dense over the final one."""
    networks = {"dense": report.dense, "compressed": report.compressed}
    networks |= {"recovered": report.recovered} if report.recovered is not None else {}
    ratio = report.ratio
    ratios = {
        "parameters": times(ratio.params),
        "file": times(ratio.file_bytes),
        "MACs a sample": times(ratio.macs),
        "time a batch": times(ratio.time),
    }
    return side_by_side(networks, ratios)


def side_by_side(networks: Mapping[str, Measurement], ratios: Mapping[str, str] | None = None) -> Table:
    """A column a network, a row a number; with `ratios`, a last column."""
    table = Table()
    table.add_column("")
    for name in (*networks, *(("ratio",) if ratios is not None else ())):
        table.add_column(name, justify="right")
    for label, show in ROWS.items():
        shown = [show(network) for network in networks.values()]
        if label in OPTIONAL and set(shown) == {UNKNOWN}:
            continue
        table.add_row(label, *shown, *((ratios.get(label, ""),) if ratios is not None else ()))
    return table


def layer_table(layers: Iterable[LayerRow]) -> Table:
    """What became of every weight."""
    table = titled("layer", "kind", "shape", "format", "ranks", "stages", right=("parameters", "MACs", "error"))
    table.add_column("reason", overflow="fold")
    for row in layers:
        ranks = " ".join("full" if rank is None else str(rank) for rank in row.ranks)
        stages = " ".join("".join(f"({','.join(map(str, stage))})") for stage in row.stages)
        shown = (number(row.params), number(row.macs), f"{row.rel_error:.4f}")
        table.add_row(row.name, row.kind, sizes(row.shape), row.format, ranks, stages, *shown, row.reason)
    return table


def profile_table(profile: Profile) -> Table:
    """What `inspect` found: a row a weight, the rest, and the whole."""
    table = titled("layer", "module", "shape", right=("parameters", "MACs", "ms", "MiB"))
    table.add_column("note", overflow="fold")
    for row in profile.layers.values():
        table.add_row(row.name, row.module, sizes(row.axes), *costs(row), row.note)
    rest = profile.params - sum(row.params for row in profile.layers.values())
    table.add_section()
    table.add_row("all else", "", "", number(rest), number(profile.other_macs), "", "", "")
    whole = (number(profile.params), number(profile.macs), ms(profile.seconds), mebibytes(profile.peak_memory_bytes))
    table.add_row("whole", "", "", *whole, conditions(profile))
    return table


def titled(*left: str, right: Iterable[str]) -> Table:
    """A table with these columns; numbers stand on the right."""
    table = Table()
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def costs(row: LayerProfile) -> tuple[str, str, str, str]:
    """The numbers of one weight."""
    return number(row.params), number(row.macs), ms(row.seconds), mebibytes(row.memory_bytes)


def conditions(profile: Profile) -> str:
    """Under what the profile was measured."""
    if profile.batch is None:
        return "no inputs: no MACs, time or memory"
    return f"batch {profile.batch}, {profile.threads} threads, {profile.device}"


# ---- numbers as text
def number(value: int | None) -> str:
    """`1,234,567`."""
    return UNKNOWN if value is None else f"{value:,}"


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
    """`12.31 ± 0.40 ms`; the second number is the distance between the quartiles."""
    time = network.ms_per_batch
    return UNKNOWN if time is None else f"{time.median:,.2f} ± {time.spread:,.2f} ms"


def scored(network: Measurement) -> str:
    """`top-1 93.10`."""
    return UNKNOWN if network.score is None else f"{network.score.name} {network.score.value:.2f}"


def more_deployed(network: Measurement) -> str:
    """Parameters of the form that runs, where they are more than the folder's."""
    return number(network.deployed_params) if network.deployed_params > network.params else UNKNOWN


ROWS: dict[str, Callable[[Measurement], str]] = {
    "parameters": lambda network: number(network.params),
    "parameters that run": more_deployed,
    "file": lambda network: number(network.file_bytes),
    "MACs a sample": lambda network: number(network.macs),
    "peak memory": lambda network: number(network.peak_memory_bytes),
    "time a batch": batch_time,
    "score": scored,
}
OPTIONAL = ("parameters that run", "score")
