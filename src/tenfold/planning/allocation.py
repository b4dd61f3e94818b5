"""One candidate for every weight, under budgets on the whole network."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tenfold.planning.budgets import Budget
from tenfold.planning.choices import Choice, Curve, chosen, cost_row
from tenfold.planning.curves import Array
from tenfold.protocols import TenfoldError

SWEEPS = 20  # over all budgets
MOST = 1e9  # of a multiplier: losses over shares of the dense network's cost
SHARES = 0.5, 1.6  # of what a weight would get if all got alike
SMALL = 0.02  # of the dense network's cost: a weight that need not keep to its share


@dataclass(frozen=True)
class Limits:
    """Budgets by name: what the planned weights may cost together, and what the dense network costs in all."""

    budgets: Mapping[str, Budget]
    left: Array  # (budgets,) limit less what is not planned
    fixed: Array  # (budgets,) what is not planned
    whole: Array  # (budgets,) the dense network
    max_error: float = 1.0  # the largest relative error of one weight

    @property
    def cap(self) -> str:
        """What a sentence on what is out of reach says of the largest error."""
        return f" and no weight's relative error above {self.max_error:g} (--max-error)" if self.max_error < 1 else ""


class Candidates:
    """The curves of all weights end to end, so that one multiplier for each budget picks in one pass."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        self.losses = np.concatenate([curve.losses for curve in curves])
        self.costs = np.concatenate([curve.costs for curve in curves])
        self.starts = np.cumsum([0, *(len(curve.losses) for curve in curves)])

    def pick(self, multipliers: Array) -> list[int]:
        """For each weight the place on its curve that minimises loss plus multipliers times costs."""
        value = self.losses + self.costs @ multipliers
        return [int(value[a:b].argmin()) for a, b in zip(self.starts, self.starts[1:], strict=False)]

    def loss(self, picks: Sequence[int]) -> float:
        """What these lose together."""
        return float(self.losses[self.starts[:-1] + np.asarray(picks)].sum())

    def total(self, picks: Sequence[int]) -> Array:
        """What these cost together, (budgets,)."""
        total: Array = self.costs[self.starts[:-1] + np.asarray(picks)].sum(axis=0)
        return total

    def smallest(self) -> Array:
        """The least that each budget alone can reach."""
        total: Array = np.minimum.reduceat(self.costs, self.starts[:-1]).sum(axis=0)
        return total


def allocate(curves: Sequence[Curve], limits: Limits, multiple: int) -> list[Choice]:
    """The candidates of least summed error within all budgets.

    One multiplier for each budget, all found together; then ranks grow, best gain first, until nothing fits any more.

    Raises: TenfoldError with the largest reachable ratio if a budget cannot be met.
    """
    candidates = Candidates(curves)
    check(candidates, limits)
    picks = ascended(candidates, limits)
    if picks is None:
        raise TenfoldError(together(candidates, limits))
    choices = [curve.choice(at) for curve, at in zip(curves, picks, strict=True)]
    return grown(choices, limits, multiple)


def clipped(curves: Sequence[Curve], limits: Limits) -> list[Curve]:
    """The curves without candidates that get much less or more than a weight would get if all got alike (`SHARES`).

    Of a curve with none in between the nearest stay; a weight that is next to nothing of the network may get anything.
    A loss of first order asks for extremes; within bounds it is more to be trusted.
    """
    dense = np.stack([curve.costs[0] for curve in curves])
    alike = np.maximum(limits.left, 1e-12) / dense.sum(axis=0)
    found = []
    for curve, own in zip(curves, dense, strict=True):
        if (own < SMALL * limits.whole).all():
            found.append(curve)
            continue
        got = np.log(np.maximum((curve.costs / (alike * np.maximum(own, 1e-12))).max(axis=1), 1e-12))
        low, high = np.log(SHARES)
        away = np.maximum(low - got, 0) + np.maximum(got - high, 0)
        keep = away == away.min()
        found.append(replace(curve, losses=curve.losses[keep], costs=curve.costs[keep], origin=curve.origin[keep]))
    return found


def check(candidates: Candidates, limits: Limits) -> None:
    """Refuse a budget that is out of reach even alone."""
    least = candidates.smallest()
    for name, small, left, fixed, whole in zip(
        limits.budgets, least, limits.left, limits.fixed, limits.whole, strict=True
    ):
        if small > left:
            asked, reachable = whole / (left + fixed), whole / (small + fixed)
            raise TenfoldError(
                f"{name} {asked:.4g}x cannot be met; the largest reachable ratio with these layers and formats"
                f"{limits.cap} is {np.floor(reachable * 100) / 100:.2f}x."
            )


