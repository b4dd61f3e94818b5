"""The same weight with its scale spread evenly over the cores, which conditions fine-tuning best."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenfold.network import TensorNetwork

Array = NDArray[np.float64]
SETTLED = 1.05  # the most that a round scales the squared norm of a slice by where it is the last


def balanced(net: TensorNetwork, cores: Sequence[Tensor], *, rounds: int = 20) -> list[Tensor]:
    """Scale the slices of every bond so that all its cores carry the same norm in each.

    For a matrix of orthonormal rows and weighted columns this is the split `U S^(1/2)`, `S^(1/2) V`; for CP
    it balances the components over the factors. The dense tensor does not change but for rounding.

    Args:
        rounds: passes over the bonds at most; the scales are found on squared norms and put on the cores once.
    """
    squares = [squared(net, core, k) for k, core in enumerate(cores)]
    factors = {bond: np.ones((len(net.holders[bond]), net.sizes[bond])) for bond in net.bonds}
    for _ in range(rounds):
        most = 1.0
        for bond in net.bonds:
            step = evening(net, squares, bond)
            for k, each in zip(net.holders[bond], step, strict=True):
                squares[k] *= along(net, each, k, bond)
            factors[bond] *= step
            most = max(most, step.max())
        if most < SETTLED:
            break
    result = [core.clone() for core in cores]
    for bond, factor in factors.items():
        for k, each in zip(net.holders[bond], np.sqrt(factor), strict=True):
            result[k] *= torch.from_numpy(along(net, each, k, bond))
    return result


def squared(net: TensorNetwork, core: Tensor, k: int) -> Array:
    """Squares of core k summed over its modes, which keep a dimension of 1. NumPy: many small steps follow."""
    modes = tuple(d for d, x in enumerate(net.cores[k]) if x in net.modes)
    summed: Array = np.square(core.detach().double().numpy()).sum(axis=modes, keepdims=True)
    return summed


def evening(net: TensorNetwork, squares: Sequence[Array], bond: str) -> Array:
    """What makes the squared norms of a bond's slices even, (holders, rank); 1 where a holder's slice is zero."""
    at = [(squares[k], net.cores[k].index(bond)) for k in net.holders[bond]]
    norms = np.array([each.sum(axis=tuple(d for d in range(each.ndim) if d != own)) for each, own in at])
    norms[:, (norms == 0).any(axis=0)] = 1.0
    step: Array = np.exp(np.log(norms).mean(axis=0)) / norms
    return step


def along(net: TensorNetwork, values: Array, k: int, bond: str) -> Array:
    """Values of a bond as an array that multiplies core k."""
    return values.reshape([-1 if x == bond else 1 for x in net.cores[k]])
