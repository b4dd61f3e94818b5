"""`python -P alone.py RUNNER FILE FOLDER`: an exported file run where there is no tenfold.

What it is given lies in FOLDER as 000.npz, 001.npz, ..; what it gives is written there as 000.out.npz, 001.out.npz, ..
"""

import runpy
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np


class Without(MetaPathFinder):
    """Finds no tenfold, and lets nobody else find it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name.partition(".")[0] == "tenfold":
            raise ModuleNotFoundError(f"the file needs {name}", name=name)


def main(runner: str, file: str, folder: str) -> None:
    """Every batch of the folder."""
    sys.meta_path.insert(0, Without())
    forward = runpy.run_path(runner)["opened"](file, 1)
    for given in sorted(Path(folder).glob("*.npz")):
        with np.load(given) as arrays:
            found = forward([arrays[name] for name in arrays.files])
        np.savez(given.with_suffix(".out"), *found)
    assert not any(name.partition(".")[0] == "tenfold" for name in sys.modules)


if __name__ == "__main__":
    main(*sys.argv[1:])
