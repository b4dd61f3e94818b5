"""The few numbers that matter most, large."""

from collections.abc import Callable, Mapping
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element
from tenfold.report.measurement import Measurement
from tenfold.report.report import Report
from tenfold.report.tables import ROWS, UNKNOWN, times

TIMED = "ms a batch"
RATIOS: Mapping[str, Callable[[Report], float | None]] = {
    "parameters": lambda report: report.ratio.params,
    "bytes in the file": lambda report: report.ratio.file_bytes,
    "MACs a sample": lambda report: report.ratio.macs,
    TIMED: lambda report: report.ratio.time,
}


def tiles(report: Report) -> Element:
    """What became of size, costs and score."""
    found = [tile(label, ratio(report), report) for label, ratio in RATIOS.items()]
    return element(
        "div", *(each for each in found if each is not None), *scored(report.dense, report.final), class_="tiles"
    )


def tile(label: str, ratio: float | None, report: Report) -> Element | None:
    """How many times fewer; None where that is not known."""
    if ratio is None:
        return None
    before, now = ROWS[label](report.dense), ROWS[label](report.final)
    noise = f" ± {report.ratio.time_spread:.2f}" if label == TIMED and report.ratio.time_spread is not None else ""
    return element("div", label, element("b", f"{times(ratio)}{noise}"), f"{before} → {now}",
                   class_="tile" if ratio > 0.995 else "tile worse")  # fmt: skip


def scored(dense: Measurement, final: Measurement) -> list[Element]:
    """The score, if there is one."""
    if final.score is None:
        return []
    before = f"dense: {dense.score.shown}" if dense.score is not None else UNKNOWN
    return [element("div", final.score.name, element("b", final.score.shown), before, class_="tile")]
