"""What is shown: results on standard output, notes and bars on standard error."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from tenfold import protocols
from tenfold.protocols import TenfoldError
from tenfold.recovery import kept

WIDE = 110  # columns from which tables show all they know
GOES_ON = "goes on after the last whole epoch, block or network of a search"
STARTS_ANEW = "no epoch or block had ended; the same command starts anew."

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def is_wide() -> bool:
    """Whether there is room for every column."""
    return out.width >= WIDE


def show(table: Table) -> None:
    """A table on standard output."""
    out.print(table)


def say(*lines: str) -> None:
    """Sentences on standard output."""
    for line in lines:
        out.print(line, markup=False)


def say_unbroken(*lines: str) -> None:
    """Lines on standard output that are to be copied."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def note(line: str) -> None:
    """A line on standard error."""
    err.print(line, markup=False, soft_wrap=True)


def show_json(document: Mapping[str, Any] | str) -> None:
    """The one document of `--json`."""
    typer.echo(document if isinstance(document, str) else json.dumps(document, indent=1, ensure_ascii=False), nl=True)


def bar(steps: Iterator[protocols.Progress]) -> Iterable[protocols.Progress]:
    """The same steps, with what is done, how it went and the time left shown while they pass."""
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}")]
    with Progress(*columns, console=err) as progress:
        task = None
        for step in steps:
            if task is None or step.step == 1:
                task = progress.add_task("", total=step.steps, words="")
            words = f"{step.words}  {clock(step.seconds_left)} left"
            progress.update(task, completed=step.step, description=step.title, words=words)
            yield step


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def resumable(state: Path) -> Iterator[None]:
    """A stop by the keyboard says what became of the run; so does an error after an epoch or a block was kept."""
    before = kept(state)
    try:
        yield
    except KeyboardInterrupt:
        way = f"the same command {GOES_ON} (kept in {state})." if kept(state) else STARTS_ANEW
        typer.echo(f"stopped; {way}", err=True)
        raise typer.Exit(130) from None
    except TenfoldError:
        if kept(state) - before:
            note(f"What was done is kept in {state}: once that is mended, the command {GOES_ON}.")
        raise
