"""The rate of a short training: up, and down to nothing as a cosine."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def one_cycle(optimiser: Optimizer, steps: int, rise: float) -> LambdaLR:
    """A schedule over so many steps that reaches the optimiser's rate after a share `rise` of them."""
    top = max(1, round(rise * steps))

    def share(step: int) -> float:
        if step < top:
            return (step + 1) / top
        return (1 + math.cos(math.pi * (step + 1 - top) / (steps + 1 - top))) / 2

    return LambdaLR(optimiser, share)
