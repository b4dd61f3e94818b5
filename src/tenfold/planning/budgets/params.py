"""Every parameter of the folder once, no buffers."""

from typing import Any

from tenfold.planning.budgets.base import Budget, Cost


class Params(Budget):
    """Numbers that the folder stores."""

    def of(self, cost: Cost) -> Any:
        return cost.params
