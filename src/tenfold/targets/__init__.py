"""What a network is exported to, by the suffix of the file. A new target is a file here and a line in `BUILT_IN`; third
parties use the entry point group `tenfold.targets`."""

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from tenfold.protocols import TenfoldError
from tenfold.targets.base import Target
from tenfold.targets.capture import Captured, captured
from tenfold.targets.difference import Difference, arrays, differences
from tenfold.targets.onnx import ONNX
from tenfold.targets.pt2 import PT2

BUILT_IN: dict[str, type[Target]] = {"onnx": ONNX, "pt2": PT2}


@cache
def available() -> dict[str, type[Target]]:
    """Every target by the suffix of its files, those of installed packages included."""
    return BUILT_IN | {entry.name: entry.load() for entry in entry_points(group="tenfold.targets")}


def target_of(file: str | Path) -> Target:
    """The target of a file to write, by its suffix.

    Raises: TenfoldError for a suffix that none has, or a package that is not installed.
    """
    suffix = Path(file).suffix.lower().removeprefix(".")
    if suffix not in available():
        known = " or ".join(f"model.{name}" for name in available())
        raise TenfoldError(f"'{file}' does not end in what an export is known by; write {known}.")
    target = available()[suffix]()
    target.check_installed()
    return target


__all__ = [
    "BUILT_IN", "ONNX", "PT2", "Captured", "Difference", "Target", "arrays", "available", "captured", "differences",
    "target_of",
]  # fmt: skip
