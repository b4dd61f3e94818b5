"""What can be refused before any work: settings out of range, options that exclude each other, names unknown."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from tenfold.measure import is_inside, modules_of
from tenfold.measure.runtimes import check_runtime
from tenfold.planning import BUDGETS, Asked
from tenfold.planning.asked import AUTO, formats_asked, overrides_asked, ranks_asked
from tenfold.planning.budgets import limit
from tenfold.planning.planner import check_asked as check_together
from tenfold.protocols import TenfoldError
from tenfold.storage import check_ours, check_replaceable, write_text
from tenfold.surgery import Plan, matching, sites
from tenfold.surgery.stored import check_dtype

SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) *((?P<prefix>[kmgt])(?P<binary>i?)b?|b)?", re.IGNORECASE)
MEASURED = "macs", "time"  # budgets of what only inputs show
PLAN_MARKS = "schema", "layers"  # the keys by which a plan file is known


def given_only(asked: Mapping[str, Any]) -> Asked:
    """The options that say something: None and empty ones are as if they were not there."""
    said = {key: value for key, value in asked.items() if value is not None and value not in ((), [], {})}
    return cast(Asked, said)


def check_one(plan: Plan | str | Path | None, asked: Asked, batch: int | None = None, *others: str) -> None:
    """Raise where a plan is given beside what would make another."""
    given = [*asked, *(["batch"] if batch is not None else []), *others]
    if plan is not None and given:
        raise TenfoldError(f"a plan was given and {', '.join(given)} too; give one or the other.")


def check_asked(model: nn.Module, asked: Asked, *, known_macs: bool = True) -> None:
    """Refuse what `tenfold.plan` would refuse, as far as that can be seen before the network has run."""
    budgets = [name for name in BUDGETS if name in asked]
    rules = [name for name in ("energy", "ranks") if name in asked]
    check_together(budgets, rules, asked.get("energy"), asked.get("multiple", 1), asked.get("allocation", "global"),
                   asked.get("max_error"), asked.get("bits"))  # fmt: skip
    formats_asked(asked.get("format", AUTO))
    if (runtime := asked.get("runtime")) is not None:
        check_runtime(runtime)
    if (dtype := asked.get("dtype")) is not None:
        check_dtype(dtype)
    if (ranks := asked.get("ranks")) is not None:
        ranks_asked(ranks)
    for name, value in asked.items():
        if name in budgets and isinstance(value, str | int | float):
            limit(name, value, None if name in MEASURED and not known_macs else 1, BUDGETS[name].needs)
    of = asked.get("of", ())
    parts = modules_of(model, of)
    names = [name for name in sites(model) if not of or is_inside(name, parts)]
    for pattern in (*asked.get("include", ()), *asked.get("exclude", ())):
        matching(pattern, names)
    overrides_asked(asked.get("layers") or {}, names)


def bytes_asked(size: int | str | None) -> int | None:
    """`4GB` (10^9 bytes), `512MB`, `0.5GiB` (2^30), or a number of bytes; None stays None.

    Raises: TenfoldError for anything else.
    """
    if size is None:
        return None
    match = SIZE.fullmatch(str(size).strip())
    if match is None:
        raise TenfoldError(f"'{size}' is no size of memory; write 4GB, 512MB, 0.5GiB or a number of bytes.")
    power = " kmgt".index((match["prefix"] or " ").lower())
    return int(float(match["number"]) * (1024 if match["binary"] else 1000) ** power)


def check_file(path: str | Path, overwrite: bool) -> None:
    """Raise where a plan file cannot be written, or would replace what is no plan."""
    check_replaceable(path, overwrite, example="plan.yaml", ours=partial(check_ours, marks=PLAN_MARKS))


def sha256(text: str) -> str:
    """Of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_plan(path: str | Path, plan: Plan, *, overwrite: bool = False) -> None:
    """Leave a plan as a file to edit.

    Raises: TenfoldError if one is there already, or if it cannot be written.
    """
    check_file(path, overwrite)
    write_text(Path(path), plan.to_yaml(), PLAN_MARKS)
