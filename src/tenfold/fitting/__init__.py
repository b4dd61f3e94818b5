"""Numbers for the cores of a network: truncated SVD, trees, alternating least squares, metrics."""

from tenfold.fitting.als import alternating_least_squares
from tenfold.fitting.balance import balanced
from tenfold.fitting.correction import corrected, degeneracy
from tenfold.fitting.hooi import orthogonal_iterations
from tenfold.fitting.metric import Metric
from tenfold.fitting.quasi_newton import quasi_newton
from tenfold.fitting.shared import shared_core
from tenfold.fitting.spectra import energies, leading_vectors, tail
from tenfold.fitting.tree import tree_decomposition

__all__ = [
    "Metric", "alternating_least_squares", "balanced", "corrected", "degeneracy", "energies", "leading_vectors",
    "orthogonal_iterations", "quasi_newton", "shared_core", "tail", "tree_decomposition",
]  # fmt: skip
