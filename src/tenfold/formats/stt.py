"""Semi-tensor train: a tensor train whose bonds carry the fast digit of the next mode."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.formats.base import Axes, Format, Modes
from tenfold.formats.modes import redealt, split_channels
from tenfold.formats.tt import train
from tenfold.formats.tucker import swept
from tenfold.network import Labels, TensorNetwork
from tenfold.protocols import TenfoldError, near_misses

LAYOUTS = ("split", "pairs")


@dataclass(frozen=True)
class STT(Format):
    """Semi-tensor train by TT-SVD of the re-dealt tensor (Zhao et al. 2021; METHODS C.3).

    A bond of size r is a pair (r/t, t): the next core sees r/t of it, the t part is the fast digit of the next mode and
    stands on the core before. Ranks here are r/t: STT(r, t) is the tensor train of rank r/t of the modes so dealt.
    Bonds into or out of a window, and into modes that t does not divide, have ratio 1.

    Attributes:
        layout: `split` (a core for every channel mode, the window between, as TR-Nets) or `pairs` (the window first,
            then a core for each `(i_k, o_k)`, whose fast digit is that of `o_k`).
        order: into how many modes `i` and `o` are split; 3, or 2 where an axis is below 64; a planner tries 2 and 3.
        t: the ratio of the semi-tensor product; 1 is the tensor train.
        sweeps: orthogonal iterations at most after TT-SVD; the error never rises.
    """

    layout: str = "split"
    order: Positive | None = None
    t: Positive = 2
    sweeps: Natural = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise TenfoldError(f"stt has no layout '{self.layout}'{near_misses(self.layout, LAYOUTS)}")

    def default_modes(self, axes: Axes) -> Modes:
        return split_channels(axes, self.order, self.t, self.layout)

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return train(redealt(modes, self.layout))

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, len(net.cores) - 1, self.sweeps)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        return tuple(replace(self, order=order) for order in ((2, 3) if self.order is None else (self.order,)))
