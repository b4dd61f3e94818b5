"""Who keeps the plan of a compressed network beside it: other packages, so that their own way of saving has it."""

from collections.abc import Callable

from torch import nn

from tenfold.surgery.plan import Plan

KEEPERS: list[Callable[[nn.Module, Plan], None]] = []  # told of every network that a plan was carried out on


def kept(model: nn.Module, plan: Plan) -> nn.Module:
    """The network, of which every keeper knows."""
    for keep in KEEPERS:
        keep(model, plan)
    return model
