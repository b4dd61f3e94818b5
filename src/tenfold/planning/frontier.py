"""Plans of one network under budgets that grow tighter, and what each is foreseen to lose."""

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from torch import nn

from tenfold.fitting import Metric
from tenfold.measure import Profile
from tenfold.planning.asked import AUTO, formats_asked, schemes_asked
from tenfold.planning.budgets import BUDGETS, ratio_asked
from tenfold.planning.curves import ErrorCurves
from tenfold.planning.planner import MAX_ERROR, Asked
from tenfold.planning.search import Search
from tenfold.protocols import Watch
from tenfold.surgery import Plan, check_finite, unwrapped

RATIOS = 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16


def frontier(
    model: nn.Module,
    profile: Profile,
    *,
    seed: int = 0,
    curves: ErrorCurves | None = None,
    metrics: Mapping[str, Metric] | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> Iterator[tuple[dict[str, float], Plan, float]]:
    """What `plan` would find on the way to the budgets asked for (`steps`); candidates are found once for all.

    Args: as in `plan`; budgets, and no rule.
    Returns: budgets as ratios; their plan; its loss: the sum of squared errors that was made small, relative ones, or
        (with `metrics`) those of the outputs.
    Raises: TenfoldError as `plan` does, at the first step that it would refuse.
    """
    model = unwrapped(model)
    check_finite(model)
    given: Mapping[str, Any] = {**asked}
    budgets = {name: given[name] for name in BUDGETS if given.get(name) is not None}
    search = Search(
        model, profile, asked.get("of", ()), asked.get("include", ()), asked.get("exclude", ()),
        asked.get("layers") or {}, formats_asked(asked.get("format", AUTO)), curves, seed,
        lean="deployed_params" in budgets, metrics=metrics or {}, schemes=schemes_asked(asked.get("bits")),
        watch=watch,
    )  # fmt: skip
    how = asked.get("multiple", 1), asked.get("allocation", "global"), asked.get("max_error") or MAX_ERROR
    for step in steps(budgets):
        choices = search.under_budgets(step, *how)
        yield step, search.plan(choices), sum(choice.loss for choice in choices.values())


def steps(budgets: Mapping[str, str | float]) -> list[dict[str, float]]:
    """Budgets that grow tighter, at `RATIOS` and at last as they were asked for; none beyond that at any step."""
    asked = {name: ratio_asked(name, value) for name, value in budgets.items()}
    last = max(asked.values())
    ratios = [*(ratio for ratio in RATIOS if ratio < last), last]
    return [{name: min(ratio, most) for name, most in asked.items()} for ratio in ratios]
