"""Seconds to inspect and plan ResNet-50 at 224: `python benchmarks/planning_resnet50.py`."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from table import printed
from tenfold.api import open_network, parse_inputs, planned, profiled
from tenfold.surgery import decompose, lower

T = TypeVar("T")
FORMATS = "svd,tucker2,tt,ht2"


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """What an action gives, and its seconds."""
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


def main() -> None:
    model = open_network("resnet50", seed=0).model
    inputs = parse_inputs(["3x224x224"])[:1]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder)
        profile, inspecting = timed(lambda: profiled(model, inputs, profile=kept))
        first, planning = timed(lambda: planned(model, profile, profile=kept, params="2x", macs="2x", format=FORMATS))
        again, _ = timed(lambda: profiled(model, inputs, profile=kept))
        _, second = timed(lambda: planned(model, again, profile=kept, params="3x", macs="3x", format=FORMATS))
        curves = (kept / "curves.json").stat().st_size / 1e6
    _, carrying = timed(lambda: lower(decompose(model, first)))
    rows = [
        ("inspect (5 timed forwards, 1 counted, 1 for memory)", f"{inspecting:.1f}", "15"),
        (f"plan over `{FORMATS}` at 2x and 2x", f"{planning:.1f}", "10"),
        ("a second plan at 3x and 3x, from the same folder", f"{second:.1f}", "3"),
        ("decompose and lower by the first plan", f"{carrying:.1f}", ""),
    ]
    note = f"{torch.get_num_threads()} threads; {len(first.rows)} weights; curves.json {curves:.1f} MB."
    printed("planning-resnet50", "ResNet-50 at 3x224x224, seconds", ("step", "seconds", "asked"), rows, note, __doc__)


if __name__ == "__main__":
    main()
