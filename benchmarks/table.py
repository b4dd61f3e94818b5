"""A benchmark's tables, printed and kept as a page under `docs/benchmarks`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

PAGES = Path(__file__).parent.parent / "docs" / "benchmarks"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def page(title: str, doc: str | None, *parts: str) -> str:
    """A page: its title, what its script says of itself, then these parts."""
    return "\n\n".join([f"# {title}", (doc or "").strip(), *parts]) + "\n"


def written(name: str, text: str) -> None:
    """Keep a page as `docs/benchmarks/NAME.md`."""
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(text, encoding="utf-8")


def printed(
    name: str, title: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str, doc: str | None
) -> None:
    """Print a Markdown table, and write it as `docs/benchmarks/NAME.md` with its command."""
    text = page(title, doc, table(head, rows), note)
    print(text)
    written(name, text)
