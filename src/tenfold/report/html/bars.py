"""Bars by layer: where something went, before and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element, named

SLIVER = 0.4  # per cent of the width that any bar has that is not nothing


@dataclass(frozen=True)
class Amount:
    """How much of something a layer has; `before`: None where there is no before."""

    now: float | None
    before: float | None = None


@dataclass(frozen=True)
class Quantity:
    """Something that layers have: its name, an amount a layer, and how one is written."""

    name: str
    amounts: Sequence[Amount]
    shown: Callable[[float], str]


def bars(names: Sequence[str], notes: Sequence[str], quantities: Sequence[Quantity], noted: str) -> Element:
    """A row a layer, a column a quantity; quantities that no layer has are left out.

    Args: notes: what became of each layer, in a column called `noted`.
    """
    told = [each for each in quantities if any(amount.now is not None for amount in each.amounts)]
    most = {each.name: max((largest(amount) for amount in each.amounts), default=0.0) for each in told}
    head = element("tr", element("th", "layer", scope="col"), element("th", noted, scope="col"),
                   *(element("th", each.name, scope="col") for each in told))  # fmt: skip
    rows = [
        element("tr", element("th", named(name), scope="row"), element("td", note),
                *(cell(each, each.amounts[k], most[each.name]) for each in told))
        for k, (name, note) in enumerate(zip(names, notes, strict=True))
    ]  # fmt: skip
    return element("table", element("thead", head), element("tbody", *rows), class_="bars", style=heads(told))


def heads(quantities: Sequence[Quantity]) -> str:
    """The names of the columns for the style, which shows them in each row where there is no room for a head."""
    return "".join(f'--name{k}:"{each.name} ";' for k, each in enumerate(quantities, start=3))


def largest(amount: Amount) -> float:
    """The larger of before and after."""
    return max(amount.now or 0.0, amount.before or 0.0)


def cell(quantity: Quantity, amount: Amount, most: float) -> Element:
    """The numbers of one layer and their bars; the one before is behind."""
    if amount.now is None:
        return element("td", "not known")
    now, before = quantity.shown(amount.now), None if amount.before is None else quantity.shown(amount.before)
    words = now if before in (None, now) else f"{before} → {now}"
    widths = f"--was:{width(amount.before, most)};--now:{width(amount.now, most)}"
    return element("td", words, element("i", style=widths))


def width(value: float | None, most: float) -> str:
    """Of a bar."""
    return f"{max(100 * value / most, SLIVER):.3g}%" if value and most else "0"
