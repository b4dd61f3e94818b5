"""Alternating least squares over the cores of any network: CP, trees, rings."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.network import TensorNetwork, contract

PROXIMAL = 1e-8  # of the trace of the normal matrix: keeps it solvable without pulling the solution


def alternating_least_squares(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], *, sweeps: int, tolerance: float = 1e-5
) -> tuple[list[Tensor], float]:
    """Better cores from a start: each in turn solves its least-squares problem with the others held.

    Every update solves `(G + l I) x = b + l x_old`, G the contraction of the other cores with themselves and
    l a tiny share of its trace, so that the error never rises and a singular G does no harm.

    Args:
        tensor: of shape `net.shape(net.modes)`, float64 wanted.
        sweeps: passes over all cores at most.
        tolerance: stop when a sweep lowers the squared relative error by less than this share of it.
    Returns: the cores; the relative squared error by the normal equations (cancellation hides what is below 1e-14).
    Source: Comon, Luciani and de Almeida, J. Chemometrics 23 (2009); Grasedyck, Kluge and Kraemer, SIAM J. Sci.
        Comput. 37 (2015) for trees.
    """
    result, total = list(cores), float(tensor.square().sum())
    if total == 0:
        return [*result[:-1], torch.zeros_like(result[-1])], 0.0  # one zero core only: gradients still reach it
    before = math.inf
    for _ in range(sweeps):
        for k in range(len(result)):
            result[k], error = updated(tensor, net, result, k)
        now = max(error + total, 0.0) / total
        if now >= (1 - tolerance) * before or now < 1e-14:
            return result, now
        before = now
    return result, before


def updated(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], k: int) -> tuple[Tensor, float]:
    """The best core k for the others as they are, and the squared error less the squared norm of the tensor."""
    labels = net.cores[k]
    bonds = tuple(x for x in labels if x in net.bonds)
    rows = tuple(x for x in labels if x not in bonds)
    others = [(cores[j], net.cores[j]) for j in range(len(cores)) if j != k]
    primed = [(c, tuple(f"{x}'" if x in net.bonds else x for x in names)) for c, names in others]
    size = net.size(bonds)
    gram = contract([*others, *primed], (*bonds, *(f"{x}'" for x in bonds))).reshape(size, size)
    seen = contract([(tensor, net.modes), *others], (*rows, *bonds)).reshape(-1, size)  # (rows, bonds)
    order = [labels.index(x) for x in (*rows, *bonds)]
    old = cores[k].permute(order).reshape(-1, size)
    weight = PROXIMAL * float(gram.trace())
    if weight == 0:
        return cores[k], 0.0
    eye = torch.eye(size, dtype=gram.dtype)
    solved = torch.linalg.solve(gram + weight * eye, (seen + weight * old).mT).mT
    error = float((solved @ gram * solved).sum() - 2 * (solved * seen).sum())
    core = solved.reshape(net.shape((*rows, *bonds))).permute([(*rows, *bonds).index(x) for x in labels])
    return core.contiguous(), error
