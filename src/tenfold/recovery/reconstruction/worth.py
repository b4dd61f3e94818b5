"""What the outputs of blocks are worth to those of the network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, evaluating, run
from tenfold.layers.recurrence import differentiable
from tenfold.recovery.reconstruction.blocks import Block
from tenfold.recovery.reconstruction.refine import channel_dim
from tenfold.statistics.gradients import Outputs, project, revealed
from tenfold.surgery import copied


def worths(
    dense: nn.Module, blocks: Sequence[Block], chunks: Sequence[Inputs], outputs: Outputs, *, seed: int = 0
) -> dict[Block, Tensor]:
    """For every block that gives one floating tensor the second moment (channels, channels) of the gradients there.

    They are those of a random projection of the network's outputs, as in `tenfold.statistics.gather`.
    """
    twin = copied(dense).eval().requires_grad_(requires_grad=False)
    found: dict[Block, Tensor] = {}
    for block in blocks:
        block.of(twin)[-1].register_forward_hook(watching(block, found))
    generator = torch.Generator().manual_seed(seed)
    with evaluating(twin), torch.enable_grad(), differentiable([twin]):
        for chunk in chunks:
            project(outputs(run(twin, chunk.value)), generator)
    return found


def watching(block: Block, found: dict[Block, Tensor]) -> Any:
    """A hook on what a block gives, by which the gradients there are gathered."""

    def after(module: nn.Module, args: Any, result: Any) -> Any:
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result

        def backward(gradient: Tensor) -> None:
            rows = gradient.movedim(channel_dim(gradient), -1).flatten(0, -2)
            found[block] = found.get(block, 0) + (rows.mT @ rows).double()

        return revealed(result, backward)

    return after
