"""Means of outputs that decomposing has shifted, made good by the bias or the batch norm that follows."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs
from tenfold.recovery.reconstruction.blocks import following_norms
from tenfold.statistics import Statistics
from tenfold.surgery import Site, sites
from tenfold.surgery.sites import full, layer_weights


def shiftable(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """By weight what can make good a shift of its outputs: the bias of its layer, or the running mean after it.

    Args:
        model: the dense network.
        inputs: a few samples, by which is seen which batch norm follows.
    """
    norms = following_norms(model, inputs)
    found = {}
    for name, site in sites(model).items():
        if len(site.places) > 1 or site.places[0].weight != "weight" or spread(site):
            continue
        module = site.places[0].module
        if isinstance(getattr(model.get_submodule(module), "bias", None), nn.Parameter):
            found[name] = full(module, "bias")
        elif module in norms:
            found[name] = full(norms[module], "running_mean")
    return found


def spread(site: Site) -> bool:
    """Whether a weight writes windows, so that the mean of its outputs depends on the place."""
    return set(site.axes) - {"g", "o"} != set(site.kind.input_axes(site.axes))


def shift_means(dense: nn.Module, small: nn.Module, statistics: Statistics, places: Mapping[str, str]) -> int:
    """Give the outputs of every compressed weight the mean that they had, on the inputs of the statistics.

    Args: small: changed in place; places: what `shiftable` found.
    Returns: how many.
    """
    known = sites(dense)
    count = 0
    for name, weight, layer in layer_weights(small):
        if name not in places or name not in statistics.seen or name not in known:
            continue
        net = layer.get_submodule(weight).net
        site = known[name]
        difference = site.weight(dense).double() - layer.get_submodule(weight).weight().detach().double()
        shift = summed(difference, tuple(net.axes), site.kind.input_axes(site.axes), statistics.mean(name))
        owner, _, key = places[name].rpartition(".")
        held: Tensor = getattr(small.get_submodule(owner), key)
        with torch.no_grad():
            held += (shift if key == "bias" else -shift).to(held)
        count += 1
    return count


def summed(difference: Tensor, axes: tuple[str, ...], inputs: tuple[str, ...], mean: Tensor) -> Tensor:
    """What a difference of weights makes of a mean (groups, k): a number for every output channel."""
    front = [axis for axis in axes if axis == "g"]
    turned = difference.permute([axes.index(axis) for axis in (*front, "o", *inputs)])
    rows = turned.reshape(mean.shape[0], -1, mean.shape[1])  # (groups, o, k)
    return (rows @ mean.double().unsqueeze(-1)).flatten()
