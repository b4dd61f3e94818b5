"""Means of outputs that decomposing has shifted, made good by the bias or the batch norm that follows."""

import torch
from torch import Tensor, nn

from tenfold.layers import FactoredWeight
from tenfold.network import GROUPS
from tenfold.statistics.statistics import Statistics
from tenfold.surgery import sites
from tenfold.surgery.sites import layer_weights


def shift_means(dense: nn.Module, small: nn.Module, statistics: Statistics) -> None:
    """Give the outputs of every compressed weight the mean that they had on the inputs of the statistics.

    Args: small: of the plan's layers; its biases and running means are changed in place.
    """
    known = sites(dense)
    for name, weight, layer in layer_weights(small):
        if name not in statistics.shifts or name not in statistics.seen:
            continue
        held, site = layer.held(weight), known[name]
        if not isinstance(held, FactoredWeight):
            continue
        difference = site.weight(dense).double() - held.in_axes().detach().double()
        shift = summed(difference, tuple(site.axes), site.kind.input_axes(site.axes), statistics.mean(name))
        owner, _, key = statistics.shifts[name].rpartition(".")
        place: Tensor = getattr(small.get_submodule(owner), key)
        with torch.no_grad():
            place += (shift if key == "bias" else -shift).to(place)


def summed(difference: Tensor, axes: tuple[str, ...], inputs: tuple[str, ...], mean: Tensor) -> Tensor:
    """What a difference of weights makes of a mean (groups, k): a number for every output channel."""
    front = [axis for axis in axes if axis == GROUPS]
    turned = difference.permute([axes.index(axis) for axis in (*front, "o", *inputs)])
    rows = turned.reshape(mean.shape[0], -1, mean.shape[1])  # (groups, o, k)
    return (rows @ mean.to(rows).unsqueeze(-1)).flatten()
