"""Choices for one weight: candidates at some ranks, and those that no other beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.measure.timing import CLEARLY
from tenfold.planning.budgets import Budget, Cost
from tenfold.planning.candidates import Family, Ints, Subject, rank_grid
from tenfold.planning.curves import Array


@dataclass(frozen=True)
class Choice:
    """One candidate: a family at some ranks, or the dense weight (no family); `error` is the squared relative one."""

    error: float
    cost: Cost
    family: Family | None = None
    ranks: tuple[int, ...] = ()
    evaluation: int = 0

    @property
    def loss(self) -> float:
        """What the error, and being slower than the dense weight, count for."""
        return self.error if self.family is None else float(self.family.subject.loss(self.error, self.cost))


@dataclass(frozen=True)
class Curve:
    """Candidates of one weight that no other beats on error and on every budget; the first is the dense weight.

    Attributes:
        losses: (n,) what their errors count for (`Subject.loss`).
        costs: (n, budgets).
        fastest: seconds of the fastest smaller form, on the curve or not; None without a clock.
        origin: (n, 3): which family, which column of its rank grid, which evaluation; -1 for the dense weight.
    """

    subject: Subject
    families: tuple[Family, ...]
    grids: tuple[Ints, ...]
    losses: Array
    costs: Array
    origin: Ints
    fastest: float | None = None

    def choice(self, at: int) -> Choice:
        """The candidate at a place of the curve."""
        which, column, evaluation = self.origin[at]
        if which < 0:
            return Choice(0.0, self.subject.dense)
        return chosen(self.families[which], tuple(int(r) for r in self.grids[which][:, column]), int(evaluation))


def chosen(family: Family, ranks: tuple[int, ...], evaluation: int | None = None) -> Choice:
    """A family at these ranks, in an evaluation; by default the cheapest, or on a clock the fastest."""
    column = np.array(ranks, np.int64)[:, None]
    cost, which = family.costs(column)
    fastest = 0 if cost.seconds is None else int(cost.seconds[:, 0].argmin())
    at = fastest if evaluation is None or cost.seconds is None else evaluation
    seconds = None if cost.seconds is None else float(cost.seconds[at, 0])
    plain = Cost(int(cost.params[at, 0]), int(cost.bytes[at, 0]), int(cost.deployed[at, 0]), float(cost.macs[at, 0]),
                 seconds)  # fmt: skip
    return Choice(float(family.error(column)[0]), plain, family, ranks, int(which[at, 0]))


def leanest(choice: Choice, dense: float | None) -> Choice:
    """The same ranks in the stages that hold the fewest numbers, of those about as fast and of no more multiply-adds.

    Without a clock the choice as it is.
    Args: dense: seconds of the dense weight; stages that take longer than that, and than the choice, are not taken.
    """
    if choice.family is None or choice.cost.seconds is None:
        return choice
    cost, family = choice.cost, choice.family
    each = [choice, *(chosen(family, choice.ranks, at) for at in range(len(family.evaluations)))]
    most = min(cost.seconds / CLEARLY, max(cost.seconds, dense or 0.0))
    near = [one for one in each if one.cost.seconds <= most and one.cost.macs <= cost.macs]
    return min(near, key=lambda one: one.cost.deployed)


def curve(
    subject: Subject, found: Sequence[Family], budgets: Mapping[str, Budget], multiple: int, most: float
) -> Curve:
    """The curve of a weight over these families. Nothing on it stores or computes more than the dense weight.

    Args: most: the largest relative error that a candidate may have.
    """
    dense = subject.dense
    losses, costs, origin, grids = [np.zeros(1)], [cost_row(budgets, dense)[None]], [np.array([[-1, -1, -1]])], []
    seconds: list[float] = []
    for k, family in enumerate(found):
        grid = rank_grid(family, multiple)
        error = family.error(grid)
        grid = grid[:, family.useful(grid) & (np.minimum(error, 1.0) <= most**2)]  # sums of tails may pass 1
        cost, which = family.costs(grid, gaining=True)
        keep = subject.is_gain(cost)
        columns = np.nonzero(keep)[1]
        grids.append(grid)
        losses.append(np.broadcast_to(subject.loss(family.error(grid), cost), keep.shape)[keep])
        seconds += [] if cost.seconds is None else [cost.seconds[keep].min(initial=np.inf)]
        costs.append(cost_row(budgets, cost)[keep])
        origin.append(np.stack([np.full_like(columns, k), columns, which[keep]], axis=1))
    loss, cost_all, place = np.concatenate(losses), np.concatenate(costs), np.concatenate(origin)
    front = pareto(loss, cost_all)
    return Curve(subject, tuple(found), tuple(grids), loss[front], cost_all[front], place[front],
                 min(seconds, default=None))  # fmt: skip


def cost_row(budgets: Mapping[str, Budget], cost: Cost) -> Array:
    """Costs under every budget, (.., budgets)."""
    return np.stack([np.asarray(b.of(cost), np.float64) for b in budgets.values()], axis=-1)


def pareto(errors: Array, costs: Array, chunk: int = 256) -> Ints:
    """Places that no other beats on error and all costs, the smallest error first."""
    order = np.lexsort((*costs.T, errors))
    kept = np.empty((0, costs.shape[1]))
    places: list[Ints] = []
    for at in range(0, len(order), chunk):
        part = order[at : at + chunk]
        if len(kept):
            part = part[~np.any(np.all(kept[None] <= costs[part, None], axis=-1), axis=1)]
        better = np.all(
            costs[part][None] <= costs[part][:, None], axis=-1
        )  # (n, n): whether the second beats the first
        earlier = np.arange(len(part))[None] < np.arange(len(part))[:, None]
        part = part[~np.any(better & earlier, axis=1)]
        kept = np.concatenate([kept, costs[part]])
        places.append(part)
    return np.concatenate(places)
