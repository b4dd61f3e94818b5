"""A plot: lines and dots on two axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element

LEFT, RIGHT, BOTTOM = 40.0, 12.0, 34.0  # room around the axes
LINES = {"first": "solid", "second": "dashed", "third": "dotted"}  # styles of lines and how they look, colour aside


@dataclass(frozen=True)
class Axis:
    """What a direction counts, from `low` to `high`; `log`: equal steps are equal ratios."""

    label: str
    low: float
    high: float
    log: bool = False

    @staticmethod
    def around(label: str, values: Sequence[float], *, log: bool = False) -> "Axis":
        """An axis on which these values lie, with some room at both ends."""
        low, high = min(values), max(values)
        if log and low > 0:
            room = (high / low) ** 0.08 if high > low else 1.5
            return Axis(label, low / room, high * room, log=True)
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        return Axis(label, low - room, high + room)

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along it, two at least where there are two."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
                found = [step * 10.0**power for power in powers for step in steps]
                found = [tick for tick in found if self.low <= tick <= self.high]
                if len(found) > 1:
                    return found
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(times for times in (5, 2, 1) if times * step <= (self.high - self.low) / 2 or times == 1)
        return [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Line:
    """A line through points, in one of the styles."""

    points: Sequence[tuple[float, float]]
    style: str = "first"


@dataclass(frozen=True)
class Dot:
    """A point with a name (shown where it is pointed at), a label beside it, and one of the styles."""

    x: float
    y: float
    name: str = ""
    label: str = ""
    style: str = ""


def plot(
    title: str, x: Axis, y: Axis, marks: Sequence[Line | Dot], *, width: float = 360, height: float = 230
) -> Element:
    """An SVG with the title as its text alternative."""
    top = 20.0 if y.label else 8.0
    floor, right = height - (BOTTOM if x.label else 20.0), width - RIGHT

    def place(across: float, up: float) -> tuple[float, float]:
        return (round(LEFT + x.at(across) * (right - LEFT), 1),
                round(floor - y.at(up) * (floor - top), 1))  # fmt: skip

    def drawn(mark: Line | Dot) -> list[Element]:
        if isinstance(mark, Line):
            path = "L".join("{:g} {:g}".format(*place(*point)) for point in mark.points)
            return [element("path", d=f"M{path}", class_=mark.style)]
        across, up = place(mark.x, mark.y)
        alternative = [element("title", mark.name)] if mark.name else []
        styled = {"class_": mark.style} if mark.style else {}
        dot = element("circle", *alternative, cx=across, cy=up, r=4.0, **styled)
        if not mark.label:
            return [dot]
        at_end = across > width - 60
        beside = {"x": across - 7 if at_end else across + 7, "class_": "label end" if at_end else "label"}
        return [dot, element("text", mark.label, y=max(up - 5, 10.0), **beside)]

    rows = {tick: place(x.low, tick)[1] for tick in y.ticks}
    columns = {tick: place(tick, y.low)[0] for tick in x.ticks}
    lines = [f"M{LEFT:g} {at:g}H{right:g}" for at in rows.values()] + [
        f"M{at:g} {floor:g}v4" for at in columns.values()
    ]
    words = [element("text", x.label, x=right, y=height - 3, class_="end")] if x.label else []
    words += [element("text", y.label, x=2.0, y=10.0)] if y.label else []
    return element(
        "svg",
        element("title", title),
        element("path", d="".join(lines), class_="grid"),
        element("g", *(element("text", short(tick), x=LEFT - 5, y=at + 4) for tick, at in rows.items()), class_="y"),
        element("g", *(element("text", short(tick), x=at, y=floor + 16) for tick, at in columns.items()), class_="x"),
        *(shape for mark in marks for shape in drawn(mark)),
        *words,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
    )


def short(value: float) -> str:
    """`0.25`, `1.5k`, `24M`."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.4g}{unit}"
    return f"{value:.4g}"
