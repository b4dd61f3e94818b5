"""Fair times: everything that is compared runs in turn, round by round, in one process."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tenfold.inputs import Inputs, evaluating, inputs_for, run
from tenfold.measure.forward import synchronize
from tenfold.protocols import TenfoldError

CLEARLY = 0.95  # of another time: less is faster, and not the noise of the clock


def spread(samples: Sequence[float]) -> float:
    """The distance between the quartiles, in the unit of the samples; 0 for a single one."""
    if len(samples) < 2:
        return 0.0
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return high - low


@dataclass(frozen=True)
class Samples:
    """One number a round, in order."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """The distance between the quartiles."""
        return spread(self.samples)


@dataclass(frozen=True)
class Timing(Samples):
    """Seconds of every call, and the threads that torch used."""

    threads: int

    @property
    def minimum(self) -> float:
        """Seconds."""
        return min(self.samples)


class Ratio(Samples):
    """How many times as long one thing takes as another, round by round."""


def paired(functions: Mapping[str, Callable[[], object]], *, repeats: int = 20, warmup: int = 3) -> dict[str, Timing]:
    """Call all functions in turn, round by round, so that whatever else the machine does meets them alike.

    Each round begins with another function. The number of threads stays as it is and is noted.

    Args:
        repeats: rounds that are timed, 1 or more; warmup: rounds before them.
    Raises: TenfoldError for fewer than one round.
    """
    if repeats < 1 or warmup < 0:
        raise TenfoldError(f"{repeats} repeats after {warmup} warm-up rounds cannot be timed; use 1 and 0 or more.")
    names = list(functions)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, repeats):
        at = turn % max(len(names), 1)
        for name in names[at:] + names[:at]:
            elapsed = seconds_of(functions[name])
            if turn >= 0:
                samples[name].append(elapsed)
    return {name: Timing(tuple(each), torch.get_num_threads()) for name, each in samples.items()}


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds of one call, a GPU's work included."""
    synchronize()
    begin = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - begin


def ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as long `a` takes as `b`, where both come from one run of `paired`.

    Raises: TenfoldError if they have not the same number of rounds.
    """
    if len(a.samples) != len(b.samples):
        raise TenfoldError(f"{len(a.samples)} and {len(b.samples)} rounds are no pairs; time both in one run.")
    return Ratio(tuple(x / y for x, y in zip(a.samples, b.samples, strict=True)))


@dataclass(frozen=True)
class MsPerBatch:
    """Milliseconds of one forward: median and distance between the quartiles, samples in the batch, torch's threads."""

    median: float
    spread: float
    batch: int
    threads: int

    @staticmethod
    def of(timing: Timing, batch: int) -> "MsPerBatch":
        """Of so many samples."""
        return MsPerBatch(1e3 * timing.median, 1e3 * timing.spread, batch, timing.threads)


@dataclass(frozen=True)
class Speedup:
    """How many times as long another network takes, round by round: median and distance between the quartiles."""

    median: float
    spread: float

    @staticmethod
    def of(timing: Timing, other: Timing) -> "Speedup":
        """Of two that were timed in one run."""
        found = ratio(other, timing)
        return Speedup(found.median, found.spread)

    @property
    def is_clear(self) -> bool:
        """Whether the difference exceeds the noise."""
        return abs(self.median - 1) > self.spread


def forward_timings(
    networks: Mapping[str, nn.Module], inputs: Any, *, repeats: int = 20, warmup: int = 3
) -> dict[str, Timing]:
    """`paired` over the forwards of networks as they stand, all of them in eval mode without gradients.

    Raises: TenfoldError if a network cannot run on the inputs.
    """
    given: dict[str, Inputs] = {}
    for name, model in networks.items():  # what is found for the first serves them all
        given[name] = inputs_for(model, next(iter(given.values()), inputs))

    def forward(name: str) -> Callable[[], object]:
        return lambda: run(networks[name], given[name].value)

    with ExitStack() as stack:
        for model in networks.values():
            stack.enter_context(evaluating(model))
        return paired({name: forward(name) for name in networks}, repeats=repeats, warmup=warmup)
