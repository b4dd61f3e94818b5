"""Singular values and vectors of unfoldings, never by a full SVD of a long matrix."""

import torch
from torch import Tensor

LARGE = 256  # of the shorter side
CLOSE = 0.01  # of the squared error
STRIP = 128  # rows of a Gram matrix at a time, at least; at most eight times
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

    They are eigenvectors of the Gram matrix of the shorter side. That squares the singular values, so what lies below
    1e-8 of the largest is mixed up; where all that is left out is that small (and something is), the matrix is
    decomposed itself.

    Args:
        matrix: (m, n) in float64 or float32.
        rank: 1 or more; beyond min(m, n) the columns are zeros.
    Returns: (m, rank), orthonormal columns.
    Source: Golub and Van Loan, Matrix Computations, sections 8.6.3 and 8.6.2 (R-bidiagonalisation).
    """
    kept = min(rank, *matrix.shape)
    values, vectors = eigenpairs(gram(matrix), kept)
    left_out = values[: len(values) - kept].clamp_min(0).sum()
    if kept < len(values) and left_out < EXACT * values[-1]:
        found = left_vectors(matrix)[:, :kept]
    else:
        leading = vectors.flip(1).to(matrix)
        found = leading if matrix.shape[0] <= matrix.shape[1] else torch.linalg.qr(matrix @ leading).Q
    return torch.nn.functional.pad(found, (0, rank - kept))


def eigenpairs(square: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """All eigenvalues of a symmetric matrix in float64, in ascending order, and the eigenvectors of the largest.

    Those of a large matrix are found in float32, in half the time, where the rounding of it (the excess of what they
    leave out is at most twice the norm of the rounding for each) is under a hundredth of what they leave out.
    Source: Fan's inequality: Horn and Johnson, Matrix Analysis, corollary 4.3.39.
    """
    if len(square) >= LARGE:
        values, vectors = (part.double() for part in torch.linalg.eigh(square.float()))
        left_out = values[: len(values) - kept].clamp_min(0).sum()
        if 2 * kept * torch.finfo(torch.float32).eps * values[-1] < CLOSE * left_out:
            basis = vectors[:, len(values) - kept :]
            return values, 1.5 * basis - 0.5 * basis @ (basis.mT @ basis)  # orthonormal to the last digits again
    values, vectors = torch.linalg.eigh(square)
    return values, vectors[:, len(values) - kept :]


def left_vectors(matrix: Tensor) -> Tensor:
    """All left singular vectors, by way of a small triangle: the long side never meets the SVD."""
    m, n = matrix.shape
    if m <= n:
        triangle = torch.linalg.qr(matrix.mT, mode="r").R.mT  # (m, m)
        vectors: Tensor = torch.linalg.svd(triangle, full_matrices=False).U
    else:
        basis, triangle = torch.linalg.qr(matrix)  # (m, n), (n, n)
        vectors = basis @ torch.linalg.svd(triangle, full_matrices=False).U
    return vectors


def gram(matrix: Tensor) -> Tensor:
    """Of the shorter side, in float64, strip by strip up to the diagonal: eigensolvers read the lower triangle only."""
    work = matrix.double()
    side = work if work.shape[0] <= work.shape[1] else work.mT
    square = side.new_zeros(len(side), len(side))
    strip = max(STRIP, -(-len(side) // 8))
    for start in range(0, len(side), strip):
        rows = slice(start, start + strip)
        square[rows, : rows.stop] = side[rows] @ side[: rows.stop].mT
    return square


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
