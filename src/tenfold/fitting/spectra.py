"""Singular values and vectors of unfoldings, never by a full SVD of a long matrix."""

import torch
from torch import Tensor

EXACT = 1e-12  # of the largest squared singular value: what leaves out less is not decided by squares


def unfolded(tensor: Tensor, rows: list[int]) -> Tensor:
    """The matrix of a tensor with these dimensions as rows, the others as columns, both in order."""
    columns = [k for k in range(tensor.ndim) if k not in rows]
    count = 1
    for k in rows:
        count *= tensor.shape[k]
    return tensor.permute(*rows, *columns).reshape(count, -1)


def leading_vectors(matrix: Tensor, rank: int) -> Tensor:
    """Leading left singular vectors, exact to rounding where they matter.

    They are eigenvectors of the Gram matrix of the shorter side, in float64. That squares the singular values, so what
    lies below 1e-8 of the largest is mixed up; where all that is left out is that small (and something is), the matrix
    is decomposed itself.

    Args:
        matrix: (m, n) in float64 or float32.
        rank: 1 or more; beyond min(m, n) the columns are zeros.
    Returns: (m, rank), orthonormal columns.
    Source: Golub and Van Loan, Matrix Computations, sections 8.6.3 and 8.6.2 (R-bidiagonalisation).
    """
    kept = min(rank, *matrix.shape)
    values, vectors = torch.linalg.eigh(gram(matrix))
    left_out = values[: len(values) - kept].clamp_min(0).sum()
    if kept < len(values) and left_out < EXACT * values[-1]:
        found = left_vectors(matrix)[:, :kept]
    else:
        leading = vectors[:, len(values) - kept :].flip(1).to(matrix)
        found = leading if matrix.shape[0] <= matrix.shape[1] else torch.linalg.qr(matrix @ leading).Q
    return torch.nn.functional.pad(found, (0, rank - kept))


def left_vectors(matrix: Tensor) -> Tensor:
    """All left singular vectors, by way of a small triangle: the long side never meets the SVD."""
    m, n = matrix.shape
    if m <= n:
        triangle = torch.linalg.qr(matrix.mT, mode="r").R.mT  # (m, m)
        return torch.linalg.svd(triangle, full_matrices=False).U  # type: ignore[no-any-return]
    basis, triangle = torch.linalg.qr(matrix)  # (m, n), (n, n)
    return basis @ torch.linalg.svd(triangle, full_matrices=False).U  # type: ignore[no-any-return]


def gram(matrix: Tensor) -> Tensor:
    """Of the shorter side, in float64."""
    work = matrix.double()
    return work @ work.mT if work.shape[0] <= work.shape[1] else work.mT @ work


def energies(matrix: Tensor) -> Tensor:
    """Squared singular values, largest first, by the Gram matrix of the shorter side in float64.

    Values below 1e-16 of the largest (singular values below 1e-8) are rounding, so this serves
    energy shares and error curves, not decompositions.
    """
    values: Tensor = torch.linalg.eigvalsh(gram(matrix))
    return values.flip(0).clamp_min(0)


def tail(energy: Tensor) -> Tensor:
    """What truncation loses: entry r is the sum of the squared singular values beyond the first r; (n + 1,)."""
    return torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])
