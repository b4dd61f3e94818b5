"""The same weight with its scale spread evenly over the cores, which conditions fine-tuning best."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.network import TensorNetwork


def balanced(net: TensorNetwork, cores: Sequence[Tensor], *, rounds: int = 10) -> list[Tensor]:
    """Scale the slices of every bond so that all its cores carry the same norm in each.

    For a matrix of orthonormal rows and weighted columns this is the split `U S^(1/2)`, `S^(1/2) V`; for CP
    it balances the components over the factors. The dense tensor does not change but for rounding.
    """
    result = [core.clone() for core in cores]
    for _ in range(rounds if len(net.bonds) > 1 else 1):
        for bond in net.bonds:
            holders = net.holders[bond]
            norms = torch.stack([slice_norms(result[k], net.cores[k].index(bond)) for k in holders])
            alive = (norms > 0).all(dim=0)
            goal = torch.where(alive, norms.clamp_min(1e-300).log().mean(dim=0).exp(), norms.new_ones(()))
            for k, norm in zip(holders, norms, strict=True):
                scale = torch.where(alive, goal / norm.where(alive, norm.new_ones(())), norm.new_ones(()))
                at = net.cores[k].index(bond)
                result[k] *= scale.reshape([-1 if d == at else 1 for d in range(result[k].ndim)])
    return result


def slice_norms(core: Tensor, at: int) -> Tensor:
    """Norm of every slice along a dimension."""
    return core.movedim(at, 0).flatten(1).norm(dim=1) if core.ndim > 1 else core.abs()
