"""`Spectrum`: what a weight loses beyond each rank of a bond; `Foreseen`: what it was to lose, and what it lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import sqrt

import numpy as np
from torch import Tensor

from tenfold.fitting import Metric
from tenfold.network import unfolding_of
from tenfold.planning import ErrorCurves
from tenfold.surgery import Row

POINTS = 12  # of a spectrum that are kept


@dataclass(frozen=True)
class Spectrum:
    """What cutting one bond alone loses.

    Attributes:
        cut: the modes on both sides of it, `i | o h w`.
        rank: that was chosen.
        ranks: from 0 to the full one, the chosen one among them.
        errors: relative error of the weight at each, in the metric that the plan was made by, where there was one.
    """

    cut: str
    rank: int
    ranks: tuple[int, ...]
    errors: tuple[float, ...]

    @property
    def error(self) -> float:
        """At the chosen rank."""
        return self.errors[self.ranks.index(self.rank)]


@dataclass(frozen=True)
class Foreseen:
    """The relative error of a weight that its spectra foretold (a bound), and the one that came, in the same metric."""

    expected: float
    measured: float


@dataclass(frozen=True)
class Known:
    """What a plan was made by.

    Attributes:
        curves: errors by rank, of every weight.
        metrics: by weight what an error costs; none: the Frobenius norm.
    """

    curves: ErrorCurves
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    def spectra(self, row: Row, weight: Tensor, axes: Mapping[str, int]) -> tuple[Spectrum, ...]:
        """A spectrum for every bond that is cut and has an unfolding: bonds of rings and of sums have none.

        Args: weight: dense, in its axes; read only where the planner did not meet the unfolding.
        """
        if row.is_dense:
            return ()
        net, metric = row.network(axes), self.metrics.get(row.name)
        found = []
        for bond in net.bonds:
            sides = unfolding_of(net, bond)
            if sides is None:
                continue
            seen = partial(metric.whitened_weight, weight, net, sides) if metric else lambda: weight
            tail = np.sqrt(self.curves.tail(row.name, seen, net, bond).clip(0, 1))
            rank = min(net.sizes[bond], len(tail) - 1)
            kept = sorted({rank, *np.rint(np.geomspace(1, len(tail), POINTS) - 1).astype(int).tolist()})
            errors = tuple(float(f"{tail[r]:.3g}") for r in kept)
            found.append(Spectrum(" | ".join(" ".join(side) for side in sides), rank, tuple(kept), errors))
        return tuple(found)

    def foreseen(self, row: Row, spectra: tuple[Spectrum, ...], before: Tensor, now: Tensor,
                 axes: Mapping[str, int]) -> Foreseen | None:  # fmt: skip
        """What the spectra foretold beside what came; None where they do not tell all that is lost."""
        if row.bits or not spectra or len(spectra) < len(row.network(axes).bonds):
            return None
        metric = self.metrics.get(row.name, Metric({}))
        whole = metric.squared_error(before, tuple(axes))
        lost = metric.squared_error(now.to(before) - before, tuple(axes))
        expected = min(1.0, sqrt(sum(spectrum.error**2 for spectrum in spectra)))
        return Foreseen(expected, sqrt(max(lost, 0.0) / whole)) if whole > 0 else None
