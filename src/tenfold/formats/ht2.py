"""Hierarchical Tucker-2: a kernel as a chain of small convolutions, by the paper's one-pass projection."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tenfold.fitting import tree_decomposition
from tenfold.formats.base import Axes, Format, is_pointwise, spatial_axes
from tenfold.formats.svd import SVD
from tenfold.formats.tt import TT, window_orders
from tenfold.network import Labels, TensorNetwork


@dataclass(frozen=True)
class HT2(Format):
    """Both channel factors from the kernel itself, then one truncation between the window axes.

    Source: Gabor and Zdunek 2023, and their public code (METHODS D.2). The network is the tensor train
    `i h w o`: 1x1, kh x 1, 1 x kw, 1x1, and the bonds are R1, R13, R3. As in the paper (METHODS D.4) the first
    convolution and 1x1 convolutions take one truncation on the output axis, matrices an SVD.

    Attributes:
        window: order of the window axes, such as `"w h"`; a planner tries all.
    """

    window: str | None = None

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return TT(layout="chain", window=self.window).core_labels(modes)

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        windowed = [k for k, core in enumerate(net.cores) if spatial_axes(dict.fromkeys(core))]
        return tree_decomposition(tensor, net, root=max(windowed, default=0), together=True)

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        if is_pointwise(axes) or first:
            return SVD(" ".join(("i", *spatial_axes(axes))))
        return self

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        return tuple(replace(self, window=order) for order in window_orders(axes, self.window))
