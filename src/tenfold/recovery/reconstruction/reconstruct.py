"""A compressed network led back to the dense one, block by block, on unlabelled samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tenfold.inputs import Inputs
from tenfold.recovery.reconstruction.blocks import Block, blocks_of
from tenfold.recovery.reconstruction.flow import Flow
from tenfold.recovery.reconstruction.refine import Refinement, floating, refined
from tenfold.recovery.reconstruction.samples import Samples
from tenfold.recovery.reconstruction.worth import worths
from tenfold.statistics.gather import Outputs


@dataclass(frozen=True)
class Rebuilt:
    """A block that was refined, and the loss that was left: the share of the variance of its outputs."""

    block: Block
    loss: float


def reconstruct(
    dense: nn.Module,
    small: nn.Module,
    chunks: Sequence[Inputs],
    *,
    how: Refinement | None = None,
    outputs: Outputs | None = None,
    seed: int = 0,
) -> Iterator[Rebuilt]:
    """Refine block after block, each on what the refined ones before it give; yields after each.

    Args:
        dense: the network that is to be met, untouched.
        small: the compressed network, changed in place.
        chunks: unlabelled samples (`first_samples`).
        outputs: what counts of the network's outputs, as `tenfold.statistics.gather` takes it.
    """
    how = how or Refinement()
    wanted, ours = Flow(dense, chunks), Flow(small, chunks)
    generator = torch.Generator().manual_seed(seed)
    blocks = blocks_of(dense, chunks[0])
    worth = worths(dense, blocks, chunks, outputs or floating, seed=seed)
    for block in blocks:
        targets = [floating(each) for each in wanted.passed(block, wanted.entering(block))]
        given = ours.entering(block)
        samples = Samples.of(given, targets, [chunk.size for chunk in chunks])
        loss = refined(block.of(small), samples, how, generator=generator, worth=worth.get(block))
        ours.passed(block, given)
        yield Rebuilt(block, loss)
