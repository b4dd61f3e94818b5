"""A benchmark's table, printed and kept as a page under `docs/benchmarks`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

PAGES = Path(__file__).parent.parent / "docs" / "benchmarks"


def printed(
    name: str, title: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str, doc: str | None
) -> None:
    """Print a Markdown table, and write it as `docs/benchmarks/NAME.md` with its command."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    page = "\n".join([f"# {title}", "", (doc or "").strip(), "", *lines, "", note, ""])
    print(page)
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(page, encoding="utf-8")
