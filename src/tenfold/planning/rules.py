"""Rules that settle every layer by one number, without a budget: energy, ranks, a share of the full ranks."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tenfold.network import full_rank, local_bound, useful
from tenfold.planning.allocation import Limits, costs_of, grown
from tenfold.planning.candidates import Family, Ints, Subject, round_up
from tenfold.planning.choices import Choice, chosen
from tenfold.protocols import TenfoldError, within


def by_energy(found: Sequence[Family], energy: float, multiple: int) -> Choice:
    """For every bond the smallest rank whose share of the squared norm is above `energy` (Gabor and Zdunek 2023).

    Of several settings the one with the fewest parameters: all keep the energy.
    """

    def at(family: Family) -> Choice:
        ranks = [int(np.argmax(1 - tail > energy)) for tail in family.tails]
        return at_ranks(family, round_up(ranks, multiple))

    return gaining([at(family) for family in found], found[0].subject, by_params)


def by_ranks(found: Sequence[Family], ranks: Sequence[int]) -> Choice:
    """These ranks, or one for every bond; none above its useful size.

    Of several settings that take so many ranks the one with the least error among those that gain: the ranks say how
    much is kept, so the setting that keeps most of the weight is meant; the smaller of two that err alike.
    """
    taking = [family for family in found if len(ranks) in (1, len(family.groups))]
    if not taking:
        groups = found[0].groups
        bonds = ", ".join(" = ".join(group) for group in groups)
        raise TenfoldError(
            f"{len(ranks)} ranks given, {len(groups)} wanted, for the bonds {bonds}; one number serves every bond."
        )
    each = [tuple(ranks) * (len(family.groups) if len(ranks) == 1 else 1) for family in taking]
    choices = [at_ranks(family, np.array(wanted, np.int64)) for family, wanted in zip(taking, each, strict=True)]
    return gaining(choices, found[0].subject, by_error)


def by_share(family: Family, share: float, multiple: int) -> Choice:
    """Every bond at this share of its largest useful rank, and 1 at least."""
    return at_ranks(family, round_up(np.maximum(1, np.floor(share * np.array(family.bounds))), multiple))


def at_ranks(family: Family, ranks: Ints) -> Choice:
    """The choice at the useful part of these ranks; a bond at its bound is left uncut, which costs no accuracy."""
    if not family.has_spectra:
        return chosen(family, tuple(min(int(r), bound) for r, bound in zip(ranks, family.bounds, strict=True)))
    net = useful(family.net.with_ranks([int(r) for r in ranks]))
    cut = list(family.cut)
    tails = dict(zip(net.bonds, family.tails, strict=True))
    at = [k for k, is_cut in enumerate(family.cut) if is_cut]
    while True:
        full = [b for b in net.bonds if net.sizes[b] >= local_bound(net, b)]
        if not full or len(net.bonds) == 1:
            break
        where = net.bonds.index(full[0])
        cut[at.pop(where)] = False
        net = net.merged(full[0])
    groups, left = tuple((b,) for b in net.bonds), tuple(tails[b] for b in net.bonds)
    merged = replace(family, cut=tuple(cut), net=full_rank(net), groups=groups, tails=left)
    return chosen(merged, net.ranks)


def by_error(choice: Choice) -> tuple[float, int]:
    """The order of choices by error, then by parameters; what differs by rounding is alike."""
    return round(choice.error, 9), choice.cost.params


def by_params(choice: Choice) -> tuple[int, float]:
    """The order of choices by parameters, then by error."""
    return choice.cost.params, choice.error


def gaining(choices: Sequence[Choice], subject: Subject, order: Callable[[Choice], tuple[float, float]]) -> Choice:
    """The first in an order of the choices that gain; of all where none does."""
    return min([choice for choice in choices if subject.is_gain(choice.cost)] or choices, key=order)


def or_dense(choice: Choice, dense: Choice, subject: Subject) -> Choice:
    """The choice, or the dense one where that is not larger and not slower."""
    return choice if subject.is_gain(choice.cost) else dense


def uniform(found: Sequence[Family], limits: Limits, multiple: int) -> list[Choice]:
    """One share of the full ranks for all weights, the largest within the budgets: the baseline to beat.

    What whole ranks leave of the budgets is spent as in `allocate`, so that both use the same.

    Raises: TenfoldError if even rank 1 everywhere is too much.
    """

    def at(share: float) -> list[Choice]:
        dense = [Choice(0.0, family.subject.dense) for family in found]
        return [
            or_dense(by_share(family, share, multiple), whole, family.subject)
            for family, whole in zip(found, dense, strict=True)
        ]

    def fits(choices: Sequence[Choice]) -> bool:
        return bool((sum(costs_of(limits, choice) for choice in choices) <= limits.left).all())

    low, high, best = 0.0, 1.0, at(0.0)
    if not fits(best):
        raise TenfoldError("uniform ranks cannot meet this budget: even rank 1 in every bond is too much.")
    for _ in range(20):
        middle = (low + high) / 2
        choices = at(middle)
        if fits(choices):
            best, low = choices, middle
        else:
            high = middle
    return grown(best, limits, multiple)


def named_layer(subject: Subject, found: Sequence[Family], ranks: Sequence[int]) -> Choice:
    """What a layer was asked to be by name."""
    with within(f"layer '{subject.site.name}'"):
        return by_ranks(found, ranks)
