"""The bar of a run."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from tenfold.cli import screen
from tenfold.protocols import Done

DECOMPOSE = [Done("decompose", "", 0, 90), Done("decompose conv1", "1 of 2", 30, 90), Done("decompose fc", "", 90, 90)]
GOING_ON = [Done("statistics", "96 samples", step, 8) for step in (5, 6)]  # from where it was stopped
ENDLESS = [Done("score", "top-1", step, 0) for step in (1, 2)]


class Eager(Progress):
    """Draws whatever changes at once."""

    def update(self, *args: Any, **changed: Any) -> None:
        super().update(*args, **changed, refresh=True)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """What stands on standard error after each of some steps, parts of one run, of which each takes ten seconds."""

    def drawing(*parts: Sequence[Done], terminal: bool = True) -> list[list[str]]:
        file, now, found = io.StringIO(), 0.0, []
        console = Console(file=file, force_terminal=terminal, width=120, get_time=lambda: now)
        monkeypatch.setattr(screen, "err", console)
        monkeypatch.setattr(screen, "Progress", Eager)

        def slow(steps: Sequence[Done]) -> Iterator[Done]:
            nonlocal now
            for step in steps:
                now += 10
                yield step

        with screen.bar() as watch:
            for steps in parts:
                seen, others = [], [each.title for part in parts if part is not steps for each in part]
                for step in watch(slow(steps)):
                    seen.append(step)
                    text = Text.from_ansi(file.getvalue()).plain
                    assert not any(title in text for title in others)  # there is one bar
                    found.append([line.strip() for line in text.splitlines() if line.strip()][-1:])
                    file.truncate(file.seek(0))
                assert seen == list(steps)
        screen.note("a note")
        found.append(file.getvalue().splitlines()[-1:])
        return found

    return drawing


def words(lines: list[str]) -> str:
    """A line without its bar."""
    (line,) = lines
    return " ".join(part for part in line.split() if not set(part) & set("━╸╺"))


def test_the_bar_says_the_part_how_far_it_is_and_the_time_left(drawn: Callable[..., list[list[str]]]) -> None:
    *shown, _ = map(words, drawn(DECOMPOSE, GOING_ON, ENDLESS))
    assert shown == [
        "decompose 0% -:--:--",
        "decompose conv1 33% 1 of 2 0:00:20",
        "decompose fc 100% 0:00:00",
        "statistics 62% 96 samples -:--:--",  # what was done before is not of the pace
        "statistics 75% 96 samples 0:00:20",
        "score top-1",
        "score top-1",
    ]


def test_no_bar_without_a_terminal(drawn: Callable[..., list[list[str]]]) -> None:
    *shown, last = drawn(DECOMPOSE, GOING_ON, terminal=False)
    assert not any(shown)
    assert last == ["a note"]


def test_no_bar_and_no_note_for_the_quiet(
    drawn: Callable[..., list[list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "tenfold"):
        assert not any(drawn(DECOMPOSE, GOING_ON))
