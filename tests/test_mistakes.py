"""What people get wrong, and the sentence that each gets: `docs/mistakes.md`, which this file writes when run.

A case is a line: of the shell where it starts with `tenfold`, else of Python. What it says is in the page, so that a
message that changes shows there.
"""

import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import tenfold
from tenfold.cli import app
from tenfold.data import load_data
from tenfold.models import resolve
from tenfold.protocols import TenfoldError

PAGE = Path(__file__).parent.parent / "docs" / "mistakes.md"
HEAD = """# Mistakes, and what they get

Each is one sentence on standard error, exit code 2 (in Python a `TenfoldError`), nothing written, and refused before
any work that it can be refused before. `net.py` builds a network for images of 1 x 8 x 8, `own.py` gives data for it;
`small` is a folder that tenfold wrote. The page is made from the messages by
`python tests/test_mistakes.py`, and compared with them in the tests.

| what was given | what is said |
|---|---|
"""
NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.Flatten(),
        nn.Linear(384, 10),
    )

def fails(): raise KeyError("width")
def number(): return 3
def wide(width): return nn.Linear(width, 2)
weights = 3
"""
DATA = """
import torch

class Own:
    def __init__(self, of=lambda x: x, to=lambda y: y):
        labelled = [(of(torch.rand(16, 1, 8, 8)), to(torch.arange(16) % 10)) for _ in range(2)]
        self.train = self.validation = self.test = labelled
        self.inputs = [x for x, _ in labelled]

