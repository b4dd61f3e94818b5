"""The pages are true: their Python and their commands run, their links lead somewhere, no public name is left out.

In a page, top to bottom and in one folder of its own: a ```python block runs, in one namespace a page, or is written
to a file where its first line is `# name.py`; a ```toml block with entry points becomes an installed package; in a
```bash block every line that begins with `tenfold ` runs, and must succeed. Output stands in ```text.
"""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tenfold
from tenfold import formats, layers
from tenfold.tasks import TASKS
from tenfold.tasks.classes import Classes

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKED = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
# pages that need a package more, whose warnings are its own
THEIRS = {"transformers": [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
FILE = re.compile(r"# (\w+\.py)\n")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    found = [(match[1], match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    return found[2:] if page == README else found  # those two set a machine up: .ci/run and fresh clones run them


def links(page: Path) -> list[str]:
    """Where a page leads within the repository."""
    found = [match[1] or match[2] for match in LINK.finditer(BLOCK.sub("", page.read_text(encoding="utf-8")))]
    return [link for link in found if "://" not in link]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, importable; what is imported from it is forgotten in the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before, threads = set(sys.modules), torch.get_num_threads()
    with torch.random.fork_rng():
        yield tmp_path
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    formats.available.cache_clear()
    layers.available.cache_clear()


def install(folder: Path, toml: str) -> None:
    """What pip leaves of a package with these entry points."""
    groups = re.sub(r'\[project\.entry-points\."([\w.]+)"\]', r"[\1]", toml).replace('"', "")
    place = folder / "page-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: page\nVersion: 1.0\n", encoding="utf-8")
    (place / "entry_points.txt").write_text(groups, encoding="utf-8")
    importlib.invalidate_caches()
    formats.available.cache_clear()
    layers.available.cache_clear()


def command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `tenfold ..` in this process; it must succeed."""
    cli = importlib.import_module("tenfold.cli")
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    assert code in (0, None), line


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=THEIRS.get(page.stem, []), id=page.stem) for page in [README, *PAGES]]
)
def test_what_a_page_shows_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.stem in THEIRS:
        pytest.importorskip(page.stem, reason=f"{page.stem} is not installed; pip install 'tenfold[{page.stem}]'")
    namespace: dict[str, object] = {"__name__": f"page_{page.stem}"}
    for number, (language, text) in enumerate(blocks(page), start=1):
        if language == "python" and (named := FILE.match(text)):
            (folder / named[1]).write_text(text, encoding="utf-8")
            importlib.invalidate_caches()
        elif language == "python":
            exec(compile(text, f"{page.name}, block {number}", "exec"), namespace)
        elif language == "toml" and "entry-points" in text:
            install(folder, text)
        elif language == "bash":
            lines = text.replace("\\\n", " ").splitlines()
            for line in lines:
                if line.startswith("tenfold "):
                    command(line.partition(" # ")[0], monkeypatch)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("start", [README, ROOT / "docs" / "index.md"], ids=["README", "index"])
def test_every_page_is_linked(start: Path) -> None:
    linked = {(start.parent / link.partition("#")[0]).resolve() for link in links(start)}
    assert [page.name for page in PAGES if page not in linked and page != start] == []


def test_the_reference_has_every_public_name_once() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    part = text.partition("## `tenfold`\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)[(`]", part, re.MULTILINE)
    assert sorted(named) == sorted([*tenfold.__all__, "__version__"])


def test_the_page_of_formats_has_every_format_and_option() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, kind in formats.BUILT_IN.items():
        part = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert part, name
        for option in kind.option_names():
            assert f"`{option}`" in part, (name, option)


def test_the_page_of_layers_has_every_kind_and_its_modules() -> None:
    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    for name, kind in layers.BUILT_IN.items():
        row = re.search(rf"^\| .*`{name}`.*$", text, re.MULTILINE)
        assert row, name
        for module in kind.replaces:
            shown = module.rpartition(".")[2] if isinstance(module, str) else f"nn.{module.__name__}"
            assert f"`{shown}`" in row[0], (name, module)


def test_no_page_names_a_path_or_host_of_a_machine() -> None:
    for page in [README, *PAGES]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/(work|root|home|opt)/", text), page.name


def test_every_verb_has_a_page() -> None:
    stems = {page.stem for page in PAGES}
    verbs = "inspect plan decompose train recover evaluate compress lower save-and-load demo"
    assert set(verbs.split()) <= stems


def test_the_table_of_tasks_is_what_the_tasks_say() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.+?) \| (.+?) \| (yes|no) \|$", text, re.MULTILINE)
    found = {name: (outputs, targets, scores.replace("\\*", "")) for name, outputs, targets, scores, _ in rows}
    assert found == {t.name: (t.outputs, t.targets, ", ".join(t.scores)) for t in TASKS.values()}
    assert {row[0] for row in rows if row[4] == "yes"} == {
        task.name for task in TASKS.values() if isinstance(task, Classes)
    }
