"""What `compress` is foretold to take in memory, and what it took.

    python benchmarks/memory.py

Each run in a process of its own, on random weights and inputs, with one thread. MB beside what the process had before:
foretold, and the most that its addresses grew by (`VmPeak`), which is what a limit on them (`ulimit -v`) counts.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tenfold
from table import printed
from tenfold.models import zoo_model
from tenfold.surgery.room import table

SAMPLES, BATCH = 256, 64
NETWORKS: dict[str, tuple[int, ...]] = {"mlp": (1024,), "resnet20": (3, 32, 32), "resnet50": (3, 64, 64)}
CASES: list[tuple[str, bool, dict[str, Any]]] = [  # a network, whether there is data, and options
    ("mlp", False, {"params": "2x", "format": "svd"}),
    ("mlp", True, {"params": "2x", "format": "svd", "calibrate": 64}),
    ("mlp", True, {"params": "2x", "format": "svd", "epochs": 1}),
    ("resnet20", False, {"params": "4x"}),
    ("resnet20", True, {"params": "4x", "format": "svd", "calibrate": 64}),
    ("resnet20", True, {"params": "4x", "format": "svd", "epochs": 1}),
    ("resnet50", False, {"params": "2x", "format": "svd"}),
    ("resnet50", False, {"params": "2x"}),
]


def network(name: str) -> nn.Module:
    """One of the networks."""
    if name != "mlp":
        return zoo_model(name).build()
    wide = [part for _ in range(4) for part in (nn.Linear(1024, 1024), nn.ReLU())]
    return nn.Sequential(*wide, nn.Linear(1024, 10))


def data(shape: tuple[int, ...]) -> tenfold.Data:
    """Random inputs and labels."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(SAMPLES, *shape, generator=draw), torch.randint(0, 10, (SAMPLES,), generator=draw)
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    return tenfold.Data(batches, [inputs for inputs, _ in batches], batches, batches)


def addresses(which: str) -> int:
    """Bytes of this process: `VmSize` now, `VmPeak` so far."""
    return 1024 * table(Path("/proc/self/status"))[which]


def run(case: int) -> None:
    """One case, in this process; prints what was foretold and what it took."""
    torch.set_num_threads(1)
    name, has_data, options = CASES[case]
    model, given = network(name), data(NETWORKS[name]) if has_data else None
    before, began = addresses("VmSize"), time.perf_counter()
    result = tenfold.compress(model, given, **options)
    took = addresses("VmPeak") - before
    weights = sum(each.nbytes for each in model.state_dict().values())
    print(json.dumps([weights, result.report.settings["memory_foretold"], took, time.perf_counter() - began]))


def row(case: int) -> tuple[str, ...]:
    """One case in a process of its own."""
    done = subprocess.run([sys.executable, __file__, str(case)], capture_output=True, text=True, check=True)
    weights, foretold, took, seconds = json.loads(done.stdout.splitlines()[-1])
    name, has_data, options = CASES[case]
    asked = ", ".join(f"{key} {value}" for key, value in options.items())
    sizes = (f"{size / 1e6:.0f}" for size in (weights, foretold, took))
    found = (name, asked + (", data" if has_data else ""), *sizes, f"{foretold / took:.2f}", f"{seconds:.0f}")
    print(*found, flush=True)
    return found


def main() -> None:
    if len(sys.argv) > 1:
        run(int(sys.argv[1]))
        return
    head = ("network", "asked", "weights, MB", "foretold, MB", "taken, MB", "foretold / taken", "seconds")
    rows = [row(case) for case in range(len(CASES))]
    printed("memory", "Memory of compress: foretold and taken", head, rows, "", __doc__)


if __name__ == "__main__":
    main()
