"""Random cores whose weight has a given deviation."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, product

import torch
from torch import Tensor

from tenfold.network.tensor_network import Fold, TensorNetwork
from tenfold.protocols import TenfoldError


def deviation_of(net: TensorNetwork, cores: Sequence[Tensor]) -> Tensor:
    """Root mean square of `weight(cores)`, without building it; what is padding does not count."""
    parts = product(*(boxes(net, fold) for fold in net.folds))
    norms = [net.norm(inside(net, cores, dict(chain(*map(dict.items, box))))) for box in parts]
    return torch.stack(norms).square().sum().div(math.prod(net.axes.values())).sqrt()


def boxes(net: TensorNetwork, fold: Fold) -> list[dict[str, slice]]:
    """Ranges of modes that make up, disjoint, what of a fold is no padding.

    In mixed radix an index is below the end where its first digits are the end's, and the next one is smaller.
    """
    end, rest = math.prod(net.axes[axis] for axis in fold.axes), net.size(fold.modes)
    if end == rest:
        return [{}]
    found: list[dict[str, slice]] = []
    same: dict[str, slice] = {}
    for mode in fold.modes:
        rest //= net.sizes[mode]
        digit, end = divmod(end, rest)
        found += [{**same, mode: slice(digit)}] if digit else []
        same[mode] = slice(digit, digit + 1)
    return found


def inside(net: TensorNetwork, cores: Sequence[Tensor], ranges: Mapping[str, slice]) -> list[Tensor]:
    """The cores within ranges of some labels."""
    every = slice(None)
    return [core[tuple(ranges.get(x, every) for x in own)] for core, own in zip(cores, net.cores, strict=True)]


def random_cores(
    net: TensorNetwork, deviation: float, *, generator: torch.Generator, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Random cores whose weight has this standard deviation, to rounding.

    Independent zero-mean entries of deviation s make `Var(W) = s^(2K) * product of the ranks`
    for K cores; the split is equal and all are rescaled by what was drawn.
    """
    if deviation <= 0:
        raise TenfoldError(f"no deviation {deviation}; use a positive number.")
    each = (deviation**2 / net.size(net.bonds)) ** (1 / (2 * len(net.cores)))
    cores = [torch.randn(shape, generator=generator, dtype=torch.float64) * each for shape in net.shapes]
    gain = (deviation / deviation_of(net, cores)) ** (1 / len(cores))
    return [(core * gain).to(dtype or torch.get_default_dtype()) for core in cores]
