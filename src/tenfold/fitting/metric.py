"""`Metric`: what an error of a weight costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenfold.network import GROUPS, Fold, TensorNetwork, contract
from tenfold.protocols import TenfoldError

FLOOR = 1e-6  # of the largest eigenvalue: below it a direction is treated as this strong


@dataclass(frozen=True)
class Metric:
    """Second moments as Kronecker factors, each of one axis or of several together; other axes have the identity.

    The squared error of a difference D is the contraction of D with itself through every moment; without
    any moment it is the squared Frobenius norm.

    Attributes:
        moments: axes (`"o"`, `"i h w"`) -> (n, n), symmetric, no negative eigenvalue, over the axes flattened in this
            order; (n,) where it is a diagonal; (g, n, n) where each group of the axis `g` has its own (of diagonals
            one over `"g i h w"`).
    """

    moments: Mapping[str, Tensor] = field(hash=False)

    def squared_error(self, difference: Tensor, axes: Sequence[str]) -> float:
        """Cost of a difference of weights whose dimensions are these axes, without a gradient."""
        return float(self.cost(difference.detach().double(), axes))

    def cost(self, difference: Tensor, axes: Sequence[str]) -> Tensor:
        """The same as a tensor that gradients pass through."""
        seen = difference
        for key, moment in self.moments.items():
            seen = through(moment.to(difference), seen, axes, key.split())
        return (seen * difference).sum()

    def macs(self, net: TensorNetwork) -> int:
        """Multiply-adds of a cost and its gradient, about."""
        size = math.prod(net.axes.values())
        return 4 * size * (1 + sum(moment.shape[-1] for moment in self.moments.values() if moment.ndim > 1))

    # ---- one factor for each mode, for fits that know no more
    def whitened(self, tensor: Tensor, net: TensorNetwork) -> Tensor:
        """A tensor of `net`'s modes in coordinates where the metric is nearly the identity (`factors`)."""
        for mode, (root, _) in self.roots(net).items():
            tensor = applied(root, tensor, net.modes.index(mode))
        return tensor

    def whitened_weight(self, weight: Tensor, net: TensorNetwork) -> Tensor:
        """`whitened` of a weight in its axes, in float64; what falls into padding is lost."""
        return net.to_axes(self.whitened(net.to_modes(weight.detach().cpu().double()), net))

    def unwhitened(self, cores: Sequence[Tensor], net: TensorNetwork) -> list[Tensor]:
        """Cores of a whitened tensor, back in the weight's own coordinates; ranks do not change."""
        result = list(cores)
        for mode, (_, inverse) in self.roots(net).items():
            (k,) = net.holders[mode]
            result[k] = applied(inverse, result[k], net.cores[k].index(mode))
        return result

    def roots(self, net: TensorNetwork) -> dict[str, tuple[Tensor, Tensor]]:
        """By mode the symmetric square root of its factor and the inverse of that, small eigenvalues floored; diagonals
        (n,) of diagonals.

        Raises: TenfoldError for a moment that is zero.
        """
        return {mode: roots_of(factor) for mode, factor in self.factors(net).items()}

    def factors(self, net: TensorNetwork) -> dict[str, Tensor]:
        """A moment (n, n), or a diagonal (n,), for each mode of `net`: partial traces of the whole, their product of
        its trace.

        A mode that straddles axes or that several cores hold gets none; groups are taken together.
        Raises: TenfoldError for a moment that is zero.
        """
        found: dict[str, Tensor] = {}
        for key, moment in self.moments.items():
            whole = moment.double().mean(0) if moment.ndim == 3 else moment.double()
            if not trace(whole) > 0:
                raise TenfoldError(f"the second moment of axis '{key}' is zero; calibrate on inputs that reach it.")
            found |= mode_factors(whole, key.split(), net)
        return {mode: factor for mode, factor in found.items() if len(net.holders[mode]) == 1}

    def is_product(self, net: TensorNetwork) -> bool:
        """Whether `factors` are all of the metric: every moment is that of one mode, which one core holds."""
        whole = {fold.axes[0] for fold in net.folds if is_one_mode(fold, net) and len(net.holders[fold.modes[0]]) == 1}
        return all(moment.ndim < 3 and key in whole for key, moment in self.moments.items())


