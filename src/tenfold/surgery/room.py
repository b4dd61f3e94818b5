"""Room for a plan: what this machine's memory cannot hold is refused before anything is allocated."""

import math
import os
from importlib.util import find_spec
from pathlib import Path

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


def free_bytes() -> int | None:
    """What this process can still have: of this machine, of its control group, of its address space; None if unknown.

    Memory that the system uses for files until somebody wants it counts as free; what is swapped out does not.
    """
    known = [each() for each in (free_here, free_in_group, free_addresses)]
    return min((max(size, 0) for size in known if size is not None), default=None)


def free_here() -> int | None:
    """Of this machine; on systems other than Linux all of its memory."""
    found = table(Path("/proc/meminfo")).get("MemAvailable")
    return memory_bytes() if found is None else 1024 * found


def free_in_group(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Of the control group's limit, as containers have it; None without one."""
    try:
        limit, used = ((group / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    files = table(group / "memory.stat").get("inactive_file", 0)
    return int(limit) - int(used) + files if limit.isdecimal() else None


def free_addresses() -> int | None:
    """Of the limit on addresses (`ulimit -v`); None without one."""
    used = table(Path("/proc/self/status")).get("VmSize")
    if find_spec("resource") is None or used is None:  # Windows; not Linux
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit - 1024 * used


def table(file: Path) -> dict[str, int]:
    """The lines of a file of the system that have a name and a number; none where there is no such file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found = (line.replace(":", " ").split() for line in lines)
    return {parts[0]: int(parts[1]) for parts in found if len(parts) > 1 and parts[1].isdecimal()}


def memory_bytes() -> int | None:
    """The memory of this machine; None where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
