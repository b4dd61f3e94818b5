"""Alternating least squares over the cores of any network: CP, rings, block terms."""

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
    Source: Comon, Luciani and de Almeida, J. Chemometrics 23 (2009); Ang, Cohen, Hien and Gillis, ICASSP 2020, for the
        stretch. Trees have `orthogonal_iterations`.
    """
    best, total = list(cores), float(tensor.square().sum())
    if total == 0:
        return [*best[:-1], torch.zeros_like(best[-1])], 0.0  # one zero core only: gradients still reach it
    (stretch, growth, most), least, ahead = STRETCH, math.inf, None
    for _ in range(sweeps):
        found, error = sweep(tensor, net, best if ahead is None else ahead)
        now = max(float(error) + total, 0.0) / total
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


def sweep(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Every core updated once, and the squared error less the squared norm of the tensor.

    Cores with one more dimension in front are several starts at once, each with an error of its own.
    """
    result, error = list(cores), tensor.new_zeros(())
    for k in range(len(result)):
        result[k], error = updated(tensor, net, result, k)
    return result, error


def updated(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], k: int, *, penalty: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The best core k for the others as they are, and the squared error less the squared norm of the tensor.

    `penalty`: a weight on the squared numbers of the core, by its bonds (ranks multiplied,).
    """
    starts, many = (("start",), cores[k].shape[:1]) if cores[k].ndim > len(net.cores[k]) else ((), ())
    labels = (*starts, *net.cores[k])
    bonds = tuple(x for x in labels if x in net.bonds)
    rows = tuple(x for x in net.cores[k] if x not in bonds)
    others = [(cores[j], (*starts, *net.cores[j])) for j in range(len(cores)) if j != k]
    primed = [(c, tuple(f"{x}'" if x in net.bonds else x for x in names)) for c, names in others]
    size, names = net.size(bonds), (*starts, *rows, *bonds)
    gram = contract([*others, *primed], (*starts, *bonds, *(f"{x}'" for x in bonds))).reshape(*many, size, size)
    seen = contract([(tensor, net.modes), *others], names).reshape(*many, -1, size)  # (rows, bonds)
    old = cores[k].permute([labels.index(x) for x in names]).reshape(*many, -1, size)
    weight = PROXIMAL * gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None]
    weight = weight.where(weight > 0, weight.new_ones(()))  # where the others are zero, the core stays as it is
    ridge = weight.expand(*many, size) + (0.0 if penalty is None else penalty)
    factor = torch.linalg.cholesky_ex(gram + ridge.diag_embed()).L  # where numbers overflow the error is not finite
    solved = torch.cholesky_solve((seen + weight[..., None] * old).mT, factor).mT
    error = (solved @ gram * solved - 2 * solved * seen).sum(dim=(-2, -1))
    core = solved.reshape(*many, *net.shape((*rows, *bonds))).permute([names.index(x) for x in labels])
    return core.contiguous(), error
