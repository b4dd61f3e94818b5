"""Plans that keep what they promise of time, measured on whole networks."""

import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from torch import nn

from tenfold.measure import Clock
from tenfold.planning.budgets import ratio_asked
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan
from tenfold.surgery.carry_out import skeleton

CORRECTIONS = 2
NEAR = 0.98  # of what was promised: the noise of the clock
log = logging.getLogger(__name__)


def promised(
    model: nn.Module,
    clock: Clock,
    inputs: Any,
    asked: str | float,
    planned: Callable[[float], Plan],
    *,
    quiet: bool = False,
) -> Plan:
    """The plan of a network that really is so much faster, without numbers for now.

    Where it is not, the summed times of stages were too hopeful by some factor, and the plan is made again for as much
    more, at most twice; if that is out of reach, the fastest so far stays, and the log says what it comes to.
    Args:
        asked: a ratio of time; planned: the plan for a ratio by the times of stages.
        quiet: whether that is left unsaid.
    Raises: TenfoldError if the first is out of reach.
    """
    wanted = aim = ratio_asked("time", asked)
    here = f"in {clock.runtime} here"
    best: tuple[float, Plan] | None = None
    for attempt in range(1 + CORRECTIONS):
        try:
            plan = planned(aim)
        except TenfoldError:
            if best is None:
                raise
            break
        key = f"whole {sha256(plan.to_yaml().encode()).hexdigest()}"
        speed = clock.speedup(model, skeleton(model, plan), inputs, key)
        log.info("time %.3gx by the stages, %.3gx as a whole %s (attempt %d)", aim, speed, here, attempt + 1)
        if best is None or speed > best[0]:
            best = speed, plan
        if speed >= NEAR * wanted:
            return plan
        aim *= wanted / speed
    assert best is not None  # the first attempt made one
    if quiet:
        return best[1]
    if wanted > 1:
        log.warning("time %.3gx was asked for, and the whole network comes to %.3gx %s.", wanted, best[0], here)
    elif best[0] < NEAR:
        log.warning("slower than the dense network %s (%.3gx), whatever meets these budgets.", here, best[0])
    return best[1]
