"""What memory `compress` will take, known before it begins, and refused where this process may not have it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from tenfold.api.border import bytes_asked
from tenfold.api.calibrate import DISTILLED, Calibration
from tenfold.api.recover import Training
from tenfold.inputs import Inputs, device_of, tensors_in
from tenfold.layers import name_of as kind_name
from tenfold.measure.memory import activation_bytes
from tenfold.network import GROUPS
from tenfold.planning import Asked
from tenfold.planning.asked import AUTO, formats_asked
from tenfold.planning.budgets import ratio_asked
from tenfold.protocols import TenfoldError
from tenfold.statistics.moment import moment_bytes
from tenfold.surgery import sites
from tenfold.surgery.room import free_bytes

# How many times something is held. Counted in the code, and rounded up so that what was measured stays below
# (`python benchmarks/memory.py`): kernels, the allocator and threads take what nobody counts.
DENSE, SMALL = 3, 4  # the dense network as copied, lowered, laid out; the compressed and the refined, each lowered
TRAINED = 3  # of what is trained: gradients, and two numbers of the optimiser for each of its own
MOMENTS = 6  # of every weight: fitted and held out, their sum and mix, and two factors of it
FITS = 12  # matrices of a weight's size in float64, while it is fitted; twice as many in the metric of statistics
CURVES = 2**18  # bytes of a weight's candidates in one format, and half of its numbers in float64
FLOWS = 4  # what enters and leaves a block, of the dense network and of the compressed one
BACKWARD = 3  # activations of a batch, their gradients, and what several stages give between them
REST = 192 * 2**20  # bytes of modules that are imported on the way, and what kernels and threads keep

WAYS = {
    "copies of the network": "give a smaller network, or a machine with more memory",
    "statistics": "leave them out (--calibrate 0)",
    "samples": "calibrate on fewer (--calibrate)",
    "candidates": "name a format (--format svd)",
    "fits of layers": "use fewer threads (--threads 1), or exclude the largest layers (--exclude)",
    "activations": "use fewer samples in a batch (--batch-size), or bound what is kept of them (--memory 1GB)",
    "libraries": "free some memory",
}


@dataclass(frozen=True)
class Foretold:
    """Bytes that a run takes at most, beside what the process had before.

    Attributes:
        held: all through the run, by what they are for.
        steps: of steps that follow each other, likewise.
    """

    held: Mapping[str, int]
    steps: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """At the peak."""
        return sum(self.held.values()) + max(self.steps.values())

    def check(self) -> None:
        """Raise a TenfoldError where this process may not have so much."""
        there = free_bytes()
        if there is None or self.bytes <= there:
            return
        most, size = max(chain(self.held.items(), self.steps.items()), key=lambda part: part[1])
        raise TenfoldError(
            f"this run would take up to {gigabytes(self.bytes)} of memory, {gigabytes(size)} of it for {most}, and "
            f"this process can have {gigabytes(there)}; {WAYS[most]}."
        )


def foretold(
    model: nn.Module,
    given: Inputs | None,
    asked: Asked,
    calibration: Calibration,
    training: Training,
    device: str | torch.device | None = None,
) -> Foretold | None:
    """What a run takes on the host; None where it is to run on another device, whose own memory is not foretold.

    Args:
        given: inputs, of which one sample is run; without them there are neither statistics nor training.
        calibration, training: settled options.
        device: where the run will be; by default where the model is.
    """
    where = device_of(model) if device is None else torch.device(device)
    if where is not None and where.type != "cpu":
        return None
    whole = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    budgets = {"params": asked.get("params"), "bytes": asked.get("bytes")}
    ratios = [ratio_asked(name, wanted) for name, wanted in budgets.items() if wanted is not None]
    small = whole / max(ratios, default=1)
    numbers = sorted((math.prod(site.axes.values()) for site in sites(model).values()), reverse=True)
    samples = calibration.calibrate or 0
    trains = training.epochs > 0 or calibration.reconstruct
    fits = FITS * 8 * sum(numbers[: torch.get_num_threads()])
    one = 0 if given is None else sum(each.nbytes for each in tensors_in(given.samples(1).value))
    return Foretold(
        {
            "copies of the network": int(DENSE * whole + (SMALL + TRAINED * trains) * small),
            "statistics": statistics_bytes(model) if samples else 0,
            "samples": samples * one,
            "candidates": candidates_bytes(model, asked),
            "libraries": REST,
        },
        {
            "fits of layers": 2 * fits if samples else fits,
            "activations": activations(model, given, calibration, training) if trains and given is not None else 0,
        },
    )


def candidates_bytes(model: nn.Module, asked: Asked) -> int:
    """Bytes of the candidates of all weights in all formats that are tried; none for a plan that was given."""
    if not asked:
        return 0
    formats = formats_asked(asked.get("format", AUTO))
    each = [(len(formats.get(kind_name(site.kind), ())), site) for site in sites(model).values()]
    return sum(count * (CURVES + 4 * math.prod(site.axes.values())) for count, site in each)


def activations(model: nn.Module, given: Inputs, calibration: Calibration, training: Training) -> int:
    """Bytes of a batch that learns, and of what a block is given and gives of all samples, as far as they are kept."""
    try:
        made, largest = activation_bytes(model, given.samples(1))
    except TenfoldError:  # it does not run, which the rehearsal says better: on what, and in which step
        return 0
    samples, kept = calibration.calibrate or 0, bytes_asked(calibration.memory)
    flows = FLOWS * samples * largest if calibration.reconstruct else 0
    batch = max(given.size if training.epochs else 0, min(samples, DISTILLED) if calibration.reconstruct else 0)
    return BACKWARD * made * batch + (flows if kept is None else min(flows, kept))


def statistics_bytes(model: nn.Module) -> int:
    """Bytes of the moments of all weights of a network, and of the slopes."""
    found = 0
    for site in sites(model).values():
        groups, inputs = site.axes.get(GROUPS, 1), site.kind.input_axes(site.axes)
        entering = math.prod(site.axes[axis] for axis in inputs)
        whole = math.prod(site.axes.values())
        leaving = whole // (groups * entering)
        moments = sum(moment_bytes(groups, features) for features in (entering, leaving))
        found += len(site.places) * (MOMENTS * moments + 8 * whole)
    return found


def gigabytes(size: int) -> str:
    """`1.24 GB`."""
    return f"{size / 1e9:.3g} GB"
