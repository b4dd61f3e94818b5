"""Blocks of a network, one after the other, led to what the dense network gives."""

from tenfold.recovery.reconstruction.blocks import Block, blocks_of
from tenfold.recovery.reconstruction.distil import Distillation, StepDone, distil, error
from tenfold.recovery.reconstruction.reconstruct import BlockDone, reconstruct
from tenfold.recovery.reconstruction.refine import Refinement

__all__ = [
    "Block",
    "BlockDone",
    "Distillation",
    "Refinement",
    "StepDone",
    "blocks_of",
    "distil",
    "error",
    "reconstruct",
]
