"""Tucker-2 of a kernel: 1x1, k x k, 1x1."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.documents import Natural
from tenfold.formats.base import Axes, Format, is_pointwise, spatial_axes
from tenfold.formats.svd import SVD
from tenfold.formats.tucker import hub, swept
from tenfold.network import Labels, TensorNetwork


@dataclass(frozen=True)
class Tucker2(Format):
    """Tucker on the two channel axes only (Kim et al., ICLR 2016; METHODS E.3); SVD stands in on matrices and 1x1.

    Attributes:
        sweeps: orthogonal iterations at most after the truncation (HOOI); the error never rises.
    """

    sweeps: Natural = 0

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        window = tuple(x for axis in spatial_axes(modes) for x in modes[axis])
        return (*modes["i"], "r1"), ("r1", *window, "r2"), ("r2", *modes["o"])

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, hub(net), self.sweeps)

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        return SVD() if is_pointwise(axes) else self