def own(): return Own()
def colour(): return Own(of=lambda x: x.repeat(1, 3, 1, 1))
def double(): return Own(of=lambda x: x.double())
def many(): return Own(to=lambda y: y + 90)
def lists(): return [1, 2]
"""
CASES = """
tenfold compres net.py:build
tenfold compress net.py:build --parms 2x --out o
tenfold compress --params 2x --out o
tenfold compress net.py:build --params 2x
tenfold compress net.py:build --out o
tenfold inspect resnet2
tenfold inspect net.py
tenfold inspect net.py:bild
tenfold inspect nett.py:build
tenfold inspect net.py:fails
tenfold inspect net.py:number
tenfold inspect net.py:wide
tenfold inspect net.py:weights
tenfold inspect mine
tenfold inspect net.py:build --input 3x8x8
tenfold inspect net.py:build --input 1,8,8
tenfold inspect net.py:build --input 1x8x8:int3
tenfold inspect net.py:build --input 1x8x8 --batch-dim first
tenfold plan net.py:build --params 2,5x
tenfold plan net.py:build --params 0.5x
tenfold plan net.py:build --params 120%
tenfold plan net.py:build --params 1000x --format svd
tenfold plan net.py:build --macs 2x
tenfold plan net.py:build --params 2x --energy 0.9
tenfold plan net.py:build --energy 90
tenfold plan net.py:build --ranks 0
tenfold plan net.py:build --ranks 8x
tenfold plan net.py:build --params 2x --format tuker
tenfold plan net.py:build --params 2x --exclude fc
tenfold plan net.py:build --params 2x --include 're:[('
tenfold plan net.py:build --params 2x --layer 4
tenfold plan net.py:build --params 2x --layer 4=svd:four
tenfold plan net.py:build --params 2x --runtime onnx
tenfold plan net.py:build --params 2x --out mine
tenfold plan net.py:build --params 2x --out notes.txt --overwrite
tenfold plan small --trust-code --params 2x
tenfold compress net.py:build --params 2x --out small
tenfold compress net.py:build --params 2x --out mine --overwrite
tenfold compress net.py:build --params 2x --out o --weights other.safetensors
tenfold compress net.py:build --params 2x --out o --weights mine
tenfold compress net.py:build --out o --plan typo.yaml
tenfold compress net.py:build --out o --plan mine
tenfold compress net.py:build --params 2x --out o --plan typo.yaml
tenfold compress net.py:build --params 2x --out o --device tpu
tenfold compress net.py:build --params 2x --out o --calibrate 100
tenfold compress net.py:build --params 2x --out o --data digts
tenfold compress net.py:build --params 2x --out o --data mnist
tenfold compress net.py:build --params 2x --out o --data own.py:lists
tenfold compress net.py:build --params 2x --out o --data own.py:colour
tenfold compress net.py:build --params 2x --out o --data own.py:double
tenfold compress net.py:build --params 2x --out o --data own.py:many --epochs 1
tenfold compress net.py:build --params 2x --out o --data own.py:own --epochs 1.5
tenfold compress net.py:build --params 2x --out o --data own.py:own --epochs 1 --lr -1
tenfold compress net.py:build --params 2x --out o --data own.py:own --memory 4G0
tenfold compress net.py:build --params 2x --out o --data own.py:own --mean 0.5 --std 0
tenfold compress net.py:build --params 2x --out o --dtype int8
tenfold compress net.py:build --out o --recipe recipe.yaml
tenfold inspect timm:
tenfold inspect torchvision:./resnet18
tenfold train net.py:build --out o
tenfold train net.py:build --data own.py:own --out o --init core
tenfold recover net.py:build --data own.py:own
tenfold recover small --trust-code
tenfold evaluate small
tenfold evaluate net.py:build --data own.py:own --task regression
tenfold export small --trust-code --out model.tflite
tenfold.compress(model, params="2x", exlude=["4"])
tenfold.compress(model, params="2x", exclude="4")
tenfold.compress(model, params="2x", layers={"4": 8})
tenfold.compress(model, params="2x", format=["svd", "tt"])
tenfold.compress(model, params="2x", device="tpu")
tenfold.compress(model, plan={})
tenfold.compress(model, x, params="2x")
tenfold.compress(model, data, params="2x", epochs="3")
tenfold.compress("resnet20", params="2x")
tenfold.decompose(model, "plan.yaml")
tenfold.plan(model, params="2x")
tenfold.evaluate(model, x)
tenfold.train(model, None)
tenfold.recover(model, x, epochs=1)
tenfold.recover(model, data, epochs=1, learning_rate=0.1)
tenfold.calibrate(model, None)
tenfold.lower(model.state_dict())
tenfold.export(model, "model.onnx")
tenfold.load("nowhere")
tenfold.load("small", model=nn.Linear(3, 3))
tenfold.save(model, "o")
""".strip().splitlines()


def prepared(place: Path) -> dict[str, Any]:
    """The files that the cases name, in the working directory; what Python lines know."""
    (place / "net.py").write_text(NET)
    (place / "own.py").write_text(DATA)
    (place / "notes.txt").write_text("mine")
    (place / "mine").mkdir()
    (place / "mine/a.txt").write_text("mine")
    (place / "typo.yaml").write_text("schema: 1\nlayers: {'4': {format: svd, rank: [5]}}\n")
    (place / "recipe.yaml").write_text("params: 2x\nepochs: many\n")
    save_file({"a": torch.ones(3)}, place / "other.safetensors")
    CliRunner().invoke(app, ["compress", "net.py:build", "--params", "1.5x", "--format", "svd", "--out", "small"])
    model, data = resolve("net.py:build").function(), load_data("own.py:own")
    return {"tenfold": tenfold, "nn": nn, "model": model, "x": torch.rand(4, 1, 8, 8), "data": data}


def said(case: str, known: dict[str, Any]) -> str:
    """What a case gets."""
    if not case.startswith("tenfold "):
        with pytest.raises(TenfoldError) as caught:
            eval(case, dict(known))
        return str(caught.value)
    log = logging.getLogger("tenfold")
    level = log.level
    result = CliRunner().invoke(app, ["--quiet", *shlex.split(case)[1:]])
    log.setLevel(level)
    assert result.exit_code == 2, (case, result.output, result.exception)
    assert result.stdout == ""
    return result.stderr.removeprefix("error: ").removesuffix("\n")


def files(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def line(case: str, text: str) -> str:
    """A row of the page."""
    return f"| `{case}` | {text.replace('|', chr(92) + '|').replace('*', chr(92) + '*')} |"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("mistakes"))
    yield prepared(Path.cwd())
    os.chdir(before)


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_gets_the_sentence_of_the_page_and_leaves_nothing(known: dict[str, Any], case: str) -> None:
    before = files(Path.cwd())
    text = said(case, known)
    assert re.fullmatch(r"[^\n]+[.?]", text)
    assert files(Path.cwd()) == before
    assert line(case, text) in PAGE.read_text().splitlines()


def test_the_page_has_these_cases_and_no_others() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == CASES
    assert len(CASES) >= 50


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = prepared(Path(folder))
        PAGE.write_text(HEAD + "\n".join(line(case, said(case, names)) for case in CASES) + "\n")
        sys.stdout.write(PAGE.read_text())
