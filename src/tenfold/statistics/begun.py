"""`Begun`: the sums of a pass over samples that has not ended, kept so that it can go on after a stop."""

import time
from collections.abc import Mapping
from pathlib import Path

from tenfold.statistics.file import BEGUN, known, load, save
from tenfold.statistics.sums import Sums

EVERY = 60.0  # seconds between two savings
SHARE = 0.05  # of the time that saving may take


class Begun:
    """A file in which sums are kept as the pass goes on."""

    def __init__(self, path: Path, run: str) -> None:
        """Args: run: what tells this pass from others that could use the file."""
        self.path, self.run = path, run
        self.due = time.perf_counter() + EVERY

    def read(self) -> tuple[int, dict[str, Sums]]:
        """How many chunks the sums are of, and the sums; none where the file is not of this pass."""
        about = known(self.path, BEGUN)
        if about is None or about["run"] != self.run:
            return 0, {}
        return int(about["chunks"]), load(self.path)

    def keep(self, chunks: int, sums: Mapping[str, Sums]) -> None:
        """Keep the sums over the first chunks, where it is time to.

        Raises: TenfoldError if they cannot be written.
        """
        now = time.perf_counter()
        if now >= self.due:
            save(self.path, BEGUN, sums, {"run": self.run, "chunks": str(chunks)})
            taken = time.perf_counter() - now
            self.due = now + taken + max(EVERY, taken / SHARE)
