"""Every parameter of the folder once, at its stored width."""

from typing import Any

from tenfold.measure import Profile
from tenfold.planning.budgets.base import Budget, Cost


class Bytes(Budget):
    """Bytes of the parameters that the folder stores."""

    def whole(self, profile: Profile) -> int | None:
        return profile.bytes

    def of(self, cost: Cost) -> Any:
        return cost.params * cost.itemsize