def mode_factors(moment: Tensor, axes: Sequence[str], net: TensorNetwork) -> dict[str, Tensor]:
    """The partial traces of a moment over these axes for each of their modes, scaled to its trace together."""
    sizes = [net.axes[axis] for axis in axes]
    found: dict[str, Tensor] = {}
    for at, axis in enumerate(axes):
        fold = next(fold for fold in net.folds if axis in fold.axes)
        if fold.straddles:
            continue
        own, modes = partial_trace(moment, sizes, at), net.shape(fold.modes)
        spare = math.prod(modes) - len(own)
        own = torch.nn.functional.pad(own, (0, spare) * own.ndim)  # with zeros
        found |= {mode: partial_trace(own, modes, k) for k, mode in enumerate(fold.modes)}
    scale = trace(moment) ** (1 / max(len(found), 1) - 1)
    return {mode: factor * scale for mode, factor in found.items()}


def trace(moment: Tensor) -> float:
    """Of a moment (n, n), or of a diagonal (n,)."""
    return float(moment.sum() if moment.ndim == 1 else moment.diagonal().sum())


def partial_trace(moment: Tensor, sizes: Sequence[int], at: int) -> Tensor:
    """(n, n), or (n,) of a diagonal, of one part of what a moment's dimension is made of, the others traced out."""
    before, n, after = math.prod(sizes[:at]), sizes[at], math.prod(sizes[at + 1 :])
    if moment.ndim == 1:
        return moment.reshape(before, n, after).sum((0, 2))
    return torch.einsum("aibajb->ij", moment.reshape(before, n, after, before, n, after))


def is_one_mode(fold: Fold, net: TensorNetwork) -> bool:
    """Whether a fold is one axis, whole and without padding."""
    return len(fold.axes) == 1 and net.shape(fold.modes) == (net.axes[fold.axes[0]],)


def roots_of(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric square root of a moment and the inverse of it, small eigenvalues floored; diagonals of a diagonal."""
    if moment.ndim == 1:
        scale = moment.clamp_min(FLOOR * float(moment.max())).sqrt()
        return scale, 1 / scale
    values, vectors = torch.linalg.eigh(moment)
    scale = values.clamp_min(FLOOR * float(values[-1])).sqrt()
    return vectors * scale @ vectors.mT, vectors / scale @ vectors.mT


def through(moment: Tensor, difference: Tensor, axes: Sequence[str], own: Sequence[str]) -> Tensor:
    """A moment over some of a tensor's axes on it."""
    front = [axes.index(GROUPS)] if moment.ndim == 3 else []
    order = [*front, *(k for k, axis in enumerate(axes) if axis not in own and k not in front)]
    order += [axes.index(axis) for axis in own]
    turned = difference.permute(order)
    flat = turned.flatten(-len(own))
    if moment.ndim == 1:
        seen = flat * moment
    elif moment.ndim == 2:
        seen = flat @ moment
    else:
        seen = (flat.flatten(1, -2) @ moment).reshape(flat.shape)
    return seen.reshape(turned.shape).permute([order.index(k) for k in range(len(order))])


def applied(matrix: Tensor, tensor: Tensor, at: int) -> Tensor:
    """A matrix, or a diagonal, on one dimension of a tensor."""
    if matrix.ndim == 1:
        return tensor * matrix.to(tensor).reshape([-1] + [1] * (tensor.ndim - 1 - at))
    labels = tuple(f"x{d}" for d in range(tensor.ndim))
    after = tuple("y" if d == at else f"x{d}" for d in range(tensor.ndim))
    return contract([(matrix, ("y", f"x{at}")), (tensor, labels)], after)
