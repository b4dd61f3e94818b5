"""What networks score against what they cost, with the frontier: those that no other beats on both."""

from collections.abc import Callable, Mapping, Sequence
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element
from tenfold.report.html.page import figure
from tenfold.report.html.plot import Axis, Dot, Line, plot
from tenfold.report.measurement import Measurement

ACROSS: dict[str, Callable[[Measurement], float | None]] = {
    "bytes in the file": lambda network: network.file_bytes,
    "parameters": lambda network: network.params,
    "multiply-adds a sample": lambda network: network.macs,
    "milliseconds a batch": lambda network: None if network.ms_per_batch is None else network.ms_per_batch.median,
}


def scatters(networks: Mapping[str, Measurement]) -> Element | None:
    """A plot for every cost that is known of all networks, and the score of all; None where there is none."""
    if len(networks) < 2 or any(network.score is None for network in networks.values()):
        return None
    drawn = [scatter(what, networks, cost) for what, cost in ACROSS.items()]
    known = [each for each in drawn if each is not None]
    return element("div", *known, class_="plots") if known else None


def scatter(
    what: str, networks: Mapping[str, Measurement], cost: Callable[[Measurement], float | None]
) -> Element | None:
    """One of them; networks are numbered in their order."""
    points: list[tuple[float, float]] = []
    for network in networks.values():
        value = cost(network)
        if value is None or network.score is None:
            return None
        points.append((float(value), network.score.value))
    score = next(network.score for network in networks.values() if network.score is not None)
    best = frontier(points, higher_is_better=score.higher_is_better)
    dots = [
        Dot(x, y, f"{name}: {score.name} {y:.4g}, {x:,.4g} {what}", str(k), "first" if (x, y) in best else "beaten")
        for k, (name, (x, y)) in enumerate(zip(networks, points, strict=True), start=1)
    ]
    across = Axis.around(what, [x for x, _ in points], log=min(x for x, _ in points) > 0)
    up = Axis.around(score.name, [y for _, y in points])
    line = [Line(best, "quiet")] if len(best) > 1 else []
    return figure(plot(f"{score.name} against {what}", across, up, [*line, *dots]), f"{score.name} against {what}")


def frontier(points: Sequence[tuple[float, float]], *, higher_is_better: bool) -> list[tuple[float, float]]:
    """The points, cheapest first, of which none costs as little and scores as well as another."""
    sign = 1.0 if higher_is_better else -1.0
    found: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (point[0], -sign * point[1])):
        if not found or sign * y > sign * found[-1][1]:
            found.append((x, y))
    return found
