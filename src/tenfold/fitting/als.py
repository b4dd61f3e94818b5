"""Alternating least squares over the cores of any network: CP, trees, rings."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.network import TensorNetwork, contract

PROXIMAL = 1e-8  # of the trace of the normal matrix: keeps it solvable without pulling the solution
STRETCH = 0.5, 1.2, 2.0  # of a sweep's step, taken once more: at first, its growth where the error fell, at most


def alternating_least_squares(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], *, sweeps: int, tolerance: float = 1e-5
) -> tuple[list[Tensor], float]:
    """Better cores from a start: each in turn solves its least-squares problem with the others held.

    Every update solves `(G + l I) x = b + l x_old`, G the contraction of the other cores with themselves and
    l a tiny share of its trace, so that the error never rises and a singular G does no harm. The next sweep starts a
    stretch beyond where the last one went, which saves sweeps; one that ends higher is undone.

    Args:
        tensor: of shape `net.shape(net.modes)`, float64 wanted.
        sweeps: passes over all cores at most.
        tolerance: stop when a sweep lowers the squared relative error by less than this share of it.
    Returns: the cores; the relative squared error by the normal equations (cancellation hides what is below 1e-14).
    Source: Comon, Luciani and de Almeida, J. Chemometrics 23 (2009); Grasedyck, Kluge and Kraemer, SIAM J. Sci.
        Comput. 37 (2015) for trees; Ang, Cohen, Hien and Gillis, ICASSP 2020, for the stretch.
    """
    best, total = list(cores), float(tensor.square().sum())
    if total == 0:
        return [*best[:-1], torch.zeros_like(best[-1])], 0.0  # one zero core only: gradients still reach it
    (stretch, growth, most), least, ahead = STRETCH, math.inf, None
    for _ in range(sweeps):
        found, error = sweep(tensor, net, best if ahead is None else ahead)
        now = max(error + total, 0.0) / total
        slow = not now < (1 - tolerance) * least
        if now < least:
            step = [(new - old) * stretch for new, old in zip(found, best, strict=True)]
            best, least, stretch = found, now, min(most, stretch * growth)
        if now < 1e-14 or (slow and ahead is None):
            break
        if slow:
            stretch /= 2
        ahead = None if slow else [core + further for core, further in zip(best, step, strict=True)]
    return best, least


def sweep(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Every core updated once, and the squared error less the squared norm of the tensor."""
    result, error = list(cores), 0.0
    for k in range(len(result)):
        result[k], error = updated(tensor, net, result, k)
    return result, error


def updated(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], k: int, *, penalty: Tensor | None = None
) -> tuple[Tensor, float]:
    """The best core k for the others as they are, and the squared error less the squared norm of the tensor.

    `penalty`: a weight on the squared numbers of the core, by its bonds (ranks multiplied,).
    """
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
    ridge = torch.full((size,), weight, dtype=gram.dtype) + (0.0 if penalty is None else penalty)
    solved = torch.linalg.solve(gram + ridge.diag(), (seen + weight * old).mT).mT
    error = float((solved @ gram * solved).sum() - 2 * (solved * seen).sum())
    core = solved.reshape(net.shape((*rows, *bonds))).permute([(*rows, *bonds).index(x) for x in labels])
    return core.contiguous(), error
