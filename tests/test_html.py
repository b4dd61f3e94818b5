"""Pages: whole, self-contained, small, readable, with every number; whatever layers are called."""

import json
import math
import re
import shlex
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import tenfold
from tenfold import api, storage
from tenfold.cli import app
from tenfold.measure import MsPerBatch, Speedup, inspect
from tenfold.models import zoo_model
from tenfold.planning import ErrorCurves
from tenfold.protocols import TenfoldError
from tenfold.report import (
    CoursePoint,
    Foreseen,
    Known,
    LayerRow,
    Measurement,
    PlannedRatios,
    Report,
    ScoreValue,
    Spectrum,
    layer_rows,
    noted,
    sentences,
)
from tenfold.report.html import check_page, compared_page, compressed_page, inspected_page, planned_page, write_page
from tenfold.report.html.elements import element, markup, visible
from tenfold.report.html.page import in_script
from tenfold.report.html.plot import Axis
from tenfold.report.html.scatter import frontier
from tenfold.report.html.style import DARK, LIGHT
from tenfold.surgery import Plan, Row, decompose, sites

VERSIONS = {"tenfold": "0.1.0", "torch": "2.6.0", "python": "3.11.0"}
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'><b>&amp;",
    "שלום",
    "evil\u202etxt.exe",
    "tab\tnul\0bell\x07",
    "]]>--><!--",
    "x" * 400,
]
VOID = {"meta", "br", "hr", "img", "link", "input"}


