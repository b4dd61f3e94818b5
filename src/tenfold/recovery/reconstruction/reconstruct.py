"""A compressed network led back to the dense one, block by block, on unlabelled samples."""

import logging
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold.inputs import Inputs
from tenfold.recovery.reconstruction.blocks import blocks_of
from tenfold.recovery.reconstruction.flow import Flow
from tenfold.recovery.reconstruction.progress import keep, resumed
from tenfold.recovery.reconstruction.refine import Refinement, refined
from tenfold.recovery.reconstruction.samples import Samples, uneven
from tenfold.recovery.reconstruction.shelf import Shelf
from tenfold.recovery.reconstruction.worth import worths
from tenfold.statistics.gradients import Outputs, floating

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockDone:
    """A block that was refined.

    Attributes:
        name: of its first module.
        step: 1 to steps, of the blocks.
        loss: what was left, over the variance of its outputs.
        seconds_left: at the pace so far, until the last block.
    """

    name: str
    step: int
    steps: int
    loss: float
    seconds_left: float

    @property
    def title(self) -> str:
        """The block."""
        return f"block {self.name}"

    @property
    def words(self) -> str:
        """What was left."""
        return f"error {self.loss:.3f}"


def reconstruct(
    dense: nn.Module,
    small: nn.Module,
    chunks: Sequence[Inputs],
    *,
    how: Refinement | None = None,
    outputs: Outputs | None = None,
    seed: int = 0,
    state: Path | None = None,
    run: Mapping[str, Any] | None = None,
    memory: int | None = None,
) -> Iterator[BlockDone]:
    """Refine block after block, each on what the refined ones before it give; yields after each.

    Args:
        dense: the network that is to be met, untouched.
        small: the compressed network, changed in place.
        chunks: unlabelled samples (`first_samples`).
        outputs: what counts of the network's outputs, as `tenfold.statistics.gather` takes it.
        state: folder that keeps the network after each block, by which the same run goes on.
        run: what tells this run from others that could use the folder.
        memory: bytes that samples and activations may take where the network is; what is beyond it lies in files in the
            folder `state`, by default in the system's temporary folder. It changes no result.
    Raises: TenfoldError if the folder cannot be written.
    """
    how = how or Refinement()
    whose = {**(run or {}), **asdict(how), "seed": seed}
    done = 0 if state is None else resumed(state, small, whose)
    chunks = uneven(chunks)
    shelf = Shelf(memory, state)
    shelf.count([chunk.value for chunk in chunks])
    wanted, ours = Flow(dense, chunks, shelf), Flow(small, chunks, shelf)
    blocks = blocks_of(dense, chunks[0].samples(2))
    worth = worths(dense, blocks, chunks, outputs or floating, seed=seed)
    sizes = [chunk.size for chunk in chunks]
    began = time.perf_counter()
    for at, block in enumerate(blocks, start=1):
        wanted.passed(block, wanted.entering(block))
        given = [shelf.keep(each) for each in ours.entering(block)]
        if at > done:
            draw = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{block.name}".encode()))
            samples = Samples.of(given, wanted.given[block], sizes, shelf)
            loss = refined(block.of(small), samples, how, generator=draw, worth=worth.get(block))
            del samples  # which would hold these activations while those of the next block are made
            if state is not None:
                keep(state, small, at, whose)
            pace = (time.perf_counter() - began) / (at - done)
            log.info("block %s: %.4f of the variance of its outputs is lost", block.name, loss)
            yield BlockDone(block.name, at, len(blocks), loss, pace * (len(blocks) - at))
        ours.passed(block, drained(given))


def drained(values: list[Any]) -> Iterator[Any]:
    """The values of a list in order, each of which leaves it."""
    values.reverse()
    while values:
        yield values.pop()
