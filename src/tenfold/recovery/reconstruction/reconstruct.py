"""A compressed network led back to the dense one, block by block, on unlabelled samples."""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold.fitting import Metric
from tenfold.inputs import Inputs
from tenfold.measure import weights_hash
from tenfold.recovery.reconstruction.blocks import Block, blocks_of
from tenfold.recovery.reconstruction.distil import Distillation, StepDone, distil
from tenfold.recovery.reconstruction.flow import Flow
from tenfold.recovery.reconstruction.progress import keep, resumed
from tenfold.recovery.reconstruction.refine import Refinement, refined, steps_for
from tenfold.recovery.reconstruction.samples import Samples, laid_out, pieces, uneven
from tenfold.recovery.reconstruction.shelf import Shelf
from tenfold.recovery.reconstruction.solve import PARTS, Passing, solved
from tenfold.recovery.reconstruction.worth import worths
from tenfold.statistics.gradients import Outputs, floating
from tenfold.statistics.shifts import shiftable

STEPS, BATCH = 180, 128  # with the whole network, and samples of each
TOP, RISE = 2e-3, 0.1  # of the rate there
HELD_OUT = 16  # of so many chunks one is held out, by which the whole network is judged

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockDone:
    """A block that was refined.

    Attributes:
        name: of its first module.
        step: 1 to steps, of the blocks.
        loss: what was left, over the variance of its outputs.
    """

    name: str
    step: int
    steps: int
    loss: float

    @property
    def title(self) -> str:
        """The block."""
        return f"block {self.name}"

    @property
    def words(self) -> str:
        """Which one it is, and what was left."""
        return f"{self.step} of {self.steps}  error {self.loss:.3f}"


def reconstruct(
    dense: nn.Module,
    small: nn.Module,
    chunks: Sequence[Inputs],
    *,
    how: Refinement | None = None,
    named: Sequence[str] = (),
    together: int = STEPS,
    solve: bool = False,
    metrics: Mapping[str, Metric] | None = None,
    outputs: Outputs | None = None,
    seed: int = 0,
    state: Path | None = None,
    run: Mapping[str, Any] | None = None,
    memory: int | None = None,
) -> Iterator[BlockDone | StepDone]:
    """Refine block after block, each on what the refined ones before it give, and then all together.

    Yields after each block, and after each step of the whole network, in which the outputs of all
    blocks and those of the network are led to the dense one's.

    Args:
        dense: the network that is to be met, untouched.
        small: the compressed network, changed in place.
        chunks: unlabelled samples (`first_samples`).
        how: what is done to each block.
        named: modules that are a block each; all others are found (`blocks_of`).
        together: steps with the whole network; 0 for none.
        solve: whether a block's weights are solved for, one after the other, before it is refined.
        metrics: by weight, whose moments of outputs are used there.
        outputs: what counts of the network's outputs, as `tenfold.statistics.gather` takes it.
        state: folder that keeps the network after each block, by which the same run goes on.
        run: what tells this run from others that could use the folder.
        memory: bytes that samples and activations may take where the network is; what is beyond it lies in files in the
            folder `state`, by default in the system's temporary folder. It changes no result.
    Raises: TenfoldError if the folder cannot be written.
    """
    how = how or Refinement()
    whose = {**(run or {}), **asdict(how), "named": [*named], "solve": solve, "together": together, "seed": seed}
    if state is not None:
        whose |= {"dense": weights_hash(dense), "small": weights_hash(small)}
    done = 0 if state is None else resumed(state, small, whose)
    held = [laid_out(chunk) for chunk in chunks[HELD_OUT - 1 :: HELD_OUT]]
    fitted = [laid_out(chunk) for k, chunk in enumerate(chunks, start=1) if k % HELD_OUT]
    chunks = [laid_out(chunk) for chunk in uneven(pieces(fitted, PARTS) if solve else fitted)]
    blocks = blocks_of(dense, chunks[0].samples(2), named)
    if done > len(blocks):
        return
    shelf = Shelf(memory, state)
    shelf.count([chunk.value for chunk in (*chunks, *held)])
    wanted, ours = Flow(dense, chunks, shelf), Flow(small, chunks, shelf)
    worth = worths(dense, blocks, chunks, outputs or floating, seed=seed)
    shifts = shiftable(dense, chunks[0].samples(2)) if solve else {}
    sizes = [chunk.size for chunk in chunks]
    for at, block in enumerate(blocks, start=1):
        entering = wanted.entering(block)
        theirs = [shelf.keep(each) for each in entering] if solve else []
        wanted.passed(block, theirs if solve else entering)
        given = [shelf.keep(each) for each in ours.entering(block)]
        if at > done:
            if solve:
                passing = Passing(theirs, given, wanted.given[block], shelf)
                solved(block, dense, small, passing, shifts=shifts, metrics=metrics or {}, seed=seed)
                theirs.clear()  # what the dense block was given is of no use any more
            draw = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{block.name}".encode()))
            samples = Samples.of(given, wanted.given[block], sizes, shelf)
            with fixed(held_elsewhere(small, block)):
                loss = refined(block.of(small), samples, how, generator=draw, worth=worth.get(block))
            del samples  # which would hold these activations while those of the next block are made
            if state is not None:
                keep(state, small, at, whose)
            log.info("block %s: %.4f of the variance of its outputs is lost", block.name, loss)
            yield BlockDone(block.name, at, len(blocks), loss)
        ours.passed(block, drained(given))
    del wanted, ours  # and all activations with them
    yield from as_one(dense, small, fitted, blocks, together, outputs or floating, seed, held)
    if state is not None:
        keep(state, small, len(blocks) + 1, whose)


def held_elsewhere(model: nn.Module, block: Block) -> list[nn.Parameter]:
    """The parameters of a block that modules outside it hold, too: what they do there, the block cannot see."""
    own = {module for root in block.of(model) for module in root.modules()}
    others = {p for module in model.modules() if module not in own for p in module.parameters(recurse=False)}
    return [p for module in own for p in module.parameters(recurse=False) if p in others]


@contextmanager
def fixed(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """These parameters are not trained meanwhile."""
    trained = [p for p in parameters if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad = False
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad = True


def as_one(
    dense: nn.Module,
    small: nn.Module,
    chunks: Sequence[Inputs],
    blocks: Sequence[Block],
    steps: int,
    outputs: Outputs,
    seed: int,
    held: Sequence[Inputs],
) -> Iterator[StepDone]:
    """Steps with the whole network, which ends no worse than it was on samples held out, or else on those it had."""
    samples = sum(chunk.size for chunk in chunks)
    many = min(max(1, round(BATCH * len(chunks) / samples)), len(chunks))
    how = Distillation(steps_for(steps, samples, BATCH), TOP, RISE, inside=1.0, patience=0.5)
    batches = drawn(chunks, many, torch.Generator().manual_seed(seed))
    yield from distil(dense, small, batches, how, outputs, held=held or chunks, blocks=blocks, title="all blocks")


def drawn(chunks: Sequence[Inputs], many: int, generator: torch.Generator) -> Iterator[list[Inputs]]:
    """So many chunks at a time, in another order each pass, without end."""
    waiting: list[int] = []
    while True:
        while len(waiting) < many:
            waiting += torch.randperm(len(chunks), generator=generator).tolist()
        yield [chunks[k] for k in waiting[:many]]
        waiting = waiting[many:]


def drained(values: list[Any]) -> Iterator[Any]:
    """The values of a list in order, each of which leaves it."""
    values.reverse()
    while values:
        yield values.pop()
