"""`Difference`: what an exported file gives in a process without tenfold, how far from the network's own."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold import runners
from tenfold.inputs import Inputs, tensors_in
from tenfold.measure.runtimes import SAME
from tenfold.protocols import TenfoldError
from tenfold.targets.base import Target
from tenfold.targets.capture import Captured

ALONE = Path(runners.__file__).with_name("alone.py")


@dataclass(frozen=True)
class Difference:
    """How far a file's outputs are from the network's, for so many samples.

    Attributes:
        error: of the entry that is furthest, over the largest entry of its output; infinity for other shapes.
        allowed: 1e-5, more where the outputs' dtype has fewer digits.
    """

    samples: int
    error: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the file gives what the network gives."""
        return self.error <= self.allowed


def differences(target: Target, file: Path, network: Captured) -> tuple[Difference, ...]:
    """Every trial of a captured network, run from its file in a fresh process without tenfold.

    Raises: TenfoldError where the file does not run there.
    """
    given = [arrays(batch) for batch, _ in network.trials]
    found = alone(target, file, given)
    return tuple(
        difference(batch.size, wanted, [torch.from_numpy(each) for each in answer])
        for (batch, wanted), answer in zip(network.trials, found, strict=True)
    )


def arrays(inputs: Inputs) -> list[Any]:
    """The tensors of inputs as arrays, in order; NumPy knows no bfloat16."""
    return [
        (x.float() if x.dtype is torch.bfloat16 else x).cpu().contiguous().numpy() for x in tensors_in(inputs.value)
    ]


def alone(target: Target, file: Path, batches: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """What a file gives in a fresh process without tenfold, batch by batch.

    Raises: TenfoldError, with the last line of what that process says, where it does not run there.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = [Path(folder) / f"{at:03}.npz" for at in range(len(batches))]
        for name, batch in zip(names, batches, strict=True):
            np.savez(name, *batch)
        command = [sys.executable, "-P", str(ALONE), str(target.runner), str(file), folder]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            raise TenfoldError(f"the file does not run in a process without tenfold: {last[:300].rstrip('.')}.")
        return [read(name.with_suffix(".out.npz")) for name in names]


def read(file: Path) -> list[Any]:
    """The arrays of a file, in order."""
    with np.load(file) as found:
        return [found[name] for name in found.files]


def difference(samples: int, wanted: Sequence[Tensor], given: Sequence[Tensor]) -> Difference:
    """Of outputs in order; the furthest counts."""
    if len(wanted) != len(given):
        return Difference(samples, float("inf"), SAME)
    return Difference(samples, max(map(furthest, wanted, given)), max(map(allowed, wanted)))


def furthest(wanted: Tensor, given: Tensor) -> float:
    """Of all entries, over the largest; what is not finite must be the same."""
    a, b = wanted.detach().cpu().double(), given.double()
    if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    a, b = a[a.isfinite()], b[b.isfinite()]
    return float((a - b).abs().max() / (a.abs().max() or 1.0)) if a.numel() else 0.0


def allowed(output: Tensor) -> float:
    """What rounding leaves."""
    return max(SAME, 4 * torch.finfo(output.dtype).eps) if output.is_floating_point() else SAME
