"""What was foreseen beside what was measured."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element
from tenfold.report.html.page import figure
from tenfold.report.html.plot import Axis, Dot, Line, plot
from tenfold.report.html.tables import table
from tenfold.report.layer_row import LayerRow
from tenfold.report.report import Report
from tenfold.report.tables import UNKNOWN, times
from tenfold.report.words import COSTS

MEASURED = {
    "params": "params",
    "deployed_params": "deployed_params",
    "bytes": "file_bytes",
    "macs": "macs",
    "time": "time",
}


def foresight(report: Report) -> Element:
    """Ratios asked for, foreseen and measured; errors of weights foreseen and measured."""
    rows = {COSTS.get(name, name): ratios(report, name) for name in MEASURED}
    known = {name: texts for name, texts in rows.items() if set(texts) != {UNKNOWN}}
    told = table(["dense over compressed", "asked", "foreseen", "measured"], known)
    drawn = errors(report.layers)
    return element("div", told, *([drawn] if drawn is not None else []))


def ratios(report: Report, name: str) -> list[str]:
    """Of one cost."""
    asked = report.settings.get(name)
    foreseen = getattr(report.planned, name, None)
    return [UNKNOWN if asked is None else str(asked), times(foreseen), times(getattr(report.ratio, MEASURED[name]))]


def errors(rows: Sequence[LayerRow]) -> Element | None:
    """A dot a weight whose error was foretold; None where none was."""
    known = {row.name: row.foreseen for row in rows if row.foreseen is not None}
    if not known:
        return None
    most = max(max(each.expected, each.measured) for each in known.values()) or 1.0
    x, y = Axis("foreseen", 0, 1.05 * most), Axis("measured", 0, 1.05 * most)
    dots = [Dot(each.expected, each.measured, f"{name}: foreseen {each.expected:.3f}, measured {each.measured:.3f}")
            for name, each in known.items()]  # fmt: skip
    caption = "Relative error of each weight as its spectra foretell it (a bound), and as it came; the line: equal"
    return figure(plot(caption, x, y, [Line([(0, 0), (most, most)], "quiet"), *dots]), caption)
