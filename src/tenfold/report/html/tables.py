"""Tables of numbers."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element, named


def table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Element:
    """A row a name, with a number a column; wide ones are moved sideways, not squeezed.

    Args: head: of every column, the one of the names first.
    """
    top = element("tr", *(element("th", named(name), scope="col") for name in head))
    body = [
        element("tr", element("th", named(name), scope="row"), *(element("td", text) for text in texts))
        for name, texts in rows.items()
    ]
    return element("div", element("table", element("thead", top), element("tbody", *body)), class_="wide")
