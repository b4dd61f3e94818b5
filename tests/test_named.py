"""Functions named by a string: found, run, and every way in which that can go wrong."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from tenfold.named import named_function
from tenfold.neighbours import neighbours
from tenfold.protocols import TenfoldError

FILE = """
from dataclasses import dataclass
from torch import nn
import beside

@dataclass
class Made:
    width: int

def build():
    import beside_later
    return Made(beside.WIDTH + beside_later.WIDTH)

def broken():
    return {}["width"]

def leaves():
    raise SystemExit(2)

def takes(width):
    return width

constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 3\n")
    (tmp_path / "beside_later.py").write_text("WIDTH = 4\n")
    path = tmp_path / "nets.py"
    path.write_text(FILE)
    return path


def found(spec: str) -> object:
    return named_function(spec, noun="a network of the zoo", known=["resnet20"])()


def test_a_file_runs_with_its_own_folder_importable_and_leaves_nothing_behind(file: Path) -> None:
    before = list(sys.path)
    made = found(f"{file}:build")
    assert made.width == 7
    assert sys.path == before
    assert pickle.loads(pickle.dumps(made)) == made
    assert type(found(f"{file}:build")) is type(made)
    assert not list(file.parent.rglob("nets*.pyc"))


def test_an_edited_file_is_read_again(file: Path) -> None:
    assert found(f"{file}:build").width == 7
    file.write_text(FILE.replace("beside.WIDTH + ", "10 * beside.WIDTH + "))
    assert found(f"{file}:build").width == 34


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    for k in (1, 2):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "net.py").write_text("def build():\n    return __file__\n")
    assert [found(f"{tmp_path}/{k}/net.py:build") for k in (1, 2)] == [f"{tmp_path}/{k}/net.py" for k in (1, 2)]


