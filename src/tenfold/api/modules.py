"""Torch's modules with their weights in cores from the start, for networks written by hand."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from tenfold.formats import Format, name_of, options_of
from tenfold.formats.base import Suits
from tenfold.network import TensorNetwork, useful
from tenfold.planning.asked import formats_asked
from tenfold.planning.budgets import limit
from tenfold.protocols import TenfoldError, within
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
    check_ranks(ranks)
    check_modes(modes)
    seed = int(torch.randint(2**62, (), generator=generator))
    rows = {}
    for name, site in found.items():
        with within(f"weight '{name}'" if len(found) > 1 else type(module).__name__):
            rows[name] = row(name, site, format, ranks, params, modes)
    return fresh(module, Plan(rows), init=init, seed=seed)


def row(
    name: str,
    site: Site,
    format: str | Format,
    ranks: int | Sequence[int] | None,
    params: str | float | None,
    modes: Modes | None,
) -> Row:
    """What a plan says of one weight."""
    maker = suited(format, site, ranks)
    split = maker.default_modes(site.axes) if modes is None else modes
    full = maker.network(site.axes, None, split)
    if params is not None:
        net = within_params(maker, full, params)
    else:
        assert ranks is not None  # `in_cores` takes one of the two
        net = at_ranks(maker, full, split, ranks)
    sizes = {axis: tuple(factors) for axis, factors in split.items()}
    return Row(name, name_of(maker), sizes, net.ranks, options=options_of(maker))


def check_ranks(ranks: object) -> None:
    """Refuse what is no rank and no list of ranks."""
    each = list(ranks) if isinstance(ranks, Sequence) and not isinstance(ranks, str) else [ranks]
    if ranks is not None and any(isinstance(rank, bool) or not isinstance(rank, int) or rank < 1 for rank in each):
        raise TenfoldError(f"ranks {ranks!r} are no whole numbers from 1; write 8, or one for each bond: [24, 40, 24].")


def check_modes(modes: object) -> None:
    """Refuse what does not say how axes are split."""
    good = isinstance(modes, Mapping) and all(
        isinstance(sizes, Sequence) and all(isinstance(size, int) for size in sizes) for sizes in modes.values()
    )
    if modes is not None and not good:
        raise TenfoldError(f"modes {modes!r} do not say how axes are split; write {{'i': (28, 28), 'o': (15, 20)}}.")


def suited(format: str | Format, site: Site, ranks: object) -> Format:
    """The format, or what stands in for it on such a weight; ranks for each bond are of the format itself.

    Raises: TenfoldError where nothing stands in.
    """
    maker = format if isinstance(format, Format) else one_format(format)
    answer = site.suit(maker)
    if isinstance(answer, str):
        known = ", ".join(site.suiting())
        raise TenfoldError(f"it cannot take {format}: {answer}; formats that suit: {known}.")
    return maker if isinstance(maker, Format) and not (ranks is None or isinstance(ranks, int)) else answer


def one_format(text: object) -> Suits:
    """A format as `tenfold.plan` takes it: `tt`, `tt(order=2)`, `hybrid`.

    Raises: TenfoldError for several, which only a plan can choose among.
    """
    if not isinstance(text, str):
        raise TenfoldError(
            f"format {text!r} is no format; give a name such as 'tt', or one such as formats.TT(order=2)."
        )
    found = next(iter(formats_asked(text).values()))
    if len(found) > 1 or "=" in text.partition("(")[0]:
        raise TenfoldError(f"format '{text}' leaves a choice; a module of its own takes one format.")
    return found[0]


def at_ranks(maker: Format, full: TensorNetwork, modes: Modes, ranks: int | Sequence[int]) -> TensorNetwork:
    """The network at these ranks, or at one number for all."""
    each = maker.common_ranks(full, ranks) if isinstance(ranks, int) else ranks
    return useful(maker.network(full.axes, each, modes))


def within_params(maker: Format, full: TensorNetwork, params: str | float) -> TensorNetwork:
    """The network of the largest common rank with no more numbers than a share of the dense weight's.

    Raises: TenfoldError if even rank 1 is too much.
    """
    whole = math.prod(full.axes.values())
    most = limit("params", params, whole)
    found = useful(full.with_ranks(maker.common_ranks(full, 1)))
    if found.params > most:
        raise TenfoldError(
            f"{name_of(maker)} at rank 1 has {found.params} of {whole} numbers; params={params} is too few."
        )
    low, high = 1, max(1, *full.ranks)
    while low < high:
        rank = (low + high + 1) // 2
        net = useful(full.with_ranks(maker.common_ranks(full, rank)))
        low, high, found = (rank, high, net) if net.params <= most else (low, rank - 1, found)
    return found


@contextmanager
def drawn_by(generator: torch.Generator | None) -> Iterator[None]:
    """Let torch's modules draw from a generator, if there is one; torch's own random state is left as it was."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield


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
        with drawn_by(generator), torch.device("meta") if init == "cores" else nullcontext():  # too large to build
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
