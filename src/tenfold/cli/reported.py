"""A compressed network on screen."""

from pathlib import Path

from tenfold.api import Compressed
from tenfold.cli import screen
from tenfold.report import layer_table, reasons, summary_table
from tenfold.storage.readme import argument


def show_compressed(result: Compressed, folder: Path) -> None:
    """What was gained, layer by layer and in words, and how to load it."""
    screen.show(layer_table(result.report.layers, wide=screen.is_wide()))
    screen.say(*reasons(result.report.layers), "")
    screen.show(summary_table(result.report))
    screen.say(*result.words, "")
    screen.say_unbroken(f"Written to {folder}", f"    model = tenfold.load({str(folder)!r}{argument(result.document)})")
