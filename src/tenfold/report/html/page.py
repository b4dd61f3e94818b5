"""The page: a title, parts one after the other, and all numbers as JSON; one file that refers to no other."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element, markup, named
from tenfold.report.html.style import style

MARK = "made by tenfold"  # in the first bytes of every page
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is fetched, no script runs


def page(title: str, lead: Sequence[str], parts: Iterable[Element], numbers: Mapping[str, Any]) -> str:
    """The file's text, ASCII in the JSON.

    Args:
        lead: sentences under the title.
        numbers: values that JSON knows; in the page as `<script type="application/json" id="numbers">`.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="generator", content=MARK),
        element("title", title),
        element("style", style()),
    )
    said = [element("p", sentence) for sentence in lead]
    data = element("script", in_script(numbers), type="application/json", id="numbers")
    body = element("body", element("main", element("h1", named(title)), *said, *parts), data)
    return f"<!DOCTYPE html>\n{markup(element('html', head, body, lang='en'))}\n"


def in_script(numbers: Mapping[str, Any]) -> str:
    """JSON that ends no element: it has no `<`, `>` or `&`."""
    text = json.dumps(numbers, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def part(title: str, *content: Element | None) -> Element | None:
    """A part of a page with its title; None where it has no content."""
    known = [each for each in content if each is not None]
    return element("section", element("h2", title), *known) if known else None


def whole(*parts: Element | None) -> list[Element]:
    """The parts that there are."""
    return [each for each in parts if each is not None]


def muted(text: str) -> Element:
    """A remark."""
    return element("p", text, class_="muted")


def listed(sentences: Iterable[str]) -> Element | None:
    """Sentences as a list; None of none."""
    items = [element("li", sentence) for sentence in sentences]
    return element("ul", *items) if items else None


def figure(drawn: Element, caption: str) -> Element:
    """A drawing with its caption."""
    return element("figure", drawn, element("figcaption", caption))


def folded(summary: str, content: Element) -> Element:
    """What is shown when it is asked for."""
    return element("details", element("summary", summary), content)


def made(command: str, versions: Mapping[str, str], settings: Mapping[str, Any] | None = None) -> Element | None:
    """The part that says how the page came about."""
    said = ("command", "recipe")  # above, and in a file of its own
    known = {key: value for key, value in (settings or {}).items() if key not in said and value is not None}
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    later = [str(each.get("command", "")) for each in (settings or {}).get("recover", ())]
    commands = [each for each in (command, *later) if each]
    rows = [
        element("tr", element("th", key), element("td", shown(value), class_="text")) for key, value in known.items()
    ]
    return part(
        "How it was made",
        element("pre", "\n".join(commands)) if commands else None,
        muted(f"With {told}."),
        folded("All settings", element("table", element("tbody", *rows))) if rows else None,
    )


def shown(value: Any) -> str:
    """A setting."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
