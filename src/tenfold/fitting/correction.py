"""CP components that diverge and cancel, measured and brought back at nearly the same error."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.fitting.als import updated
from tenfold.fitting.balance import balanced
from tenfold.network import TensorNetwork

SLACK = 1.01  # of the error before, at most
SWEEPS = 10  # at each weight of the sensitivity
WEIGHTS = 8  # of the sensitivity that are tried, each a third of the one before


def degeneracy(net: TensorNetwork, cores: Sequence[Tensor]) -> float:
    """Squared norms of the terms of a CP network over the squared norm of their sum: 1 where none cancels another.

    Above 10 terms diverge (Phan et al., ECCV 2020): fine-tuning is then unstable, and half precision loses the sum.
    """
    total = float(net.norm(cores).square())
    return float(term_norms(net, cores).prod(dim=0).sum()) / total if total else 1.0


def term_norms(net: TensorNetwork, cores: Sequence[Tensor]) -> Tensor:
    """Squared norms of the columns of every factor, (factors, terms)."""
    (bond,) = net.bonds
    return torch.stack([
        core.movedim(labels.index(bond), 0).flatten(1).square().sum(1)
        for core, labels in zip(cores, net.cores, strict=True)
    ])  # fmt: skip


def sensitivity(net: TensorNetwork, cores: Sequence[Tensor]) -> float:
    """Expected squared change of the weight under noise of deviation 1 on every number of a CP network."""
    return sum(float((spread(net, cores, k) * norms).sum()) for k, norms in enumerate(term_norms(net, cores))) / (
        len(cores) - 1
    )


def spread(net: TensorNetwork, cores: Sequence[Tensor], k: int) -> Tensor:
    """What the squared norm of each column of factor k weighs in the sensitivity, (terms,)."""
    norms = term_norms(net, cores)
    rows = [net.size(x for x in core if x in net.modes) for core in net.cores]
    others = [j for j in range(len(cores)) if j != k]
    each = [rows[m] * norms[[j for j in others if j != m]].prod(dim=0) for m in others]
    return torch.stack(each).sum(dim=0)


def corrected(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], error: float) -> list[Tensor]:
    """Cores of a CP network with a lower sensitivity, at an error within 1 % of the one they have.

    Alternating least squares on the squared error plus a weight times the sensitivity, which is quadratic in each
    factor; the largest of a few weights that keeps the error.

    Args:
        tensor: of shape `net.shape(net.modes)`.
        error: squared, relative, of the cores.
    Source: Phan et al., "Stable low-rank tensor decomposition for compression of convolutional neural networks",
        ECCV 2020 (the measure and the constraint; the penalised sweeps are ours).
    """
    total = float(tensor.square().sum())
    start, allowed = balanced(net, cores), max(error, 1e-12) * SLACK**2 * total
    weight = allowed / sensitivity(net, start)
    for _ in range(WEIGHTS):
        found, lost = list(start), tensor.new_full((), math.inf)
        for _ in range(SWEEPS):
            for k in range(len(found)):
                found[k], lost = updated(tensor, net, found, k, penalty=weight * spread(net, found, k))
            found = balanced(net, found)
        if lost + total <= allowed and sensitivity(net, found) < sensitivity(net, start):
            return found
        weight /= 3
    return start
