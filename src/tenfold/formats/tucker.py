"""Tucker of any order: a core and a factor for every mode."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.documents import Natural
from tenfold.fitting import orthogonal_iterations, tree_decomposition
from tenfold.formats.base import Format
from tenfold.network import Labels, TensorNetwork


@dataclass(frozen=True)
class Tucker(Format):
    """Sequentially truncated HOSVD, then optional sweeps (Tucker, Psychometrika 31, 1966; METHODS E.3).

    Attributes:
        sweeps: orthogonal iterations at most after the truncation (HOOI); the error never rises.
    """

    reshapes: ClassVar[bool] = True
    sweeps: Natural = 0

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        ahead = [x for key, labels in modes.items() if key != "o" for x in labels]
        behind = list(modes.get("o", ()))
        factors = {x: (x, f"r{k + 1}") for k, x in enumerate([*ahead, *behind])}
        core = tuple(bond for _, bond in factors.values())
        return (*(factors[x] for x in ahead), core, *(factors[x][::-1] for x in behind))

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, hub(net), self.sweeps)


def hub(net: TensorNetwork) -> int:
    """The core with the most bonds."""
    return max(range(len(net.cores)), key=lambda k: sum(x in net.bonds for x in net.cores[k]))


def swept(tensor: Tensor, net: TensorNetwork, root: int, sweeps: int) -> list[Tensor]:
    """Cores of a tree by truncation, then so many orthogonal iterations."""
    return orthogonal_iterations(tensor, net, tree_decomposition(tensor, net, root), root, sweeps=sweeps)
