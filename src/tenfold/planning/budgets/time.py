"""Time on this machine."""

from typing import Any

from tenfold.planning.budgets.base import Budget, Cost


class Time(Budget):
    """Seconds of one forward on the batch of a clock, deployed."""

    needs = "inputs that can be timed as a whole; give data or an input shape, and no part of the network"

    def of(self, cost: Cost) -> Any:
        return cost.seconds
