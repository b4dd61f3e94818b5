"""Torch's modules with their weights in cores from the start, for networks written by hand."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import nn

from tenfold.formats import Format, format_named, name_of, options_of
from tenfold.network import TensorNetwork
from tenfold.planning.budgets import limit
from tenfold.protocols import TenfoldError
from tenfold.surgery import Init, Plan, Row, Site, fresh, sites

Modes = Mapping[str, Sequence[int]]


def in_cores(
    module: nn.Module,
    *,
    format: str | Format = "svd",
    ranks: int | Sequence[int] | None = None,
    params: str | float | None = None,
    modes: Modes | None = None,
    init: Init = "dense",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """The layer that stands for a torch module, each of its weights new in cores at the deviation of the old one.

    Args:
        format: a name, or a format with options, `tenfold.formats.TT(order=2)`.
        ranks: one number for every bond, or one for each; what is above a bond's useful size is cut to it.
        params: instead of ranks, how small each weight is to be: `10x` or `25%`; the largest ranks within it.
        modes: how axes are split, `{"i": (28, 28), "o": (15, 20)}`; by default as the format does.
        init: as in `tenfold.fresh`; with `cores` the dense weight is never built.
        generator: draws the cores; by default torch's own random state does, as it does for torch's modules.
    Raises: TenfoldError for a format, modes or ranks that do not fit, or a module of no known kind.
    """
    if (ranks is None) == (params is None):
        raise TenfoldError("say how large the weight is to be: ranks=8 or params='10x', one of the two.")
    found = sites(module)
    if not found:
        raise TenfoldError(f"{type(module).__name__} has no weight that can be in cores.")
    seed = int(torch.randint(2**62, (), generator=generator))
    rows = {}
    for name, site in found.items():
        maker = suited(format, site, ranks)
        split = maker.default_modes(site.axes) if modes is None else modes
        full = maker.network(site.axes, None, split)
        net = at_ranks(maker, full, split, ranks) if ranks is not None else within(maker, full, params or 1.0)
        sizes = {axis: tuple(factors) for axis, factors in split.items()}
        rows[name] = Row(name, name_of(maker), sizes, net.ranks, options=options_of(maker))
    return fresh(module, Plan(rows), init=init, seed=seed)


def suited(format: str | Format, site: Site, ranks: object) -> Format:
    """The format, or what stands in for it on such a weight; ranks for each bond are of the format itself.

    Raises: TenfoldError where nothing stands in.
    """
    maker = format_named(format) if isinstance(format, str) else format
    answer = site.suit(maker)
    if isinstance(answer, str):
        known = ", ".join(site.suiting())
        raise TenfoldError(f"it cannot take {name_of(maker)}: {answer}; formats that suit: {known}.")
    return answer if ranks is None or isinstance(ranks, int) else maker


def at_ranks(maker: Format, full: TensorNetwork, modes: Modes, ranks: int | Sequence[int]) -> TensorNetwork:
    """The network at these ranks, or at one number for all."""
    each = maker.common_ranks(full, ranks) if isinstance(ranks, int) else ranks
    return maker.network(full.axes, each, modes).clipped()


def within(maker: Format, full: TensorNetwork, params: str | float) -> TensorNetwork:
    """The network of the largest common rank with no more numbers than a share of the dense weight's.

    Raises: TenfoldError if even rank 1 is too much.
    """
    whole = math.prod(full.axes.values())
    most = limit("params", params, whole)
    found = full.with_ranks(maker.common_ranks(full, 1)).clipped()
    if found.params > most:
        raise TenfoldError(
            f"{name_of(maker)} at rank 1 has {found.params} of {whole} numbers; params={params} is too few."
        )
    low, high = 1, max(1, *full.ranks)
    while low < high:
        rank = (low + high + 1) // 2
        net = full.with_ranks(maker.common_ranks(full, rank)).clipped()
        low, high, found = (rank, high, net) if net.params <= most else (low, rank - 1, found)
    return found


def cored(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A maker of modules of one kind, in cores: torch's own arguments, and those of `in_cores`."""

    def make(
        *given: object,
        format: str | Format = "svd",
        ranks: int | Sequence[int] | None = None,
        params: str | float | None = None,
        modes: Modes | None = None,
        init: Init = "dense",
        generator: torch.Generator | None = None,
        **named: object,
    ) -> nn.Module:
        with torch.device("meta") if init == "cores" else nullcontext():  # a table may be too large to build
            module = build(*given, **named)
        return in_cores(module, format=format, ranks=ranks, params=params, modes=modes, init=init, generator=generator)

    make.__name__ = make.__qualname__ = build.__name__
    make.__doc__ = f"""`torch.nn.{build.__name__}` with new weights in cores.

    Torch's own arguments, then by name how the weights are stored:

    {(in_cores.__doc__ or "").partition("Args:")[2].strip()}"""
    return make


Linear, Embedding, EmbeddingBag = map(cored, (nn.Linear, nn.Embedding, nn.EmbeddingBag))
Conv1d, Conv2d, Conv3d = map(cored, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = map(
    cored, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
)
LSTM, GRU, RNN = map(cored, (nn.LSTM, nn.GRU, nn.RNN))
