"""`Metric`: what an error of a weight costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenfold.network import TensorNetwork, contract
from tenfold.protocols import TenfoldError

FLOOR = 1e-6  # of the largest eigenvalue: below it a direction is treated as this strong


@dataclass(frozen=True)
class Metric:
    """Second moments, one for each axis, as Kronecker factors; an axis without one has the identity.

    The squared error of a difference D is the contraction of D with itself through every moment; without
    any moment it is the squared Frobenius norm.
    """

    moments: Mapping[str, Tensor] = field(hash=False)  # axis -> (n, n), symmetric, no negative eigenvalue

    def squared_error(self, difference: Tensor, axes: Sequence[str]) -> float:
        """Cost of a difference of weights whose dimensions are these axes, without a gradient."""
        return float(self.cost(difference.detach().double(), axes))

    def cost(self, difference: Tensor, axes: Sequence[str]) -> Tensor:
        """The same as a tensor that gradients pass through."""
        seen = difference
        for at, axis in enumerate(axes):
            if axis in self.moments:
                seen = applied(self.moments[axis].to(difference.dtype), seen, at)
        return (seen * difference).sum()

    def roots(self, axis: str) -> tuple[Tensor, Tensor]:
        """Symmetric square root of a moment and the inverse of it, small eigenvalues floored; (n, n) each."""
        values, vectors = torch.linalg.eigh(self.moments[axis].double())
        if not values[-1] > 0:
            raise TenfoldError(f"the second moment of axis '{axis}' is zero; calibrate on inputs that reach the layer.")
        scale = values.clamp_min(FLOOR * float(values[-1])).sqrt()
        return vectors * scale @ vectors.mT, vectors / scale @ vectors.mT

    def whitened(self, tensor: Tensor, net: TensorNetwork) -> Tensor:
        """A tensor of `net`'s modes in coordinates where the metric is the identity."""
        for axis in self.moments:
            tensor = applied(self.roots(axis)[0], tensor, net.modes.index(self.mode(axis, net)))
        return tensor

    def unwhitened(self, cores: Sequence[Tensor], net: TensorNetwork) -> list[Tensor]:
        """Cores of a whitened tensor, back in the weight's own coordinates; ranks do not change."""
        result = list(cores)
        for axis in self.moments:
            mode = self.mode(axis, net)
            for k in net.holders[mode]:
                result[k] = applied(self.roots(axis)[1], result[k], net.cores[k].index(mode))
        return result

    def mode(self, axis: str, net: TensorNetwork) -> str:
        """The one mode that an axis is.

        Raises: TenfoldError where the axis is split or straddled: a full root would raise the ranks.
        """
        for fold in net.folds:
            if fold.axes == (axis,) and net.shape(fold.modes) == (net.axes[axis],):
                return fold.modes[0]
        raise TenfoldError(f"axis '{axis}' is split into modes or padded; its metric needs one factor for each mode.")


def applied(matrix: Tensor, tensor: Tensor, at: int) -> Tensor:
    """A matrix on one dimension of a tensor."""
    labels = tuple(f"x{d}" for d in range(tensor.ndim))
    after = tuple("y" if d == at else f"x{d}" for d in range(tensor.ndim))
    return contract([(matrix, ("y", f"x{at}")), (tensor, labels)], after)
