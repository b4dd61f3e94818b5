"""Candidates, error curves and allocation under budgets: finds a `Plan`."""

from tenfold.planning.budgets import BUDGETS
from tenfold.planning.curves import ErrorCurves
from tenfold.planning.planner import Asked, plan

__all__ = ["BUDGETS", "Asked", "ErrorCurves", "plan"]
