"""Semi-tensor Tucker: factors on the slow digit of every mode, the fast digit stays in the core."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.formats.base import Axes, Format, Modes, spatial_axes
from tenfold.formats.modes import digits
from tenfold.formats.tucker import hub, swept
from tenfold.network import Labels, TensorNetwork


@dataclass(frozen=True)
class STTu(Format):
    """Semi-tensor Tucker (Zhao et al. 2021; METHODS C.2): the factor of a mode of size n has n/t rows.

    A channel axis is a mode of two digits, n/t and t; on a window, and on an axis that t does not divide, the ratio is
    1. A factor of rank r here is one of rank `r t` in the paper, which counts the fast digit to the core's axis.

    Attributes:
        t: the ratio of the semi-tensor product; 1 is Tucker.
        sweeps: orthogonal iterations at most after the truncation; the error never rises.
    """

    t: Positive = 2
    sweeps: Natural = 0

    def default_modes(self, axes: Axes) -> Modes:
        return {axis: (axes[axis] // self.t, self.t) for axis in ("i", "o") if self.t > 1 and axes[axis] % self.t == 0}

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        parts = [(axis, *part) for axis in ("i", *spatial_axes(modes), "o") for part in digits(modes[axis])]
        bonds = [f"r{k + 1}" for k in range(len(parts))]
        core = tuple(x for bond, (_, _, fast) in zip(bonds, parts, strict=True) for x in (bond, *fast))
        ahead = [(slow, bond) for bond, (axis, slow, _) in zip(bonds, parts, strict=True) if axis != "o"]
        behind = [(bond, slow) for bond, (axis, slow, _) in zip(bonds, parts, strict=True) if axis == "o"]
        return (*ahead, core, *behind)

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, hub(net), self.sweeps)
