"""Singular values and vectors of unfoldings, never by a full SVD of a long matrix."""

import torch
from torch import Tensor


def unfolded(tensor: Tensor, rows: list[int]) -> Tensor:
    """The matrix of a tensor with these dimensions as rows, the others as columns, both in order."""
    columns = [k for k in range(tensor.ndim) if k not in rows]
    count = 1
    for k in rows:
        count *= tensor.shape[k]
    return tensor.permute(*rows, *columns).reshape(count, -1)


def leading_vectors(matrix: Tensor, rank: int) -> Tensor:
    """Leading left singular vectors, exact to rounding.

    A long matrix is reduced to a small triangle by QR first: the long side never meets the SVD.

    Args:
        matrix: (m, n) in float64 or float32.
        rank: 1 or more; beyond min(m, n) the columns are zeros.
    Returns: (m, rank), orthonormal columns.
    Source: Golub and Van Loan, Matrix Computations, section 8.6 (R-bidiagonalisation).
    """
    m, n = matrix.shape
    if m <= n:
        triangle = torch.linalg.qr(matrix.mT, mode="r").R.mT  # (m, m)
        vectors = torch.linalg.svd(triangle, full_matrices=False).U
    else:
        basis, triangle = torch.linalg.qr(matrix)  # (m, n), (n, n)
        vectors = basis @ torch.linalg.svd(triangle, full_matrices=False).U
    kept = vectors[:, :rank]
    return torch.nn.functional.pad(kept, (0, rank - kept.shape[1]))


def energies(matrix: Tensor) -> Tensor:
    """Squared singular values, largest first, by the Gram matrix of the shorter side in float64.

    Values below 1e-16 of the largest (singular values below 1e-8) are rounding, so this serves
    energy shares and error curves, not decompositions.
    """
    work = matrix.double()
    gram = work @ work.mT if work.shape[0] <= work.shape[1] else work.mT @ work
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.flip(0).clamp_min(0)


def tail(energy: Tensor) -> Tensor:
    """What truncation loses: entry r is the sum of the squared singular values beyond the first r; (n + 1,)."""
    return torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])
