"""Statistics of a network on unlabelled samples, kept with `--profile DIR`; what counts of its outputs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from tenfold.api.border import bytes_asked
from tenfold.arguments import typed
from tenfold.inputs import Inputs, chunks_of, first_samples
from tenfold.measure import weights_hash
from tenfold.processes import rank
from tenfold.protocols import BatchDim, Data, TenfoldError, Watch
from tenfold.statistics import Statistics, gather
from tenfold.statistics import file as statistics_file
from tenfold.statistics.gather import hash_of
from tenfold.statistics.gradients import ALL, Outputs, floating
from tenfold.statistics.statistics import key_of
from tenfold.surgery import unwrapped
from tenfold.tasks import Objective

SAMPLES = 1000
DISTILLED = 128  # samples of a batch of those that follow
FILE = "statistics.safetensors"
BEGUN = "statistics.begun-{}.safetensors"  # by the number of the process


@typed
def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    samples: int = SAMPLES,
    data: Data | None = None,
    batch: BatchDim = None,
    seed: int = 0,
    profile: str | Path | None = None,
    watch: Watch = iter,
) -> Statistics:
    """What every weight of a dense network meets on unlabelled inputs, and what its outputs are worth.

    Args:
        batches: inputs as the network takes them, such as `data.inputs`.
        samples: how many of them.
        data: says by its task and output what counts of the network's outputs; by default all that is floating.
        batch: the dimension that counts samples; by default it is found.
        seed: of the positions that are looked at, and of the projections of the outputs.
        profile: folder that keeps the statistics, for the next budget, and sums from minute to minute, by which the
            same call goes on after a stop.
        watch: is handed the iterator of chunks that are done and hands it on, to draw a bar.
    Raises: TenfoldError if there are no inputs, or the network does not run on them.
    """
    model = unwrapped(model)
    known = unlabelled(model, batches, samples, data, batch)
    return statistics_of(model, known, seed=seed, profile=profile, watch=watch)


@dataclass(frozen=True)
class Calibration:
    """What unlabelled samples are used for.

    Attributes:
        calibrate: how many; 0 for none. None: 1,000 where there is something to take them from and no epochs.
        reconstruct: whether blocks are refined on them after decomposing.
        distil: steps on the whole network after that, on samples that follow.
        memory: of what is kept of them, as `tenfold.reconstruct` takes it.
    """

    calibrate: int | None = None
    reconstruct: bool = True
    distil: int = 0
    memory: int | str | None = None

    def settled(self, *, has_inputs: bool, epochs: int = 0) -> "Calibration":
        """The same with what was left open decided.

        Raises: TenfoldError for a number below 0, where there is nothing to take samples from, and for distillation
            that has no reconstruction before it.
        """
        count, steps = self.calibrate, self.distil
        if count is not None and count < 0:
            raise TenfoldError(f"cannot calibrate on {count} samples; use 0 (none) or more, such as 1000.")
        if count and not has_inputs:
            raise TenfoldError(f"calibrate={count} needs inputs to take them from; give data, or calibrate=0.")
        samples = count if count is not None else SAMPLES if has_inputs and not epochs else 0
        reconstructs = bool(samples) and self.reconstruct
        if steps < 0 or (steps and not reconstructs):
            raise TenfoldError(
                f"distil={steps} steps follow the reconstruction on calibration samples; give 0, or leave both on."
            )
        bytes_asked(self.memory)  # refuses what is no size
        return Calibration(samples, reconstructs, steps, self.memory)


@dataclass(frozen=True)
class Unlabelled:
    """Samples to calibrate on.

    Attributes:
        chunks: those that are calibrated on.
        outputs: what counts of the network's outputs.
        counted: that in words.
        further: batches that follow, to be gone through again and again.
    """

    chunks: Sequence[Inputs]
    outputs: Outputs
    counted: str
    further: Iterable[Inputs]


@dataclass(frozen=True)
class Calibrated(Unlabelled):
    """Samples, and what the network showed on them."""

    statistics: Statistics


def calibrated(
    model: nn.Module,
    data: Data | None,
    batches: Iterable[Any] | None,
    samples: int | None,
    *,
    seed: int,
    profile: str | Path | None,
    watch: Watch = iter,
) -> Calibrated | None:
    """What a run calibrates on: so many samples of the batches, by default of the data's inputs; None for none."""
    source = data.inputs if batches is None and data is not None else batches
    if not samples or source is None:
        return None
    batch = None if data is None else data.batch
    known = unlabelled(model, source, samples, data, batch)
    statistics = statistics_of(model, known, seed=seed, profile=profile, watch=watch)
    return Calibrated(**vars(known), statistics=statistics)


def unlabelled(
    model: nn.Module, batches: Iterable[Any], samples: int, data: Data | None, batch: BatchDim
) -> Unlabelled:
    """So many samples of these batches, and what follows."""
    chunks = first_samples(model, batches, samples, batch=batch)
    return Unlabelled(chunks, compared(data), counted(data), Further(model, batches, samples, batch))


def statistics_of(
    model: nn.Module, known: Unlabelled, *, seed: int, profile: str | Path | None, watch: Watch = iter
) -> Statistics:
    """The statistics of these samples: read from the folder `profile` if they are those of the same call.

    Raises: TenfoldError for a file of that name which tenfold did not write.
    """
    passed = partial(gather, model, known.chunks, outputs=known.outputs, counted=known.counted, seed=seed, watch=watch)
    if profile is None:
        return passed()
    path = Path(profile) / FILE
    kept = statistics_file.read(path) if path.exists() else None
    if kept is not None and kept.key == key_of(weights_hash(model), hash_of(known.chunks), seed, known.counted):
        return kept
    begun = Path(profile) / BEGUN.format(rank())
    found = passed(begun=begun)
    statistics_file.write(path, found)
    begun.unlink(missing_ok=True)
    return found


def compared(data: Data | None) -> Outputs:
    """What counts of a network's outputs."""
    return floating if data is None else Objective.of(data).compared


def counted(data: Data | None) -> str:
    """The same in words."""
    return ALL if data is None else Objective.of(data).told


@dataclass(frozen=True)
class Further:
    """Batches that follow the first samples; all where there are no more. They can be gone through again and again."""

    model: nn.Module
    batches: Iterable[Any]
    samples: int
    batch: BatchDim

    def __iter__(self) -> Iterator[Inputs]:
        seen, any_left = 0, False
        for each in chunks_of(self.model, self.batches, batch=self.batch, chunk=DISTILLED):
            seen += each.size
            if seen > self.samples:
                any_left = True
                yield each
        if not any_left:
            yield from chunks_of(self.model, self.batches, batch=self.batch, chunk=DISTILLED)
