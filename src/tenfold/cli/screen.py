"""What is shown: results on standard output, notes and bars on standard error."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tenfold import processes, protocols
from tenfold.cli.typed import COMMAND
from tenfold.protocols import TenfoldError
from tenfold.recovery import kept

WIDE = 110  # columns from which tables show all they know
LONG = 24 * 3600.0  # seconds that the pace of a bar is taken from
GOES_ON = "goes on after the last step, block or network of a search that was kept"
STARTS_ANEW = "nothing had been kept; the same command starts anew:"

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def be_silent() -> None:
    """Leave what there is to say to the first of several processes; errors are still said."""
    out.quiet = err.quiet = True
    logging.getLogger("tenfold").setLevel(logging.ERROR)


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
    if not is_quiet():
        err.print(line, markup=False, soft_wrap=True)


def is_quiet() -> bool:
    """Whether only errors and results are to be shown: what the level of the log says (`tenfold --quiet`)."""
    return not logging.getLogger("tenfold").isEnabledFor(logging.WARNING)


def show_json(document: Mapping[str, Any] | str) -> None:
    """The one document of `--json`."""
    if out.quiet:
        return
    typer.echo(document if isinstance(document, str) else json.dumps(document, indent=1, ensure_ascii=False), nl=True)


@contextmanager
def bar() -> Iterator[protocols.Watch]:
    """One bar for a run, of the part that it is in: what is done, how far, how it goes, and the time left of it.

    It is gone in the end, and is not drawn where standard error is no terminal.
    """
    columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TaskProgressColumn(),
               TextColumn("{task.fields[words]}", markup=False), TimeRemainingColumn()]  # fmt: skip
    hidden = is_quiet() or not err.is_terminal
    with Progress(*columns, console=err, disable=hidden, transient=True, speed_estimate_period=LONG) as progress:

        def watch(steps: Iterator[protocols.Progress]) -> Iterator[protocols.Progress]:
            for part in progress.task_ids:
                progress.remove_task(part)
            task = progress.add_task("", total=None, words="")  # as long as the first step takes
            for number, step in enumerate(steps):
                if number == 0:  # what was done before this run is not of its pace
                    progress.reset(task, total=step.steps or None, completed=step.step)
                    progress.advance(task, 0)
                progress.update(task, completed=step.step, description=step.title, words=step.words)
                yield step

        yield watch


@contextmanager
def resumable(state: Path) -> Iterator[None]:
    """A stop by the keyboard says what became of the run, and the command that goes on; so does an error after a step
    or a block was kept.
    """
    before = kept(state)
    try:
        yield
    except KeyboardInterrupt:
        way = f"the same command {GOES_ON} (kept in {state}):" if kept(state) else STARTS_ANEW
        if not out.quiet:
            typer.echo(f"stopped; {way}\n    {typed_again()}", err=True)
        raise typer.Exit(130) from None
    except TenfoldError:
        if kept(state) - before:
            note(f"What was done is kept in {state}: once that is mended, the command {GOES_ON}.")
        raise


def typed_again() -> str:
    """The command that was typed, fit to be pasted into a shell; of several processes on a machine with torchrun."""
    if not processes.several():
        return COMMAND.get()
    return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', processes.count())} -m {COMMAND.get()}"
