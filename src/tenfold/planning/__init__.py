"""Candidates, error curves and allocation under budgets: finds a `Plan`."""

from tenfold.planning.budgets import BUDGETS
from tenfold.planning.curves import ErrorCurves
from tenfold.planning.frontier import RATIOS, frontier
from tenfold.planning.planner import Asked, plan

__all__ = ["BUDGETS", "RATIOS", "Asked", "ErrorCurves", "frontier", "plan"]
