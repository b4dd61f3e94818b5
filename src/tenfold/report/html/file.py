"""A page as a file of its own; one that a folder holds is written with the folder."""

from pathlib import Path

from tenfold.protocols import TenfoldError
from tenfold.report.html.page import MARK
from tenfold.storage import check_ours, check_replaceable, write_bytes


def check_page(path: str | Path) -> None:
    """Raise where a page cannot be written, or would replace what is no page of tenfold's."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise TenfoldError(f"'{path}' is no page; name a file that ends in .html.")
    check_replaceable(path, True, example="page.html", ours=check_made)


def check_made(path: Path) -> None:
    """Raise where a file stands that tenfold did not make, or that belongs to a folder."""
    check_ours(path, ())
    if path.exists() and MARK.encode() not in path.read_bytes()[:4096]:
        raise TenfoldError(f"'{path}' was not made by tenfold, so it is never replaced; name another file.")


def write_page(path: str | Path, text: str) -> None:
    """Leave a page, whole; one of tenfold's that stands there is replaced.

    Raises: TenfoldError as `check_page` does, or if it cannot be written.
    """
    check_page(path)
    write_bytes(Path(path), text.encode())
