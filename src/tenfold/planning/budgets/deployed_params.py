"""Every parameter of the form that runs: stage tensors, and dense weights that are rebuilt."""

from typing import Any

from tenfold.planning.budgets.base import Budget, Cost


class DeployedParams(Budget):
    """Numbers that the lowered network holds, folded batch norms counted as if they were there."""

    def of(self, cost: Cost) -> Any:
        return cost.deployed
