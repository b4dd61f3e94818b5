"""The weight itself as one core: nothing is cut; its numbers may lie in few bits."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.formats.base import Format
from tenfold.network import Labels, TensorNetwork, contract

DENSE = "dense"  # what a plan calls it


@dataclass(frozen=True)
class Whole(Format):
    """One core with the axes of the weight, in their order."""

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return (tuple(label for labels in modes.values() for label in labels),)

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return [contract([(tensor, net.modes)], net.cores[0])]
