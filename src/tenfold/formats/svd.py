"""SVD: two cores and one bond; on kernels, the choice is which axes meet the input side."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.fitting import tree_decomposition
from tenfold.formats.base import Axes, Format, is_pointwise, spatial_axes
from tenfold.network import SPATIAL, Labels, TensorNetwork
from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class SVD(Format):
    """Truncated singular value decomposition of one unfolding (Eckart and Young, Psychometrika 1, 1936).

    Attributes:
        first: axes of the first core, the input axis among them: `"i"` (1x1, then the window), `"i h w"` (the window,
            then 1x1), `"i h"` (kh x 1, then 1 x kw: spatial SVD), `"i w"`. Default: `"i"` on matrices, `"i h w"`
            (all window axes) on kernels; a planner tries all.
    """

    first: str | None = None

    def __post_init__(self) -> None:
        chosen = ["i"] if self.first is None else self.first.split()
        if "i" not in chosen or not set(chosen) <= {"i", *SPATIAL} or len(set(chosen)) < len(chosen):
            raise TenfoldError(
                f"SVD's first core cannot hold '{self.first}'; name 'i' and any of the window axes {' '.join(SPATIAL)}."
            )

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        chosen = self.first.split() if self.first is not None else ["i", *spatial_axes(modes)]
        if not set(chosen) < set(modes):
            raise TenfoldError(
                f"SVD's first core cannot hold '{self.first}'; name 'i' and any of the window axes "
                f"{' '.join(spatial_axes(modes)) or '(none here)'}."
            )
        before = tuple(x for axis in chosen for x in modes[axis])
        after = tuple(x for axis in (*spatial_axes(modes), "o") if axis not in chosen for x in modes[axis])
        return (*before, "r1"), ("r1", *after)

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return tree_decomposition(tensor, net, root=len(net.cores) - 1)

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        return self if self.first is None or set(self.first.split()) < set(axes) else SVD()

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        if self.first is not None or is_pointwise(axes):
            return (self,)
        window = spatial_axes(axes)
        return tuple(SVD(" ".join(("i", *part))) for part in [(), window, *((axis,) for axis in window if window[1:])])