def test_a_module_that_can_be_imported() -> None:
    assert found("os:getcwd") == os.getcwd()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet2", ["'resnet2' is neither a network of the zoo nor a function", "did you mean 'resnet20'?"]),
        ("FILE", ["names a file, but no function in it; write"]),
        ("nowhere/nets.py:build", ["there is no file 'nowhere/nets.py'", "path/to/file.py:function"]),
        ("FILE:biuld", ["has no function 'biuld'; did you mean 'build'"]),
        ("FILE:constant", ["'constant' in file", "of type int, not a function"]),
        ("FILE:broken", [":broken' raised KeyError: 'width'."]),
        ("FILE:leaves", [":leaves' raised SystemExit: 2."]),
        ("FILE:takes", [":takes' raised TypeError:", "missing 1 required positional argument: 'width'"]),
        ("no_such_package.nets:build", ["'no_such_package.nets' is neither", "nor a module that can be imported"]),
        ("os:getcdw", ["module 'os' has no function 'getcdw'; did you mean 'getcwd'"]),
        ("a b:c", ["'a b:c' is neither"]),
        (":build", ["':build' is neither"]),
        ("", ["'' is neither"]),
    ],
)
def test_what_cannot_be_found_is_one_sentence(file: Path, spec: str, words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        found(spec.replace("FILE", str(file)))
    assert all(part in str(caught.value) for part in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def build(:\n", "raised SyntaxError"),
        ("import no_such_package_at_all\n", "raised ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("raise ValueError('two\\nlines')\n", "raised ValueError: two lines."),
        ("raise RuntimeError\n", "raised RuntimeError."),
    ],
)
def test_a_file_that_raises_is_one_sentence_and_forgotten(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken_net.py"
    path.write_text(text)
    with pytest.raises(TenfoldError) as caught:
        found(f"{path}:build")
    assert f"running file '{path}' {words}" in str(caught.value)
    assert not [name for name in sys.modules if "broken_net" in name]


def test_a_package_whose_own_import_fails_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tenfold_test_needy.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TenfoldError, match=r"importing module 'tenfold_test_needy' raised .*no_such_package_at_all"):
        found("tenfold_test_needy:build")


# ---- neighbours
PROJECT = {
    "net.py": "import importlib\nfrom blocks import Block, late\nimport parts.head as head\nimport torch\n"
    "def build():\n    return Block(head.WIDTH, importlib.import_module('chosen').WIDTH)\n",
    "blocks.py": "from dataclasses import dataclass\n@dataclass\nclass Block:\n    a: int\n    b: int\n"
    "def late():\n    import lazy\n    from parts.deep.sub import WIDTH\n    return lazy.WIDTH, WIDTH\n",
    "lazy.py": "WIDTH = {k}\n",
    "chosen.py": "WIDTH = {k}\n",
    "parts/__init__.py": "",
    "parts/head.py": "from .deep import WIDTH\n",
    "parts/deep/__init__.py": "from ..base import WIDTH\n",
    "parts/deep/sub.py": "from parts.base import WIDTH\n",
    "parts/base.py": "WIDTH = {k}\n",
    "unused.py": "import no_such_package_at_all\n",
    "torch_data/readme.txt": "",
}


def project(folder: Path, k: int) -> Path:
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("{k}", str(k)))
    return folder / "net.py"


def test_all_neighbours_are_found_and_no_other_file(tmp_path: Path) -> None:
    """Below, relative, inside functions, and by a name that was made up while the file ran."""
    file = project(tmp_path, 1)
    found(f"{file}:build")
    names = {str(path.relative_to(tmp_path)) for path in neighbours(file)}
    assert names == set(PROJECT) - {"net.py", "unused.py", "torch_data/readme.txt"}
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_neighbours_of_one_name_in_two_folders_are_two(tmp_path: Path, order: tuple[int, int]) -> None:
    made: dict[int, Any] = {k: found(f"{project(tmp_path / str(k), k)}:build") for k in order}
    assert [(made[k].a, made[k].b) for k in order] == [(k, k) for k in order]
    assert type(made[1]) is not type(made[2])
    for k in (1, 2, 1, 2):  # imports that run long after the files did
        module = vars(type(made[k]))["__init__"].__globals__
        assert module["late"]() == (k, k)
        assert vars(sys.modules[module["__name__"]]) is module  # which torch.compile looks up
    assert found(f"{tmp_path}/1/net.py:build").a == 1


def test_an_edited_neighbour_is_read_again(tmp_path: Path) -> None:
    file = project(tmp_path, 1)
    assert found(f"{file}:build").a == 1
    project(tmp_path, 2)
    assert found(f"{file}:build").a == 2


def test_a_failed_neighbour_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import half\ndef build():\n    return half.WIDTH\n")
    (tmp_path / "half.py").write_text("raise ValueError('not yet')\n")
    with pytest.raises(TenfoldError, match="not yet"):
        found(f"{tmp_path}/net.py:build")
    (tmp_path / "half.py").write_text("WIDTH = 3\n")
    assert found(f"{tmp_path}/net.py:build") == 3


@pytest.mark.parametrize("way", ["sys.path", "working directory"])
def test_an_import_from_a_folder_above_is_refused(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"tenfold_test_shared_{len(way)}"
    (tmp_path / f"{name}.py").write_text("WIDTH = 3\n")
    (tmp_path / "nets").mkdir()
    lines = f"import sys\nsys.path.append({str(tmp_path)!r})\n" if way == "sys.path" else ""
    (tmp_path / "nets/net.py").write_text(f"{lines}import yaml\nfrom {name} import WIDTH\ndef build(): return WIDTH\n")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.chdir(tmp_path)
    assert found("nets/net.py:build") == 3
    with pytest.raises(TenfoldError) as caught:
        neighbours(tmp_path / "nets/net.py")
    for part in [
        f"{tmp_path}/nets/net.py' imports '{name}' from '{tmp_path}/{name}.py'",
        f"put '{name}' into",
        "install",
    ]:
        assert part in str(caught.value)
