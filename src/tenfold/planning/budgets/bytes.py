"""Every parameter of the folder once, at its stored width."""

from typing import Any

from tenfold.planning.budgets.base import Budget, Cost


class Bytes(Budget):
    """Bytes of the parameters that the folder stores."""

    def of(self, cost: Cost) -> Any:
        return cost.bytes