# ---- made-up reports
def measurement(**changes: object) -> Measurement:
    known = Measurement(
        params=25557032,
        file_bytes=102511144,
        macs=4089184256,
        peak_memory_bytes=150000000,
        ms_per_batch=MsPerBatch(312.3, 4.2, 8, 2),
        score=ScoreValue("top-1", 80.1, True),
        deployed_params=25530472,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


SMALL = measurement(
    params=6400000, file_bytes=25600000, macs=1100000000, score=ScoreValue("top-1", 77.9, True),
    ms_per_batch=MsPerBatch(160.3, 4.2, 8, 2), speedup=Speedup(1.95, 0.05), deployed_params=6500000,
)  # fmt: skip
REASON = (
    "4.3x fewer parameters; 4.3x fewer multiply-adds; 0.857 ms, dense 1.5; relative error about 0.40; "
    "best of svd, tucker, tucker2, ada-tucker, cp, tt, ht, ht2, sttu, stt"
)


def spectrum(full: int) -> Spectrum:
    ranks = sorted({*torch.logspace(0, math.log10(full + 1), 12).sub(1).round().int().tolist(), full // 4})
    return Spectrum("i h | o w", full // 4, tuple(ranks), tuple(float(f"{1 - r / full:.3g}") for r in ranks))


def row(name: str, axes: dict[str, int], bonds: int) -> LayerRow:
    size = math.prod(axes.values())
    spectra = (spectrum(min(axes["o"], axes["i"])),) * bonds
    return LayerRow(
        name, "conv", axes, "ht2", {}, tuple(each.rank for each in spectra), ((0,), (1,)), size // 4, 40 * size,
        0.123456789012345, REASON, 196 * size, 1.234567890123e-3, 0.98765432101234e-3, spectra,
        Foreseen(0.4123, 0.3987),
    )  # fmt: skip


def report(rows: tuple[LayerRow, ...], **settings: object) -> Report:
    course = [CoursePoint("blocks", k, 0.1 / k) for k in range(1, 19)]
    course += [CoursePoint("epochs", 10 * k, 2.0 / k, 60 + k if k % 20 == 0 else None) for k in range(1, 61)]
    planned = PlannedRatios(4.0, 4.0, 3.9, 3.95)
    return Report(measurement(), SMALL, SMALL, rows, {"params": "4x", **settings}, None, planned, tuple(course))


def shown(given: Report, name: str = "net") -> str:
    return compressed_page(name, given, sentences(given), VERSIONS)


# ---- what pages are made of
class Page(HTMLParser):
    """Elements in order, and texts; fails where one is closed that is not the last opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.numbers = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.numbers += data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)


def check(text: str) -> Page:
    """A page that is well formed, refers to nothing, and runs nothing."""
    found = Page(text)
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 1
    assert not {"link", "img", "iframe", "object", "embed", "base", "a", "use", "image", "form"} & {*tags}
    for tag, attributes in found.elements:
        assert tag != "script" or attributes == {"type": "application/json", "id": "numbers"}
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "href", "xlink:href")]
    assert not re.search(r"url\(|@import|https?:", text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    return found


def test_a_report_of_resnet50_is_whole_and_small() -> None:
    with torch.device("meta"):
        network = zoo_model("resnet50").build()
    known = sites(network)
    assert len(known) == 54
    rows = [row(name, dict(site.axes), 1 if site.axes.get("h", 1) == 1 else 3) for name, site in known.items()]
    given = report(tuple(rows), command="tenfold compress resnet50 --params 4x --data images --out small")
    text = shown(given)
    found = check(text)
    assert len(text.encode()) < 150_000
    words = " ".join(found.texts)
    assert all(name in words for name in known)
    for part in (
        "3.99x",
        "1.95x",
        "77.90",
        "--data images",
        "torch 2.6.0",
        "of 54 layers: best of svd",
        "rank 16 of 64",
    ):
        assert part in words


def test_every_number_of_a_report_is_in_its_page() -> None:
    given = report((row("a", {"o": 64, "i": 32}, 2), row("b", {"o": 8, "i": 9, "h": 3, "w": 3}, 3)), lr=0.1)
    numbers = json.loads(check(shown(given)).numbers)
    assert numbers.pop("versions") == VERSIONS
    assert numbers == json.loads(given.to_json())
    assert Report.from_json(json.dumps(numbers)) == given


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)), min_size=3, max_size=3))
def test_whatever_things_are_called_is_text(names: list[str]) -> None:
    layer, command, model = names
    told = replace(row(layer, {"o": 64, "i": 32}, 1), reason=layer)
    given = report((told,), command=command, model=model)
    page = check(shown(given, model))
    plain = report((row("a", {"o": 64, "i": 32}, 1),), command="a", model="a")
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in check(shown(plain, "a")).elements}
    assert visible(layer).replace("\r", "\n") in "".join(page.texts).replace("\r", "\n")
    assert not [c for c in "".join(page.texts) if c != visible(c)]
    assert json.loads(page.numbers)["layers"][0]["name"] == layer


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_numbers_in_a_page_end_no_element(value: object) -> None:
    text = in_script({"value": value})
    assert not {*"<>&"} & {*text}
    assert text.isascii()
    assert json.loads(text) == {"value": value}


def test_texts_and_elements_stand_in_their_order() -> None:
    tree = element("p", "a < b ", element("b", "c"), " & ", "d", element("br"), class_="x", data_of='"')
    assert markup(tree) == '<p class="x" data-of="&quot;">a &lt; b <b>c</b> &amp; d<br></p>'


# ---- the other pages, and parts that are not known
def test_what_is_not_known_is_left_out() -> None:
    bare = Measurement(10, None, None, None, None, None, 10)
    rows = (LayerRow("a", "linear", {"o": 2, "i": 5}, "dense", {}, (), (), 10, None, None, ""),)
    text = compressed_page("net", Report(bare, bare, None, rows), [], VERSIONS)
    words = " ".join(check(text).texts)
    assert "net" in words
    for part in ("milliseconds", "The recovery", "None", "nan", "compressed,"):
        assert part not in words.replace("Where parameters, multiply-adds and milliseconds went", "").replace(
            "Milliseconds are", ""
        )


def test_networks_stand_on_the_frontier_that_no_other_beats() -> None:
    networks = {"dense": measurement(), "small": SMALL, HOSTILE[0]: replace(SMALL, params=10**7, file_bytes=4 * 10**7)}
    text = compared_page(networks, "tenfold evaluate a b c", VERSIONS)
    page = check(text)
    assert [tag for tag, _ in page.elements].count("svg") == 4
    assert json.loads(page.numbers)["networks"] == {name: asdict(each) for name, each in networks.items()}
    unjudged = {name: replace(each, score=None) for name, each in networks.items()}
    assert "svg" not in [tag for tag, _ in check(compared_page(unjudged, "", VERSIONS)).elements]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12), st.booleans())
def test_the_frontier_is_those_that_no_other_beats(points: list[tuple[int, int]], higher_is_better: bool) -> None:
    sign = 1 if higher_is_better else -1
    best = frontier([(float(x), float(y)) for x, y in points], higher_is_better=higher_is_better)

    def beaten(x: float, y: float) -> bool:
        return any((a <= x and sign * b >= sign * y) and (a, b) != (x, y) for a, b in points)

    assert {*best} == {(x, y) for x, y in points if not beaten(x, y)}
    assert best == sorted(best)


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9), st.booleans())
def test_an_axis_holds_its_values_and_has_ticks(one: float, two: float, log: bool) -> None:
    axis = Axis.around("x", [one, two], log=log)
    assert 0 <= axis.at(one) <= 1
    assert 0 <= axis.at(two) <= 1
    assert 1 <= len(axis.ticks) <= 25
    assert all(-1e-9 <= axis.at(tick) <= 1 + 1e-9 for tick in axis.ticks)


def test_a_plan_and_a_profile_have_pages_of_the_same_parts() -> None:
    model = zoo_model("lenet300").build()
    shapes = inspect(model, torch.zeros(1, 1, 28, 28), repeats=1)
    plan, expected = api.foreseen(model, inputs=torch.zeros(1, 1, 28, 28), params="4x", format="svd", max_error=1.0)
    spectra = {name: each for name, each in expected.spectra.items() if each}
    assert {*spectra} == {name for name, each in plan.rows.items() if not each.is_dense}
    found = check(
        planned_page("lenet300", plan, expected.layers, expected.spectra, {"schema": 1}, "tenfold plan", VERSIONS)
    )
    assert all(f"rank {each.rank} of" in " ".join(found.texts) for many in spectra.values() for each in many)
    page = check(inspected_page("lenet300", shapes, "tenfold inspect lenet300", VERSIONS))
    numbers = json.loads(page.numbers)
    assert {key: numbers[key] for key in json.loads(shapes.to_json())} == json.loads(shapes.to_json())


# ---- what stands in them
def test_spectra_foretell_the_errors_of_a_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    dense = torch.nn.Sequential(torch.nn.Linear(12, 20))
    torch.nn.init.normal_(dense[0].weight, generator=draw)
    plan = Plan({"0": Row("0", "svd", ranks=(5,))})
    (found,) = layer_rows(dense, decompose(dense, plan), plan, knowing=Known(ErrorCurves("")))
    values = torch.linalg.svdvals(dense[0].weight.double())
    left = (values[5:].square().sum() / values.square().sum()).sqrt().item()
    (told,) = found.spectra
    assert (told.rank, told.ranks[0], told.ranks[-1], told.errors[0], told.errors[-1]) == (5, 0, 12, 1.0, 0.0)
    assert told.error == pytest.approx(left, rel=1e-2)
    assert found.foreseen is not None
    assert found.foreseen.measured == pytest.approx(left, rel=1e-5)
    assert [*told.errors] == sorted(told.errors, reverse=True)


@given(st.integers(1, 300), st.integers(0, 5))
def test_a_course_keeps_the_mean_and_every_score(steps: int, epochs: int) -> None:
    every = max(steps // max(epochs, 1), 1)
    taken = [Step(k, steps, float(k), 1.0 if epochs and k % every == 0 else None) for k in range(1, steps + 1)]
    course: list[CoursePoint] = []
    assert [*noted(iter(taken), course, lambda _: "epochs")] == taken
    assert [point.step for point in course if point.score is not None] == [s.step for s in taken if s.score is not None]
    assert course[-1].step == steps
    assert len(course) <= 61 + len([s for s in taken if s.score is not None])
    lengths = [b - a for a, b in zip([0, *(p.step for p in course)], [p.step for p in course], strict=False)]
    assert sum(n * p.loss for n, p in zip(lengths, course, strict=True)) == pytest.approx(sum(range(1, steps + 1)))


def test_a_course_has_no_number_that_a_report_cannot_hold() -> None:
    course: list[CoursePoint] = []
    taken = [Step(1, 2, math.inf, None), Step(2, 2, 1.0, math.nan)]
    assert [*noted(iter(taken), course, lambda _: "epochs")] == taken
    assert course == [CoursePoint("epochs", 2, 1.0, None)]


class Step:
    """A step of a recovery."""

    def __init__(self, step: int, steps: int, loss: float, score: float | None) -> None:
        self.step, self.steps, self.loss, self.score = step, steps, loss, score


def test_a_folder_has_the_page_of_its_report_and_loads_without(tmp_path: Path) -> None:
    model = zoo_model("lenet300").build()
    result = tenfold.compress(model, inputs=torch.zeros(1, 1, 28, 28), params="4x", format="svd", max_error=1.0)
    tenfold.save(result, tmp_path / "small")
    page = tmp_path / "small" / "report.html"
    numbers = json.loads(check(page.read_text(encoding="utf-8")).numbers)
    assert {key: value for key, value in numbers.items() if key != "versions"} == storage.read_report(
        tmp_path / "small"
    )
    page.unlink()
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tenfold.load(tmp_path / "small", model=model)(x), result.model(x))


def test_only_pages_of_tenfold_are_replaced(tmp_path: Path) -> None:
    mine, page = tmp_path / "mine.html", compared_page({"a": measurement()}, "", VERSIONS)
    mine.write_text("<p>mine")
    with pytest.raises(TenfoldError, match="was not made by tenfold, so it is never replaced"):
        check_page(mine)
    with pytest.raises(TenfoldError, match=r"is no page; name a file that ends in \.html"):
        check_page(tmp_path / "page.png")
    write_page(tmp_path / "page.html", page)
    write_page(tmp_path / "page.html", page)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page


# ---- colours
def linear(colour: str) -> list[float]:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, two: str) -> float:
    """Of two colours, by WCAG 2."""
    lights = sorted(sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear(c), strict=True)) for c in (one, two))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_and_shapes_stand_out_from_their_ground(colours: dict[str, str]) -> None:
    for ground in ("ground", "raised"):
        for name in ("ink", "muted", "after", "chosen"):  # that texts have
            assert contrast(colours[name], colours[ground]) >= 4.5, name
    for name in ("before", "after", "second", "third", "chosen"):
        assert contrast(colours[name], colours["ground"]) >= 3, name


# how linear light reaches those whose long or middle cones are missing: Vienot, Brettel and Mollon, 1999
SEEN = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deutan": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
}


def lab(light: list[float]) -> list[float]:
    """CIE L*a*b* of linear sRGB."""
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    x, y, z = (sum(a * b for a, b in zip(row, light, strict=True)) / white
               for row, white in zip(rows, (0.9505, 1.0, 1.089), strict=True))  # fmt: skip
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_what_stands_together_is_told_apart_by_everyone(colours: dict[str, str], sight: str) -> None:
    def seen(colour: str) -> list[float]:
        light = linear(colour)
        return lab([max(sum(a * b for a, b in zip(row, light, strict=True)), 0.0) for row in SEEN[sight]])

    for one, two in [("before", "after"), *combinations(("after", "second", "third", "chosen"), 2)]:
        assert math.dist(seen(colours[one]), seen(colours[two])) > 15, (one, two)


def test_commands_leave_pages_that_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> str:
        found = CliRunner().invoke(app, shlex.split(command)[1:])
        assert found.exit_code == 0, found.output
        return found.stdout

    sized = "digits-cnn --input 1x8x8"
    compress = f"tenfold compress {sized} --params 3x --format svd --max-error 1 --out 'a small one'"
    assert "The report: a small one/report.html" in run(compress)
    commands = {
        "a small one/report.html": compress,
        "both.html": f"tenfold evaluate {sized} 'a small one' --html both.html",
        "plan.html": f"tenfold plan {sized} --params 3x --format svd --max-error 1 --html plan.html",
        "inspect.html": f"tenfold inspect {sized} --html inspect.html",
    }
    for page, command in commands.items():
        if command != compress:
            assert f"The page: {page}" in run(command)
        assert command in check((tmp_path / page).read_text(encoding="utf-8")).texts
    refused = CliRunner().invoke(app, shlex.split(f"plan {sized} --frontier --html no.html"))
    assert refused.exit_code == 2
    assert "--html shows one plan" in refused.output
