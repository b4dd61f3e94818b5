"""What became of every layer, why, and the spectra behind it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from xml.etree.ElementTree import Element

from tenfold.report.html.elements import element, named
from tenfold.report.html.page import figure
from tenfold.report.html.plot import LINES, Axis, Dot, Line, plot
from tenfold.report.spectrum import Spectrum
from tenfold.report.tables import ranks as shown_ranks
from tenfold.report.words import MOST_NAMES, untabled


@dataclass(frozen=True)
class Told:
    """What a page says of one layer: what it is (`conv o64 i32`), what became of it, why, and its spectra."""

    name: str
    what: str
    format: str
    ranks: Sequence[int | None]
    reason: str
    spectra: Sequence[Spectrum] = field(default_factory=tuple)

    @property
    def became(self) -> str:
        """`tucker2 12 24`, and `tucker2 12 24, 8 bits`."""
        name, *bits = self.format.split(", ")
        return ", ".join([f"{name} {shown_ranks(self.ranks)}".strip(), *bits])


def cards(layers: Sequence[Told]) -> Element | None:
    """A card a layer, after the reasons that many have in common; None of none."""
    counts = Counter(part for layer in layers for part in untabled(layer.reason))
    common = {part: count for part, count in counts.items() if count > MOST_NAMES}
    said = [element("p", f"{count} of {len(layers)} layers: {part}.") for part, count in common.items()]
    found = [card(layer, common) for layer in layers]
    return element("div", *said, element("div", *found, class_="cards")) if found else None


def card(layer: Told, common: Collection[str]) -> Element:
    """One layer, without the reasons that are common."""
    drawn = [spectrum(layer.spectra)] if layer.spectra else []
    return element(
        "article",
        element("h3", named(layer.name)),
        element("p", element("b", layer.became), f" {layer.what}"),
        *drawn,
        element("p", "; ".join(part for part in untabled(layer.reason) if part not in common)),
        class_="card",
    )


def spectrum(spectra: Sequence[Spectrum]) -> Element:
    """What each bond loses beyond each rank, the chosen ranks marked; one line a bond."""
    alone = len(spectra) == 1
    marks: list[Line | Dot] = []
    told = []
    for each, (style, looks) in zip(spectra, cycle(LINES.items()), strict=False):
        marks.append(Line([*zip(each.ranks, each.errors, strict=True)], style))
        marks.append(Dot(each.rank, each.error, label=str(each.rank) if alone else "", style="chosen"))
        said = f"{each.cut}: rank {each.rank} of {each.ranks[-1]} leaves {each.error:.2f}"
        told.append(said if alone else f"{looks}, {said}")
    across, up = Axis("", 0, max(each.ranks[-1] for each in spectra)), Axis("", 0, 1.05)
    return figure(plot("error left, by rank", across, up, marks, width=270, height=105), "; ".join(told))
