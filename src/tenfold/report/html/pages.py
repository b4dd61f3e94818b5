"""Pages, each a list of parts: a compressed network, several networks, a plan, and a network as it was found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from xml.etree.ElementTree import Element

from tenfold.formats import DENSE
from tenfold.measure import Profile
from tenfold.report.html.bars import Amount, Quantity, bars
from tenfold.report.html.foresight import foresight
from tenfold.report.html.layers import Told, cards
from tenfold.report.html.page import listed, made, muted, page, part, whole
from tenfold.report.html.recovery import courses
from tenfold.report.html.scatter import scatters
from tenfold.report.html.tables import table
from tenfold.report.html.tiles import tiles
from tenfold.report.layer_row import LayerRow
from tenfold.report.measurement import Measurement
from tenfold.report.report import Report
from tenfold.report.spectrum import Spectrum
from tenfold.report.tables import OPTIONAL, ROWS, UNKNOWN, PlannedCosts, mebibytes, ms, short, sizes
from tenfold.report.words import notes
from tenfold.surgery import Plan

WENT = "Grey, behind: the dense layer. Blue, in front: the layer now. Every column has a scale of its own."
SPENT = "Milliseconds are of one sample, in the form that runs, with all that a layer became."
LEFT = (
    "Each line is the relative error (up) that cutting one bond alone leaves, by rank (across); dots: the chosen ranks."
)


def compressed_page(name: str, report: Report, words: Sequence[str], versions: Mapping[str, str]) -> str:
    """What became of a network. Args: words: the report in sentences; versions: of what made it."""
    networks = {"dense": report.dense, "compressed": report.compressed}
    networks |= {"recovered": report.recovered} if report.recovered is not None else {}
    score = next((each.score.name for each in networks.values() if each.score is not None), "score")
    told = [told_of(row) for row in report.layers]
    parts = whole(
        tiles(report),
        listed(words),
        part("Side by side", numbers_of(networks)),
        part("Where parameters, multiply-adds and milliseconds went", muted(f"{WENT} {SPENT}"), went(report.layers)),
        part("Foreseen and measured", foresight(report)),
        part("The recovery", courses(report.course, score)),
        part("Every layer, why, and the spectra behind it", muted(LEFT), cards(told)),
        made(str(report.settings.get("command", "")), versions, report.settings),
    )
    numbers = {**json.loads(report.to_json()), "versions": {**versions}}
    did = ", compressed" if any(row.format != DENSE for row in report.layers) else ""
    return page(f"{name}{did}", ["What tenfold did to this network, and what came of it."], parts, numbers)


def compared_page(networks: Mapping[str, Measurement], command: str, versions: Mapping[str, str]) -> str:
    """Networks side by side: what they score against what they cost."""
    numbered = {f"{k} {name}": network for k, (name, network) in enumerate(networks.items(), start=1)}
    plots = scatters(networks)
    parts = whole(
        part("Side by side", numbers_of(numbered)),
        part("Score against cost", muted("The line joins the networks that no other beats on both."), plots)
        if plots is not None else None,
        made(command, versions),
    )  # fmt: skip
    numbers = {"schema": 1, "networks": {name: asdict(each) for name, each in networks.items()}, "command": command,
               "versions": {**versions}}  # fmt: skip
    return page(f"{len(networks)} networks", ["Measured in one run, timed in turn."], parts, numbers)


def inspected_page(name: str, profile: Profile, command: str, versions: Mapping[str, str]) -> str:
    """Where the parameters, multiply-adds, time and memory of a network are."""
    rows = [*profile.layers.values()]
    quantities = [
        Quantity("parameters", [Amount(row.params) for row in rows], whole_number),
        Quantity("multiply-adds", [Amount(row.macs) for row in rows], whole_number),
        Quantity("milliseconds", [Amount(row.seconds) for row in rows], ms),
        Quantity("MiB", [Amount(row.memory_bytes) for row in rows], lambda count: mebibytes(int(count))),
    ]
    what = [f"{row.kind} {sizes(row.axes)}" for row in rows]
    parts = whole(
        listed(notes(profile)),
        part("Where it is", bars([row.name for row in rows], what, quantities, "what it is")),
        made(command, versions),
    )
    numbers = {**json.loads(profile.to_json()), "command": command, "versions": {**versions}}
    return page(name, [], parts, numbers)


def planned_page(
    name: str,
    plan: Plan,
    costs: Mapping[str, PlannedCosts],
    spectra: Mapping[str, Sequence[Spectrum]],
    numbers: Mapping[str, Any],
    command: str,
    versions: Mapping[str, str],
) -> str:
    """What is to become of a network. Args: numbers: the plan as JSON knows it."""
    each = [costs[row] for row in plan.rows]
    quantities = [
        Quantity("parameters", [Amount(cost.params, cost.params_before) for cost in each], whole_number),
        Quantity("multiply-adds", [Amount(cost.macs, cost.macs_before) for cost in each], whole_number),
    ]
    told = [
        Told(row.name, "", row.form, row.ranks, row.reason, spectra.get(row.name, ())) for row in plan.rows.values()
    ]
    parts = whole(
        part("Where parameters and multiply-adds are to go", muted(WENT),
             bars([*plan.rows], [row.became for row in told], quantities, "becomes")),
        part("Every layer, why, and the spectra behind it", muted(LEFT), cards(told)),
        made(command, versions),
    )  # fmt: skip
    known = {name: [asdict(each) for each in found] for name, found in spectra.items()}
    document = {**numbers, "spectra": known, "command": command, "versions": {**versions}}
    return page(f"A plan for {name}", ["Foreseen, not measured: nothing is compressed yet."], parts, document)


def numbers_of(networks: Mapping[str, Measurement]) -> Element:
    """A row a number, a column a network."""
    rows = {label: [show(network) for network in networks.values()] for label, show in ROWS.items()}
    known = {label: texts for label, texts in rows.items() if label not in OPTIONAL or set(texts) != {UNKNOWN}}
    return table(["", *networks], known)


def went(rows: Sequence[LayerRow]) -> Element:
    """Bars of every layer, before and after."""
    quantities = [
        Quantity("parameters", [Amount(row.params, row.params_before) for row in rows], whole_number),
        Quantity("multiply-adds", [Amount(row.macs, row.macs_before) for row in rows], whole_number),
        Quantity("milliseconds", [Amount(row.seconds, row.seconds_before) for row in rows], ms),
    ]
    return bars([row.name for row in rows], [told_of(row).became for row in rows], quantities, "became")


def told_of(row: LayerRow) -> Told:
    """What a page says of a row."""
    return Told(row.name, f"{row.kind} {sizes(row.shape)}", row.form, row.ranks, row.reason, row.spectra)


def whole_number(value: float) -> str:
    """`231.2M`."""
    return short(int(value))
