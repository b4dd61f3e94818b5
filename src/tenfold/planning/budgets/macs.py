"""Multiply-adds of one sample."""

from typing import Any

from tenfold.planning.budgets.base import Budget, Cost


class Macs(Budget):
    """Multiply-adds of one sample at the profile's input, in the form that will run."""

    def of(self, cost: Cost) -> Any:
        return cost.macs
