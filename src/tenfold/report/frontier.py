"""`Frontier`: what a network is foreseen to lose under budgets that grow tighter; as JSON, and as a picture."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from tenfold import documents
from tenfold.protocols import TenfoldError
from tenfold.report.words import COSTS
from tenfold.storage import check_replaceable, write_bytes
from tenfold.surgery import Plan

SCHEMA = 1
OUTPUTS = "foreseen relative error of the outputs, to first order, before blocks are refined"
WEIGHTS = "foreseen relative error of a weight, root mean square over all"
ENDINGS = ".png", ".svg"
MARK = "drawn by tenfold"  # in a picture's metadata, which stand in its first bytes
COLOURS = "#1f78b4", "#d95f02", "#33a02c", "#6a3d9a"


@dataclass(frozen=True)
class FrontierRow:
    """A plan on the way.

    Attributes:
        asked: its budgets, as ratios.
        ratio: by budget, dense over planned, of what the budgets count; None where that is not known.
        error: what `Frontier.meaning` says.
        plan: what becomes of every weight.
    """

    asked: Mapping[str, float] = field(hash=False)
    ratio: Mapping[str, float | None] = field(hash=False)
    error: float
    plan: Plan = field(repr=False)


@dataclass(frozen=True)
class Frontier:
    """Foreseen errors beside what is saved.

    Attributes:
        rows: the loosest budgets first; at least one.
        calibrated: whether errors are those of the outputs; else those of the weights.
        end: why no tighter budgets follow; empty where these are all.
    """

    rows: tuple[FrontierRow, ...]
    calibrated: bool
    end: str = ""

    @property
    def meaning(self) -> str:
        """What an error is; each is the norm of a difference over a norm."""
        return OUTPUTS if self.calibrated else WEIGHTS

    def to_json(self) -> str:
        """All but the plans as a JSON document; keys `schema meaning rows end`, of a row `asked ratio error`."""
        rows = [{"asked": {**row.asked}, "ratio": {**row.ratio}, "error": row.error} for row in self.rows]
        return documents.to_json({"schema": SCHEMA, "meaning": self.meaning, "rows": rows, "end": self.end})

    def draw(self, path: str | Path, *, title: str = "", overwrite: bool = False) -> None:
        """Leave a picture, `.png` or `.svg`: error against what is saved, a line for each budget.

        Raises: TenfoldError as `check_picture` does, or if it cannot be written.
        """
        check_picture(path, overwrite)
        write_bytes(Path(path), drawn(self, Path(path).suffix.lower(), title))


def check_picture(path: str | Path, overwrite: bool) -> None:
    """Raise where a picture cannot be drawn, or would replace what is no picture of ours."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise TenfoldError(f"'{path}' is no picture; name a file that ends in {' or '.join(ENDINGS)}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise TenfoldError("drawing needs matplotlib, which is not installed; pip install 'tenfold[report]'.")
    check_replaceable(path, overwrite, example="curve.png", ours=check_drawn)


def check_drawn(path: Path) -> None:
    """Raise where a file stands that tenfold did not draw."""
    if path.exists() and MARK.encode() not in path.read_bytes()[:4096]:
        raise TenfoldError(f"'{path}' was not drawn by tenfold, so it is never replaced; name another file.")


def drawn(found: Frontier, ending: str, title: str) -> bytes:
    """The picture; the same bytes for the same numbers."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure = Figure(figsize=(7, 4.2))
    ax = figure.subplots()
    for name, colour in zip(found.rows[0].asked, COLOURS, strict=False):
        saved = np.array([row.ratio[name] for row in found.rows], np.float64)
        ax.plot(saved, [row.error for row in found.rows], marker="o", color=colour, label=COSTS[name])
    ax.set(xscale="log", ylim=(0, None), title=title, xlabel="times fewer")
    ax.set_ylabel(found.meaning.replace(", ", ",\n", 1))
    ax.xaxis.set_major_locator(LogLocator(base=2, subs=(1.0, 1.5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.minorticks_off()
    ax.grid(color="#e5e5e5")
    ax.legend(frameon=False)
    marked = {"Software": MARK} if ending == ".png" else {"Creator": MARK, "Date": None}
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "tenfold"}):
        figure.savefig(buffer, format=ending[1:], dpi=150, bbox_inches="tight", facecolor="white", metadata=marked)
    return buffer.getvalue()
