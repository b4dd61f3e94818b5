"""A compressed network led back to the dense one on unlabelled samples."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tenfold import recovery
from tenfold.api.calibrate import SAMPLES, compared
from tenfold.inputs import Inputs, chunks_of, first_samples
from tenfold.protocols import BatchDim, Data, Watch
from tenfold.recovery import Distillation
from tenfold.statistics.gather import Outputs, hash_of
from tenfold.surgery import unwrapped

DISTILLED = 128  # samples of a batch


def reconstruct(
    dense: nn.Module,
    small: nn.Module,
    batches: Iterable[Any],
    *,
    samples: int = SAMPLES,
    distil: int = 0,
    data: Data | None = None,
    batch: BatchDim = None,
    seed: int = 0,
    state: str | Path | None = None,
    watch: Watch = iter,
) -> nn.Module:
    """Refine a compressed network block by block until it gives what the dense one gives, in place; no labels.

    Args:
        dense: the network that it was made from, untouched.
        batches: inputs as the network takes them.
        samples: how many of them are used block by block.
        distil: steps on the whole network afterwards, on batches that follow those.
        data, batch: as in `tenfold.calibrate`.
        state: folder that keeps the network after each block, by which the same call goes on after a stop.
        watch: is handed the iterator of blocks and steps and hands it on, to draw a bar.
    Raises: TenfoldError if there are no inputs, or the networks do not run on them.
    """
    dense, small = unwrapped(dense), unwrapped(small)
    chunks = first_samples(dense, batches, samples, batch=batch)
    further = Further(dense, batches, samples, batch)
    return reconstructed(
        dense, small, chunks, further, compared(data), distil=distil, seed=seed, state=state, run={}, watch=watch
    )


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


def reconstructed(
    dense: nn.Module,
    small: nn.Module,
    chunks: Sequence[Inputs],
    further: Iterable[Inputs],
    outputs: Outputs,
    *,
    distil: int,
    seed: int,
    state: str | Path | None,
    run: Mapping[str, Any],
    watch: Watch,
) -> nn.Module:
    """`reconstruct` on samples that have been drawn."""
    kept = None if state is None else Path(state)
    whole = {**run, "samples": hash_of(chunks)}
    for _ in watch(
        itertools.chain(
            recovery.reconstruct(dense, small, chunks, outputs=outputs, seed=seed, state=kept, run=whole),
            recovery.distil(dense, small, further, Distillation(distil), outputs) if distil else (),
        )
    ):
        pass
    return small
