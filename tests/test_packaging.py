"""What pip, a newcomer and a machine without extras meet."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tenfold

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line) for line in lines), "NAME==VERSION, no local version tag"
    return dict(line.split("==") for line in lines)


def pulled() -> set[str]:
    """Every package that the core and the extras pull here, by name."""
    extras = [text for name, texts in PROJECT["optional-dependencies"].items() if name != "export" for text in texts]
    waiting = [(Requirement(text), "") for text in [*PROJECT["dependencies"], *extras]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        for part in ["", *sorted(wanted.extras)]:
            key = (canonical(wanted.name), part)
            if key in seen or key[0] == "tenfold":
                continue
            seen.add(key)
            try:
                needed = metadata.requires(wanted.name) or []
            except metadata.PackageNotFoundError:  # an extra that this environment was installed without
                continue
            waiting += [(Requirement(text), part) for text in needed]
    return {name for name, _ in seen}


def test_every_dependency_is_pinned_and_nothing_else() -> None:
    found = {name for name in pulled() if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert found - set(pins()) == set()
    installed = {canonical(part.name) for part in metadata.distributions()}
    assert {name for name in pins() if name in installed} - found == set()


def test_torch_is_pinned_as_published() -> None:
    assert pins()["torch"] == "2.13.0"


def test_extras() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {
        "demo",
        "train",
        "report",
        "images",
        "export",
        "hf",
        "metrics",
        "transformers",
        "models",
        "dev",
    }
    named = {canonical(Requirement(text).name) for texts in extras.values() for text in texts}
    assert not named & {canonical(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert {"torch", "numpy", "msgspec", "safetensors", "opt-einsum", "typer", "rich", "pyyaml", "filelock"} == {
        canonical(Requirement(text).name) for text in PROJECT["dependencies"]
    }
    assert "tenfold[train]" in extras["demo"]  # the demo fine-tunes


def test_the_version_is_pyprojects() -> None:
    assert tenfold.__version__ == PROJECT["version"]
    assert (Path(tenfold.__file__).parent / "py.typed").exists()


def readme_block(number: int) -> list[str]:
    """Lines of a fenced bash block, from 1, found as .ci/run finds it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.findall(r"^```(?:bash|sh|console|shell)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number - 1]
    return [line for line in block.splitlines() if line]


@pytest.mark.parametrize(("number", "extra", "last"), [(1, "demo", "tenfold demo"), (2, "dev", "python -m pytest")])
def test_the_two_commands_of_the_readme_do_all_their_set_up(number: int, extra: str, last: str) -> None:
    lines = readme_block(number)
    assert lines[0] == "python3 -m venv .venv"
    assert lines[1] == "source .venv/bin/activate"
    assert any("pip install -c constraints.txt" in line and f"'.[{extra}]'" in line for line in lines)
    assert lines[-1].startswith(last)
    assert not any(word in line for line in lines for word in ("http", "index-url", "/opt", "/home"))


def test_ci_runs_the_second_command() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    cut = re.search(r"block=\$\((awk .*)\)\n", script.read_text(encoding="utf-8"))
    assert cut is not None
    done = subprocess.run(["bash", "-c", cut[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line] == readme_block(2)


LOOK = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import tenfold
names = ("torch", "numpy", "sklearn", "accelerate", "matplotlib", "PIL", "typer", "rich")
heavy = [name for name in names if name in sys.modules]
print(json.dumps({"heavy": heavy, "opened": opened, "version": tenfold.__version__}))
"""


def test_importing_tenfold_imports_no_library_and_opens_nothing_but_python() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert seen["heavy"] == []
    assert seen["version"] == PROJECT["version"]
    allowed = (".py", ".pyc", ".so", ".zip", "METADATA", "PKG-INFO")
    assert [path for path in seen["opened"] if not re.sub(r"\.pyc\.\d+$", ".pyc", path).endswith(allowed)] == []


def test_rooms_import_downwards_only() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
