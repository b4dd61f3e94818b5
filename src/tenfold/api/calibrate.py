"""Statistics of a network on unlabelled samples, kept with `--profile DIR`; what counts of its outputs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tenfold.inputs import Inputs, first_samples
from tenfold.measure import weights_hash
from tenfold.protocols import BatchDim, Data
from tenfold.statistics import Statistics, gather
from tenfold.statistics import file as statistics_file
from tenfold.statistics.gather import Outputs, floating, hash_of
from tenfold.surgery import unwrapped
from tenfold.tasks import Objective

SAMPLES = 1000
FILE = "statistics.safetensors"


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    samples: int = SAMPLES,
    data: Data | None = None,
    batch: BatchDim = None,
    seed: int = 0,
    profile: str | Path | None = None,
) -> Statistics:
    """What every weight of a dense network meets on unlabelled inputs, and what its outputs are worth.

    Args:
        batches: inputs as the network takes them, such as `data.inputs`.
        samples: how many of them.
        data: says by its task and output what counts of the network's outputs; by default all that is floating.
        batch: the dimension that counts samples; by default it is found.
        seed: of the positions that are looked at, and of the projections of the outputs.
        profile: folder that keeps the statistics, for the next budget.
    Raises: TenfoldError if there are no inputs, or the network does not run on them.
    """
    model = unwrapped(model)
    chunks = first_samples(model, batches, samples, batch=batch)
    return statistics_of(model, chunks, compared(data), seed=seed, profile=profile)


def statistics_of(
    model: nn.Module, chunks: Sequence[Inputs], outputs: Outputs, *, seed: int, profile: str | Path | None
) -> Statistics:
    """The statistics of these samples: read from the folder `profile` if they are of these weights and samples.

    Raises: TenfoldError for a file of that name which tenfold did not write.
    """
    if profile is None:
        return gather(model, chunks, outputs=outputs, seed=seed)
    path = Path(profile) / FILE
    kept = statistics_file.read(path) if path.exists() else None
    if kept is not None and (kept.weights_hash, kept.inputs_hash) == (weights_hash(model), hash_of(chunks)):
        return kept
    found = gather(model, chunks, outputs=outputs, seed=seed)
    statistics_file.write(path, found)
    return found


def compared(data: Data | None) -> Outputs:
    """What counts of a network's outputs."""
    return floating if data is None else Objective.of(data).compared
