"""Room for a plan: what this machine's memory cannot hold is refused before anything is allocated."""

import math
import os

from tenfold.network import Stages
from tenfold.protocols import TenfoldError

ITEMSIZE = 8  # decompositions are worked out in float64


def check_room(stages: Stages) -> None:
    """Raise where cores, stage tensors and what modes pad the weight with take more than all of the memory."""
    net = stages.net
    padding = net.size(net.modes) - math.prod(net.axes.values())
    needed, there = ITEMSIZE * (net.params + stages.params + padding), memory_bytes()
    if there is not None and needed > there:
        raise TenfoldError(
            f"cores, stages and padding would take {needed / 1e9:.3g} GB and this machine has {there / 1e9:.3g} GB; "
            "give smaller ranks or modes."
        )


def memory_bytes() -> int | None:
    """The memory of this machine; None where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
