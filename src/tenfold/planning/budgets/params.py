"""Every parameter of the folder once, no buffers."""

from typing import Any

from tenfold.measure import Profile
from tenfold.planning.budgets.base import Budget, Cost


class Params(Budget):
    """Numbers that the folder stores."""

    def whole(self, profile: Profile) -> int | None:
        return profile.params

    def of(self, cost: Cost) -> Any:
        return cost.params
