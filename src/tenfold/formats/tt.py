"""Tensor train: a chain of cores in one of three layouts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.formats.base import Axes, Format, Modes, spatial_axes
from tenfold.formats.modes import channel_factors, one_by_one, paired
from tenfold.formats.tucker import swept
from tenfold.network import Labels, TensorNetwork
from tenfold.protocols import TenfoldError, near_misses

LAYOUTS = ("chain", "pairs", "split")


@dataclass(frozen=True)
class TT(Format):
    """Tensor train by TT-SVD (Oseledets, SIAM J. Sci. Comput. 33, 2011, Algorithm 1; METHODS E.4).

    Attributes:
        layout: `chain` (one mode an axis, `i h w o`; the default for kernels), `pairs` (the window first, then a core
            for each `(i_k, o_k)`; the default for matrices), `split` (a core for every channel mode, the window
            between: `i1 i2 .. (h w) .. o1 o2`).
        order: into how many modes `i` and `o` are split in `pairs` and `split`; 3, or 2 where an axis is below 64.
        window: order of the window axes in `chain`, such as `"w h"`; a planner tries all.
        sweeps: orthogonal iterations at most after TT-SVD; the error never rises.
    """

    layout: str | None = None
    order: Positive | None = None
    window: str | None = None
    sweeps: Natural = 0

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise TenfoldError(f"tt has no layout '{self.layout}'{near_misses(self.layout, LAYOUTS)}")

    def layout_for(self, axes: Mapping[str, object]) -> str:
        """The layout asked for, or the default of a kernel or a matrix."""
        return self.layout or ("chain" if spatial_axes(axes) else "pairs")

    def default_modes(self, axes: Axes) -> Modes:
        if self.layout_for(axes) == "chain":
            return {}
        return channel_factors(axes, self.order)

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        window = spatial_axes(modes)
        layout = self.layout_for(modes)
        if layout == "chain":
            return train([modes["i"], *(modes[axis] for axis in self.window_order(window)), modes["o"]])
        if layout == "split":
            return train(one_by_one(modes))
        return train(paired(modes, "layout 'pairs'", ", or use layout 'split'"))

    def window_order(self, axes: Sequence[str]) -> tuple[str, ...]:
        """The window axes in the order of the chain."""
        if self.window is None:
            return tuple(axes)
        order = tuple(self.window.split())
        if sorted(order) != sorted(axes):
            raise TenfoldError(f"window '{self.window}' does not order the axes {' '.join(axes)} of this kernel.")
        return order

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, len(net.cores) - 1, self.sweeps)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        if self.layout_for(axes) == "chain":
            return tuple(replace(self, window=order) for order in window_orders(axes, self.window))
        orders = (2, 3) if self.order is None else (self.order,)
        return tuple(replace(self, order=order) for order in orders)


def train(parts: Sequence[Labels]) -> tuple[Labels, ...]:
    """Cores with these modes in a row, neighbours joined by the bonds r1, r2, .."""
    last = len(parts)
    return tuple(
        (*((f"r{k}",) if k else ()), *part, *((f"r{k + 1}",) if k + 1 < last else ())) for k, part in enumerate(parts)
    )


def window_orders(axes: Axes, given: str | None) -> tuple[str | None, ...]:
    """The orders of the window axes that are worth trying: the one given, or all."""
    window = [axis for axis in spatial_axes(axes) if axes[axis] > 1]
    if given is not None or len(window) < 2:
        return (given,)
    return tuple(" ".join(order) for order in permutations(spatial_axes(axes)))
