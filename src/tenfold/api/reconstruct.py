"""A compressed network led back to the dense one on unlabelled samples."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tenfold import recovery
from tenfold.api.border import bytes_asked
from tenfold.api.calibrate import SAMPLES, Unlabelled, unlabelled
from tenfold.arguments import typed
from tenfold.inputs import Inputs, as_given
from tenfold.protocols import BatchDim, Data, Watch
from tenfold.recovery import Distillation
from tenfold.recovery.reconstruction import BlockDone, StepDone, blocks_of
from tenfold.recovery.reconstruction.samples import laid_out
from tenfold.report import CoursePoint, noted
from tenfold.statistics.gather import hash_of
from tenfold.surgery import unwrapped

HELD_OUT = 2  # batches, by which a distillation is judged
RATES = 1.5e-3, 5e-4  # the second where the first brings nothing
INSIDE = 0.3  # what the errors of the blocks' outputs weigh there beside those of the network's


@typed
def reconstruct(
    dense: nn.Module,
    small: nn.Module,
    batches: Iterable[Any],
    *,
    samples: int = SAMPLES,
    blocks: Sequence[str] = (),
    distil: int = 0,
    data: Data | None = None,
    batch: BatchDim = None,
    seed: int = 0,
    state: str | Path | None = None,
    memory: int | str | None = None,
    watch: Watch = iter,
) -> nn.Module:
    """Refine a compressed network block by block until it gives what the dense one gives, in place; no labels.

    Args:
        dense: the network that it was made from, untouched.
        batches: inputs as the network takes them.
        samples: how many of them are used block by block.
        blocks: names of modules that are refined as a block each; all others are found from the network's modules.
        distil: steps on the whole network afterwards, on batches that follow those.
        data, batch: as in `tenfold.calibrate`.
        state: folder that keeps the network after each block, by which the same call goes on after a stop.
        memory: what samples and activations may take, on the network's device: `4GB`, `512MB`, or a number of bytes;
            what is beyond it lies in files, in the folder `state` or else in the system's temporary folder, without a
            change of the result. By default there is no limit.
        watch: is handed the iterator of blocks and steps and hands it on, to draw a bar.
    Raises: TenfoldError if there are no inputs, or the networks do not run on them, or have no such block.
    """
    dense, small, budget = unwrapped(dense), unwrapped(small), bytes_asked(memory)
    known = unlabelled(dense, batches, samples, data, batch)
    return reconstructed(
        dense, small, known, blocks=blocks, distil=distil, seed=seed, state=state, run={}, memory=budget, watch=watch
    )


def reconstructed(
    dense: nn.Module,
    small: nn.Module,
    known: Unlabelled,
    *,
    blocks: Sequence[str] = (),
    distil: int,
    seed: int,
    state: str | Path | None,
    run: Mapping[str, Any],
    memory: int | None = None,
    watch: Watch,
    course: list[CoursePoint] | None = None,
) -> nn.Module:
    """`reconstruct` on samples that have been drawn; `course`: where to note how the losses go."""
    kept = None if state is None else Path(state)
    whole = {**run, "samples": hash_of(known.chunks), "counted": known.counted}
    steps = recovery.reconstruct(
        dense, small, known.chunks, named=blocks, outputs=known.outputs, seed=seed, state=kept, run=whole, memory=memory
    )
    every = itertools.chain(steps, distilled(dense, small, known, distil))
    with as_given(small, known.chunks[0].samples(2).value):
        for _ in watch(noted(every, [] if course is None else course, part_of)):
            pass
    return small


def part_of(step: BlockDone | StepDone) -> str:
    """The part of the recovery that a step is of."""
    return "blocks" if isinstance(step, BlockDone) else step.title


def distilled(dense: nn.Module, small: nn.Module, known: Unlabelled, steps: int) -> Iterator[StepDone]:
    """The steps on batches that follow the samples, judged on the first of them; these are not trained on where there
    are more. Where that brings nothing there, they are taken again at a lower rate.
    """
    if not steps:
        return
    first = [laid_out(batch) for batch in itertools.islice(known.further, HELD_OUT + 1)]
    skipped = HELD_OUT if len(first) > HELD_OUT else 0
    blocks, held = blocks_of(dense, first[0].samples(2)), first[:HELD_OUT]
    for rate in RATES:
        batches = ([laid_out(batch)] for batch in again(known.further, skipped))
        how = Distillation(steps, lr=rate, inside=INSIDE)
        if (yield from recovery.distil(dense, small, batches, how, known.outputs, held=held, blocks=blocks)):
            return


def again(batches: Iterable[Inputs], skipped: int) -> Iterator[Inputs]:
    """The batches without the first ones, over and over."""
    while True:
        yield from itertools.islice(batches, skipped, None)
