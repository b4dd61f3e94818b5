"""How a recovery went: losses of blocks and steps, and scores on the way."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from tenfold.report.course import CoursePoint
from tenfold.report.html.elements import element
from tenfold.report.html.page import figure, folded
from tenfold.report.html.plot import Axis, Dot, Line, plot
from tenfold.report.html.tables import table

STEEP = 20  # largest over smallest loss from which its axis is logarithmic
UNITS = {"blocks": "block"}
MEANING = {"blocks": "what is left, over the variance of a block's outputs", "epochs": "loss of training"}


def courses(course: Sequence[CoursePoint], score: str) -> Element | None:
    """A plot for every part of a recovery, one more where there were scores; None where nothing was noted."""
    drawn: list[Element] = []
    for part, points in rounds(course):
        kind = points[0].part
        unit = UNITS.get(kind, "step")
        drawn.append(drawing(f"{part}: {MEANING.get(kind, 'loss')}", unit, [(each.step, each.loss) for each in points]))
        scores = [(point.step, point.score) for point in points if point.score is not None]
        if scores:
            drawn.append(drawing(f"{part}: {score} on the validation split", unit, scores))
    if not drawn:
        return None
    shown = any(point.part == "blocks" or point.score is not None for point in course)
    rows = {
        f"{part} {point.step}": texts(point)
        for part, points in rounds(course)
        for point in points
        if not shown or point.part == "blocks" or point.score is not None
    }
    return element(
        "div",
        element("div", *drawn, class_="plots"),
        folded("The numbers of blocks and scores as a table", table(["step", "loss", "score"], rows)),
    )


def rounds(course: Sequence[CoursePoint]) -> list[tuple[str, list[CoursePoint]]]:
    """The parts with their points, `epochs, again 1` where steps begin anew: a network was recovered once more, or a
    lower rate was tried.
    """
    found: list[tuple[str, list[CoursePoint]]] = []
    for point in course:
        if not found or found[-1][1][-1].part != point.part or point.step <= found[-1][1][-1].step:
            before = sum(points[0].part == point.part for _, points in found)
            found.append((f"{point.part}, again {before}" if before else point.part, []))
        found[-1][1].append(point)
    return found


def texts(point: CoursePoint) -> list[str]:
    """The numbers of a point."""
    return [f"{point.loss:.4g}", "" if point.score is None else f"{point.score:.4g}"]


def drawing(caption: str, unit: str, points: Sequence[tuple[int, float]]) -> Element:
    """One curve over the steps of a part."""
    values = [value for _, value in points]
    steep = min(values) > 0 and max(values) > STEEP * min(values)
    x = Axis.around(unit, [step for step, _ in points])
    y = Axis.around("", values, log=steep)
    last = points[-1]
    marks: list[Line | Dot] = [Line(points), Dot(*last, label=f"{last[1]:.4g}", style="chosen")]
    return figure(plot(caption, x, y, marks), caption)