def together(candidates: Candidates, limits: Limits) -> str:
    """The sentence for budgets that can be met one by one only."""
    scale = 1 / limits.whole
    total = candidates.total(candidates.pick(scale * 1e9)) + limits.fixed
    parts = [f"{name} {ratio:.2f}x" for name, ratio in zip(limits.budgets, limits.whole / total, strict=True)]
    return (
        f"these budgets cannot be met together; a network as small as possible in all, with these layers and formats"
        f"{limits.cap}, has {', '.join(parts)}."
    )


def ascended(candidates: Candidates, limits: Limits) -> list[int] | None:
    """The picks of least loss within all budgets, of those that multipliers try; None if there are none.

    Ascent of the dual by coordinates, once from each budget: one after the other gets the least multiplier with which
    it is met beside those of the others, until none changes; then all grow alike until all budgets are met.
    """
    units = np.eye(len(limits.left))
    best: tuple[float, list[int]] | None = None

    def meets(multipliers: Array, budgets: Any = slice(None)) -> bool:
        nonlocal best
        picks = candidates.pick(multipliers / limits.whole)
        met = candidates.total(picks) <= limits.left
        loss = candidates.loss(picks)
        if met.all() and (best is None or loss < best[0]):
            best = loss, picks
        return bool(met[budgets].all())

    def with_least(multipliers: Array, at: int) -> Array:
        others = multipliers * (1 - units[at])
        value = least(lambda value: meets(others + value * units[at], at))
        found: Array = others + (MOST if value is None else value) * units[at]
        return found

    def all_alike(multipliers: Array, value: float) -> bool:
        return meets(multipliers * (1 + value))

    for first in range(len(units)):
        multipliers = np.zeros(len(units))
        for _ in range(SWEEPS):
            before = multipliers
            for at in (*range(first, len(units)), *range(first)):
                multipliers = with_least(multipliers, at)
            if np.allclose(multipliers, before, rtol=1e-3, atol=0):
                break
        least(partial(all_alike, multipliers))
    return None if best is None else best[1]


def least(holds: Callable[[float], bool]) -> float | None:
    """The smallest value with which something holds: 0, or found by bisecting exponents; None if there is none."""
    if holds(0.0):
        return 0.0
    low, high = -12.0, math.log10(MOST)
    if not holds(MOST):
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(10**middle) else (middle, high)
    return float(10**high)


def grown(choices: Sequence[Choice], limits: Limits, multiple: int) -> list[Choice]:
    """Spend what is left: each time the step of most error saved for its share of the budgets."""
    result = list(choices)
    spent = sum(costs_of(limits, choice) for choice in result)
    steps = [larger(choice, limits, multiple) for choice in result]
    while True:
        room = limits.left - spent
        best, gain, extra_cost = None, 0.0, np.zeros_like(room)
        for k, options in enumerate(steps):
            for option, extra in options:
                if (extra <= room).all():
                    saved = (result[k].loss - option.loss) / max(float((extra / limits.whole).max()), 1e-15)
                    if saved > gain:
                        best, gain, extra_cost = (k, option), saved, extra
        if best is None:
            return result
        k, option = best
        result[k], spent = option, spent + extra_cost
        steps[k] = larger(option, limits, multiple)


def larger(choice: Choice, limits: Limits, multiple: int) -> list[tuple[Choice, Array]]:
    """Every choice one step above, with what it adds to the cost: a bond one rank larger, or the weight left dense."""
    family = choice.family
    if family is None:
        return []
    found = [Choice(0.0, family.subject.dense)]
    for at in range(len(choice.ranks)):
        ranks = tuple(rank + multiple * (j == at) for j, rank in enumerate(choice.ranks))
        if family.useful(np.array(ranks, np.int64)[:, None])[0]:
            option = chosen(family, ranks, choice.evaluation)
            if family.subject.is_gain(option.cost):
                found.append(option)
    before = costs_of(limits, choice)
    return [(option, costs_of(limits, option) - before) for option in found]


def costs_of(limits: Limits, choice: Choice) -> Array:
    """The costs of one choice, (budgets,)."""
    row: Array = cost_row(limits.budgets, choice.cost)
    return row
