"""A plan on screen, and as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenfold.api import Predicted
from tenfold.cli import screen
from tenfold.report import COSTS, Frontier, frontier_table, plan_table, reasons
from tenfold.surgery import Plan

SCHEMA = 1


def show_plan(plan: Plan, expected: Predicted) -> None:
    """The rows, what the network will hold, and why each layer is so."""
    screen.show(plan_table(plan, expected.layers))
    screen.say(*reasons(plan.rows.values()), "")
    if plan.runtime is not None:
        screen.say(f"times: {plan.batch} samples in {plan.runtime}")
    for name, words in COSTS.items():
        ratio = getattr(expected.ratio, name)
        if expected.part is not None and (inner := getattr(expected.part, name)) is not None:
            screen.say(f"{words} in {' and '.join(map(repr, expected.part.of))}: {inner:.2f}x fewer")
        screen.say(f"{words}: {'not known without inputs (--input)' if ratio is None else f'{ratio:.2f}x fewer'}")


def show_frontier(found: Frontier, picture: Path | None) -> None:
    """Foreseen errors beside what is saved, where that ends, and where it is drawn."""
    screen.say(f"The column 'error' is the {found.meaning}.")
    screen.show(frontier_table(found))
    screen.say(*filter(None, [found.end]))
    if picture is not None:
        screen.say_unbroken(f"Drawn in {picture}")


def plan_document(plan: Plan, expected: Predicted) -> dict[str, Any]:
    """For `--json`: the rows, and dense over planned."""
    rows = [{**asdict(row), **asdict(expected.layers[name])} for name, row in plan.rows.items()]
    part = None if expected.part is None else asdict(expected.part)
    return {"schema": SCHEMA, "ratio": asdict(expected.ratio), "part": part, "layers": rows}
