"""A compressed network on screen."""

from pathlib import Path

from tenfold.api import Compressed
from tenfold.cli import screen
from tenfold.report import layer_table, reasons, side_by_side, summary_table
from tenfold.storage.document import PAGE
from tenfold.storage.readme import argument


def show_compressed(result: Compressed, folder: Path) -> None:
    """What was gained, layer by layer and in words, and how to load it."""
    screen.show(layer_table(result.report.layers, wide=screen.is_wide()))
    screen.say(*reasons(result.report.layers), "")
    screen.show(summary_table(result.report))
    screen.say(*result.words, "")
    screen.say_unbroken(f"Written to {folder}", f"    model = tenfold.load({str(folder)!r}{argument(result.document)})")
    screen.say_unbroken(f"The report: {folder / PAGE}")


def show_trained(result: Compressed, folder: Path) -> None:
    """What a network that was trained dense holds, costs and scores, and how to go on with it."""
    trust = "" if result.document.origin.kind == "zoo" else " --trust-code"
    screen.show(side_by_side({"dense": result.report.final}))
    screen.say_unbroken(f"Written to {folder}", f"Next: tenfold compress {folder}{trust} --params 4x --out small")
