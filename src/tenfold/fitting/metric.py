"""`Metric`: what an error of a weight costs."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenfold.network import GROUPS, Fold, Labels, TensorNetwork
from tenfold.protocols import TenfoldError

Parts = Sequence[Collection[str]]
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
    kept: dict[object, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # roots of factors

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

    # ---- factors by which fits that know no metric see one
    def whitened(self, tensor: Tensor, net: TensorNetwork, parts: Parts | None = None) -> Tensor:
        """A tensor of `net`'s modes in coordinates where the metric is nearly the identity (`factors`)."""
        for modes, (root, _) in self.roots(net, parts).items():
            tensor = applied(root, tensor, [net.modes.index(mode) for mode in modes])
        return tensor

    def whitened_weight(self, weight: Tensor, net: TensorNetwork, parts: Parts | None = None) -> Tensor:
        """`whitened` of a weight in its axes, in float64; what falls into padding is lost."""
        return net.to_axes(self.whitened(net.to_modes(weight.detach().cpu().double()), net, parts))

    def unwhitened(self, cores: Sequence[Tensor], net: TensorNetwork) -> list[Tensor]:
        """Cores of a whitened tensor, back in the weight's own coordinates; ranks do not change."""
        result = list(cores)
        for modes, (_, inverse) in self.roots(net).items():
            (k,) = net.holders[modes[0]]
            result[k] = applied(inverse, result[k], [net.cores[k].index(mode) for mode in modes])
        return result

    def roots(self, net: TensorNetwork, parts: Parts | None = None) -> dict[Labels, tuple[Tensor, Tensor]]:
        """Of every factor the symmetric square root and the inverse of that, small eigenvalues floored; diagonals (n,)
        of diagonals.

        Raises: TenfoldError for a moment that is zero.
        """
        factors = self.factors(net, parts)
        whole = tuple((modes, net.shape(modes)) for modes in factors)
        for modes, factor in factors.items():
            if (modes, whole) not in self.kept:
                self.kept[modes, whole] = roots_of(factor)
        return {modes: self.kept[modes, whole] for modes in factors}

    def factors(self, net: TensorNetwork, parts: Parts | None = None) -> dict[Labels, Tensor]:
        """A moment (n, n), or a diagonal (n,), over the modes of each moment's axes that one part has together: partial
        traces of the whole, their product of its trace.

        A mode that straddles axes or that no part has gets none; axes that are split have a factor for each mode;
        groups are taken together.

        Args: parts: disjoint sets of modes; by default those that each core holds alone.
        Raises: TenfoldError for a moment that is zero.
        """
        alone = parts or [[x for x in core if x in net.modes and len(net.holders[x]) == 1] for core in net.cores]
        found: dict[Labels, Tensor] = {}
        for key, moment in self.moments.items():
            whole = moment.double().mean(0) if moment.ndim == 3 else moment.double()
            if not trace(whole) > 0:
                raise TenfoldError(f"the second moment of axis '{key}' is zero; calibrate on inputs that reach it.")
            found |= joint_factors(key.split(), whole, net, alone)
        return found

    def is_product(self, net: TensorNetwork) -> bool:
        """Whether `factors` are all of the metric: one for every moment, over whole axes that one core holds alone."""
        alone = [{mode for mode in core if len(net.holders[mode]) == 1} for core in net.cores]
        whole = {fold.axes[0]: fold.modes[0] for fold in net.folds if is_one_mode(fold, net)}
        return all(
            moment.ndim < 3 and any({whole.get(axis) for axis in key.split()} <= core for core in alone)
            for key, moment in self.moments.items()
        )


def joint_factors(axes: Sequence[str], moment: Tensor, net: TensorNetwork, parts: Parts) -> dict[Labels, Tensor]:
    """The partial traces of a moment over those of its axes that belong together, scaled to its trace together."""
    sizes = [net.axes[axis] for axis in axes]
    folds = {axis: next(fold for fold in net.folds if axis in fold.axes) for axis in axes}
    traced: dict[Labels, Tensor] = {}
    for part in parts:
        whole = [axis for axis in axes if is_one_mode(folds[axis], net) and folds[axis].modes[0] in part]
        if whole:
            own = partial_trace(moment, sizes, [axes.index(axis) for axis in whole])
            traced[tuple(folds[axis].modes[0] for axis in whole)] = own
        for axis in axes:
            fold = folds[axis]
            split = [] if fold.straddles or is_one_mode(fold, net) else [mode for mode in fold.modes if mode in part]
            for mode in split:
                own, modes = partial_trace(moment, sizes, [axes.index(axis)]), net.shape(fold.modes)
                own = torch.nn.functional.pad(own, (0, math.prod(modes) - len(own)) * own.ndim)  # with zeros
                traced[mode,] = partial_trace(own, modes, [fold.modes.index(mode)])
    scale = trace(moment) ** (1 / max(len(traced), 1) - 1)
    return {modes: factor * scale for modes, factor in traced.items()}


def trace(moment: Tensor) -> float:
    """Of a moment (n, n), or of a diagonal (n,)."""
    return float(moment.sum() if moment.ndim == 1 else moment.diagonal().sum())


def partial_trace(moment: Tensor, sizes: Sequence[int], kept: Sequence[int]) -> Tensor:
    """(n, n), or (n,) of a diagonal, of some parts of what a moment's dimension is made of, the others traced out."""
    rows = list(range(len(sizes)))
    if moment.ndim == 1:
        return torch.einsum(moment.reshape(*sizes), rows, list(kept)).flatten()
    columns = [len(sizes) + k if k in kept else k for k in rows]
    found: Tensor = torch.einsum(
        moment.reshape(*sizes, *sizes), rows + columns, [*kept, *(len(sizes) + k for k in kept)]
    )
    return found.flatten(0, len(kept) - 1).flatten(1)


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


def applied(matrix: Tensor, tensor: Tensor, at: Sequence[int]) -> Tensor:
    """A matrix, or a diagonal, on some dimensions of a tensor together."""
    others = [d for d in range(tensor.ndim) if d not in at]
    turned = tensor.permute([*others, *at])
    flat = turned.flatten(len(others))
    seen = (flat * matrix.to(flat) if matrix.ndim == 1 else flat @ matrix.to(flat)).reshape(turned.shape)
    order = [*others, *at]
    return seen.permute([order.index(d) for d in range(tensor.ndim)])
