"""Semi-tensor ring: a tensor ring whose bonds carry the fast digit of the next mode."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.formats.base import Axes, Format, Modes
from tenfold.formats.modes import redealt, split_channels
from tenfold.formats.tr import TRIAL_SWEEPS, ring, ring_fit
from tenfold.network import Labels, TensorNetwork


@dataclass(frozen=True)
class STR(Format):
    """Semi-tensor ring: the tensor ring of rank r/t of the re-dealt tensor (Zhao et al. 2021; METHODS C.3, C.4).

    As the semi-tensor train in layout `split`; the bond that closes the ring carries the fast digit of the first mode.

    Attributes:
        order: into how many modes `i` and `o` are split; 2, and 3 where no axis is below 64 (a planner tries both).
        t: the ratio of the semi-tensor product; 1 is the tensor ring.
        starts: random starts; more are never worse, and none is needed once a ring is exact.
        sweeps: alternating least squares sweeps at most, from each start; the error never rises.
        refine: quasi-Newton steps over all cores after the sweeps.
    """

    iterates: ClassVar[bool] = True
    in_auto: ClassVar[bool] = False
    order: Positive | None = None
    t: Positive = 2
    starts: Positive = 12
    sweeps: Natural = 100
    refine: Natural = 0

    def default_modes(self, axes: Axes) -> Modes:
        return split_channels(axes, self.order, self.t, "ring")

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return ring(redealt(modes, "ring"))

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return ring_fit(tensor, net, self.starts, self.sweeps, self.refine, generator)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        if self.order is not None or min(axes["i"], axes["o"]) < 64:
            return (self,)
        return tuple(replace(self, order=order) for order in (2, 3))

    def trial(self) -> Format:
        return replace(self, starts=1, sweeps=min(self.sweeps, TRIAL_SWEEPS), refine=0)
