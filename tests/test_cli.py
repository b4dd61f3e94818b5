"""The commands as a user meets them: what they print, leave, refuse, and how a run that was killed goes on."""

import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import tenfold
from tenfold.api import drop
from tenfold.cli import app
from tenfold.cli.border import layers_of
from tenfold.data import load_data
from tenfold.models import resolve
from tenfold.planning import Asked
from tenfold.protocols import TenfoldError
from tenfold.recovery import Machine

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, groups=24), nn.Flatten(),
        nn.Linear(96, 10),
    )
"""
DATA = """
import torch

class Own:
    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        y = torch.arange(96) % 10
        x = torch.randn(96, 1, 8, 8, generator=draw) * 0.5 + y.reshape(-1, 1, 1, 1) / 5
        labelled = list(zip(x.split(16), y.split(16)))
        self.train, self.inputs, self.validation, self.test = labelled, x.split(16), labelled[:2], labelled[2:4]

def own(): return Own()

def numbers():
    found = Own()
    found.train = found.test = [(x, torch.zeros(len(x), 10)) for x, _ in found.train]
    found.validation = ()
    return found
"""
OWN_WITHOUT_TEST = """
def own():
    found = Own()
    found.test = ()
    return found
"""
RUN = CliRunner()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "own.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def tenfold_(*arguments: str) -> Result:
    return RUN.invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments: str) -> str:
    """What was said of arguments that cannot work: one sentence, exit code 2, nothing on standard output."""
    result = tenfold_(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.replace("│", " ").split())


def document(*arguments: str) -> dict[str, Any]:
    """Standard output of `--json`, all of it."""
    result = tenfold_(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


# ---- the face
def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys, tenfold.cli\n"
        "from typer.testing import CliRunner\n"
        "for words in (['--help'], ['compress', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(tenfold.cli.app, words).exit_code == 0\n"
        "print([m for m in ('torch', 'numpy', 'safetensors', 'yaml', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_quiet_says_nothing_but_results_and_errors(place: Path) -> None:
    asked = "plan", "digits-cnn", "--params", "2x", "--format", "svd", "--overwrite"
    assert "drawn at random" in tenfold_(*asked).stderr
    quiet = tenfold_("--quiet", *asked)
    assert quiet.stderr == ""
    assert "Written to plan.yaml" in quiet.stdout
    assert "cannot be met" in tenfold_("--quiet", *asked, "--params", "1e6x").stderr
    assert "drawn at random" in tenfold_(*asked).stderr  # of one run only


def test_the_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "tenfold", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tenfold ")


@pytest.mark.parametrize("command", ["inspect", "plan", "compress", "train", "recover", "evaluate", "demo"])
def test_every_command_says_what_it_does(command: str) -> None:
    result = tenfold_(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert command in tenfold_("--help").stdout


def options(command: str) -> set[str]:
    found = next(c.callback for c in app.registered_commands if c.callback.__name__ == command)  # type: ignore[union-attr]
    return set(inspect.signature(found).parameters) - {"ctx"}


def test_python_and_the_command_line_have_the_same_names() -> None:
    """What differs is listed: what is given several times is in the singular, batches are named; live objects cannot be
    typed.
    """
    singular = {"inputs": "input", "layers": "layer", "calibration": "calibrate_data"}
    live = {"document", "settings", "watch", "state", "asked", "machine"}
    spread = set(Asked.__annotations__) | set(Machine.__annotations__)
    verb = set(inspect.signature(tenfold.compress).parameters) | spread
    wanted = {singular.get(name, name) for name in verb - live}
    extra = {"weights", "mean", "std", "batch_size", "batch_dim", "task", "trust_code", "out"}
    extra |= {"overwrite", "dry_run", "threads", "as_json", "recipe"}
    assert options("compress") == wanted | extra
    planning = {singular.get(name, name) for name in inspect.signature(tenfold.plan).parameters}
    assert planning - {"curves", "clock", "metrics", "watch", "quiet"} <= options("plan")
    training = set(inspect.signature(tenfold.recover).parameters) - {
        "small",
        "teacher",
        "state",
        "run",
        "watch",
        "options",
    }
    assert training <= options("recover")
    verb = set(inspect.signature(tenfold.train).parameters) | spread
    wanted = {singular.get(name, name) for name in verb - live}
    assert options("train") == wanted | extra - {"weights", "dry_run"}


# ---- inspect
GRAPH = """
import torch
from torch import nn


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x, edge_index):
        y = self.layer(x)
        return torch.zeros_like(y).index_add(0, edge_index[1], y[edge_index[0]])
"""


def test_the_batch_is_said(place: Path) -> None:
    (place / "graph.py").write_text(GRAPH)
    graph = ["graph.py:Graph", "--input", "x=5x16", "--input", "edge_index=2x4:int64", "--batch-dim", "none"]
    found = document("inspect", *graph)
    assert (found["batch"], found["macs"]) == (1, 5 * 16 * 16)
    assert "all of them count as one sample" in " ".join(tenfold_("inspect", *graph).stdout.split())
    result = tenfold_("compress", *graph, "--params", "1.2x", "--format", "svd", "--out", "small")
    assert "No batch is known in the inputs" in " ".join(result.stdout.split())
    first, whole = (
        document("inspect", "net.py:build", "--input", shape, "--batch-dim", batch)
        for shape, batch in (("1x8x8", "0"), ("1x1x8x8", "none"))
    )
    assert (first["macs"], first["inputs"]) == (whole["macs"], whole["inputs"])
    assert (first["sampling"], whole["batch"]) == ("", 1)
    assert "--batch-dim 'first' is no dimension; write 0, 1, .. or none." in refused(
        "inspect", "net.py:build", "--input", "1x8x8", "--batch-dim", "first"
    )
    assert "input '1x8x8' has no place for a batch at dimension 7; use 0 to 3." in refused(
        "inspect", "net.py:build", "--input", "1x8x8", "--batch-dim", "7"
    )


def test_inspect_shows_what_can_gain_and_why_not(place: Path) -> None:
    result = tenfold_("inspect", "net.py:build", "--input", "1x8x8")
    assert result.exit_code == 0
    for part in ["o24 i16 h3 w3", "all else", "whole", "3 of 4 layers can gain", "5: depthwise", "1 sample"]:
        assert part in result.stdout
    assert "No inputs" in tenfold_("inspect", "net.py:build").stdout


def test_inspect_measures_a_zoo_network_on_its_own_input(place: Path) -> None:
    found = document("inspect", "lenet5", "--profile", "kept")
    assert found["macs"] == 20 * 25 * 24 * 24 + 50 * 500 * 8 * 8 + 800 * 500 + 5000
    assert json.loads((place / "kept/profile.json").read_text())["macs"] == found["macs"]
    assert found["inputs"] == "shape 1x1x28x28 float32"


def test_inputs_by_name_and_type(place: Path) -> None:
    (place / "two.py").write_text(
        "from torch import nn\n"
        "class Two(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.e = nn.Embedding(9, 8); self.a = nn.Linear(8, 8); self.b = nn.Linear(4, 8)\n"
        "    def forward(self, ids, x): return self.a(self.e(ids)).mean(1) + self.b(x)\n"
    )
    found = document("inspect", "two.py:Two", "--input", "ids=5:int64", "--input", "x=4")
    assert found["macs"] == 5 * 64 + 32
    arguments = ["two.py:Two", "--input", "ids=5:int64", "--input", "x=4", "--params", "1.2x", "--format", "svd"]
    assert tenfold_("compress", *arguments, "--out", "two").exit_code == 0
    assert document("inspect", "two", "--trust-code")["macs"] is not None  # on inputs of the folder's own
    assert "ids = torch.zeros(1, 5, dtype=torch.int64)\nx = torch.rand(1, 4)" in (place / "two/README.md").read_text()


# ---- plan
def test_a_plan_is_written_edited_and_handed_back(place: Path) -> None:
    found = document("plan", "net.py:build", "--input", "1x8x8", "--params", "1.5x", "--format", "svd")
    assert found["ratio"]["params"] >= 1.5
    assert set(found) == {"schema", "ratio", "part", "layers"}
    plan = yaml.safe_load((place / "plan.yaml").read_text())
    assert plan["layers"]["3"]["format"] == "svd"
    plan["layers"]["3"] = {"format": "svd", "ranks": [5], "reason": "by hand"}
    plan["layers"]["7"] = {"format": "dense"}
    (place / "mine.yaml").write_text(yaml.safe_dump(plan))
    assert "exists; --overwrite" in refused("plan", "net.py:build", "--params", "1.5x")
    result = tenfold_("compress", "net.py:build", "--input", "1x8x8", "--plan", "mine.yaml", "--out", "small")
    assert result.exit_code == 0, result.output
    assert "by hand" in result.stdout
    row = next(row for row in json.loads((place / "small/report.json").read_text())["layers"] if row["name"] == "3")
    assert (row["format"], row["ranks"]) == ("svd", [5])
    plan["layers"]["33"] = plan["layers"].pop("3")
    (place / "mine.yaml").write_text(yaml.safe_dump(plan))
    said = refused("compress", "net.py:build", "--input", "1x8x8", "--plan", "mine.yaml", "--out", "other")
    assert "layer '33': the network has no such layer; did you mean" in said
    assert not (place / "other").exists()


FOREIGN = {
    "source": NET.encode(), "json": b'{"schema": 1, "epochs": 3}', "yaml": b"schema: 1\nservices: {}\n",
    "empty": b"", "bytes": bytes(range(256)), "list": b"[1, 2]", "text": b"schema and layers",
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_only_what_tenfold_wrote_is_replaced(place: Path, kind: str) -> None:
    """A network's source was replaced by a plan, and any curves.json deleted."""
    for name in ("mine", "kept/profile.json", "kept/curves.json"):
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(FOREIGN[kind])
        words = ["plan", "net.py:build", "--params", "1.5x", "--format", "svd", "--overwrite"]
        words += ["--out", "mine"] if name == "mine" else ["--out", "fresh.yaml", "--profile", "kept"]
        said = refused(*words)
        assert f"'{name}' was not written by tenfold, so it is never replaced; name another file" in said
        assert path.read_bytes() == FOREIGN[kind]
        assert not (place / "fresh.yaml").exists()
        path.unlink()


EXTRA = """
import torch
from torch import nn

class Extra(nn.Linear):
    def get_extra_state(self): return {"scale": 2}
    def set_extra_state(self, state): pass

def build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), Extra(64, 10))
"""


@pytest.mark.parametrize("verb", ["compress extra.py:build --params 1.5x", "train extra.py:build --data own.py:own"])
def test_what_cannot_be_stored_is_refused_before_any_work(
    place: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantised modules, and others with a state that is no tensor, were refused when all had been done."""
    (place / "extra.py").write_text(EXTRA)
    for work in ("compress", "train"):
        monkeypatch.setattr(f"tenfold.api.{work}", lambda *_, **__: pytest.fail("worked"))
    assert "'2._extra_state' is neither a parameter nor a buffer" in refused(*verb.split(), "--out", "small")
    assert not (place / "small").exists()


def test_the_plan_of_a_compressed_network_is_never_replaced(place: Path) -> None:
    """A plan written over it left a folder that could not be loaded any more."""
    assert tenfold_("compress", "net.py:build", "--params", "1.5x", "--out", "small").exit_code == 0
    before = (place / "small/plan.yaml").read_bytes()
    words = ["plan", "net.py:build", "--params", "2x", "--out", "small/plan.yaml"]
    for more in ([], ["--overwrite"]):
        assert "'small/plan.yaml' belongs to the network in its folder and is never replaced" in refused(*words, *more)
    assert (place / "small/plan.yaml").read_bytes() == before
    assert tenfold_("inspect", "small", "--trust-code").exit_code == 0


def test_what_tenfold_wrote_is_replaced_edited_or_not(place: Path) -> None:
    words = ["plan", "net.py:build", "--params", "1.5x", "--format", "svd", "--overwrite", "--profile", "kept"]
    assert tenfold_(*words).exit_code == 0
    plan = (place / "plan.yaml").read_text()
    (place / "plan.yaml").write_text("# my own words\n" + plan.replace("schema: 1", "schema: 2"))
    assert tenfold_(*words).exit_code == 0
    assert (place / "plan.yaml").read_text() == plan
    (place / "kept/curves.json").write_text('{"schema": 0, "weights_hash": "", "tails": {}}')  # of an earlier version
    assert tenfold_(*words).exit_code == 0
    assert json.loads((place / "kept/curves.json").read_text())["tails"]


def test_planning_again_reuses_the_profile(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ["plan", "lenet5", "--format", "svd,tt", "--profile", "kept"]
    first = document(*plan, "--params", "4x", "--macs", "1.5x", "--out", "a.yaml")
    assert {path.name for path in (place / "kept").iterdir()} == {"profile.json", "curves.json"}
    monkeypatch.setattr("tenfold.api.plan.inspect", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr("tenfold.planning.curves.tail_shares", lambda *_: pytest.fail("decomposed again"))
    assert document(*plan, "--params", "4x", "--macs", "1.5x", "--out", "b.yaml") == first
    document(*plan, "--params", "6x", "--out", "c.yaml")


def test_a_profile_of_another_input_is_not_used(place: Path) -> None:
    small = document("inspect", "net.py:build", "--input", "1x8x8", "--profile", "kept")
    large = document("inspect", "net.py:build", "--input", "1x8x8", "--profile", "kept")
    assert small == large
    (place / "conv.py").write_text("from torch import nn\ndef build(): return nn.Sequential(nn.Conv2d(1, 4, 3))\n")
    save_file({"0.weight": torch.ones(4, 1, 3, 3), "0.bias": torch.ones(4)}, place / "w.safetensors")
    arguments = ["inspect", "conv.py:build", "--weights", "w.safetensors", "--profile", "kept2", "--input"]
    assert document(*arguments, "1x8x8")["macs"] * 4 == document(*arguments, "1x14x14")["macs"]


def test_layers_are_split_at_the_last_equals_sign_outside_brackets() -> None:
    assert layers_of(["fc=svd:16", "re:a=b=tt(layout=split):8,4", "x.*=dense", "c=ht2(window=w h)"]) == {
        "fc": "svd:16",
        "re:a=b": "tt(layout=split):8,4",
        "x.*": "dense",
        "c": "ht2(window=w h)",
    }
    for wrong in ("fc", "=svd", "fc="):
        with pytest.raises(TenfoldError, match="is not PATTERN=FORMAT"):
            layers_of([wrong])


# ---- compress
def test_compress_without_data(place: Path) -> None:
    result = tenfold_("compress", "net.py:build", "--params", "1.5x", "--out", "small")
    assert result.exit_code == 0, result.output
    for part in ["kept", "times fewer parameters", "tenfold.load('small', trust_code=True)", "depthwise"]:
        assert part in result.stdout
    report = json.loads((place / "small/report.json").read_text())
    assert report["recovered"] is None
    assert report["dense"]["macs"] is None
    assert report["ratio"]["params"] >= 1.5
    assert "exists; --overwrite" in refused("compress", "net.py:build", "--params", "1.5x", "--out", "small")
    again = ["compress", "net.py:build", "--params", "2x", "--format", "svd", "--out", "small", "--overwrite"]
    assert tenfold_(*again).exit_code == 0
    assert "trust_code=True" in refused("evaluate", "small")
    assert "compressed already" in refused("compress", "small", "--trust-code", "--params", "2x", "--out", "smaller")
    found = document("evaluate", "small", "net.py:build", "--trust-code", "--input", "1x8x8")
    assert list(found["networks"]) == ["small", "net.py:build"]
    assert found["networks"]["small"]["params"] < found["networks"]["net.py:build"]["params"]


@pytest.mark.parametrize("parent", [False, True])
def test_a_network_takes_its_neighbours_along(place: Path, parent: bool) -> None:
    """The line printed as the next step works from another directory, with the sources gone."""
    source = place / "source"
    (source / "parts").mkdir(parents=True)
    (source / "parts/__init__.py").touch()
    (source / "parts/blocks.py").write_text(NET + "\nfrom parent import WIDTH\n" * parent)
    (source / "net.py").write_text("from parts.blocks import build\n")
    (place / "parent.py").write_text("WIDTH = 3\n")
    words = ["train", "source/net.py:build", "--data", "own.py:own", "--epochs", "1", "--out", "dense"]
    if parent:  # found where the process was started
        done = subprocess.run([sys.executable, "-m", "tenfold", *words], cwd=place, capture_output=True, text=True)
        assert done.returncode == 2
        assert "imports 'parent' from" in done.stderr
        assert "epoch" not in done.stderr
        assert not (place / "dense").exists()
        return
    result = tenfold_(*words)
    assert result.exit_code == 0, result.output
    written = json.loads((place / "dense/model.json").read_text())["files"]
    assert {name for name in written if name.startswith("code/")} == {
        "code/net.py", "code/parts/__init__.py", "code/parts/blocks.py",
    }  # fmt: skip
    assert (
        "runs `code/net.py`, `code/parts/__init__.py`, `code/parts/blocks.py`; read them first."
        in (place / "dense/README.md").read_text()
    )
    shutil.rmtree(source)
    other = place / "other"
    other.mkdir()
    shutil.move(place / "dense", other / "dense")
    printed = next(line for line in result.stdout.splitlines() if line.startswith("Next: tenfold"))
    words = [sys.executable, "-m", *printed.removeprefix("Next: ").replace("4x", "1.5x --format svd").split()]
    done = subprocess.run(words, cwd=other, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (other / "small/code/parts/blocks.py").read_text() == NET
    assert not list(other.rglob("*.pyc"))
    (other / "small/code/parts/blocks.py").write_text(NET + "# edited\n")
    with pytest.raises(TenfoldError, match=r"blocks\.py' is not the file that was saved"):
        tenfold.load(other / "small", trust_code=True)


def test_a_dry_run_writes_nothing_and_promises_what_comes(place: Path) -> None:
    before = files(place)
    asked = ["compress", "net.py:build", "--input", "1x8x8", "--params", "1.5x", "--macs", "1.3x", "--format", "svd"]
    found = document(*asked, "--dry-run")
    shown = tenfold_(*asked, "--dry-run", "--out", "small")
    assert "x fewer" in shown.stdout
    assert files(place) == before
    made = document(*asked, "--out", "small")
    assert made["ratio"]["params"] == found["ratio"]["params"]
    assert made["ratio"]["macs"] == found["ratio"]["macs"]


@pytest.mark.parametrize("command", ["compress", "train"])
def test_a_folder_holds_the_recipe_by_which_it_is_made_again(place: Path, command: str) -> None:
    asked = [command, "net.py:build", "--data", "own.py:own", "--params", "1.5x", "--format", "svd", "--epochs", "1"]
    assert tenfold_(*asked, "--exclude", "7", "--batch-size", "16", "--out", "one").exit_code == 0
    again = tenfold_(command, "--recipe", "one/recipe.yaml", "--out", "two")
    assert again.exit_code == 0, again.output
    assert (place / "two/recipe.yaml").read_bytes() == (place / "one/recipe.yaml").read_bytes()
    one, two = (tenfold.storage.read_plan(place / name).rows for name in ("one", "two"))
    assert {name: row.ranks for name, row in one.items()} == {name: row.ranks for name, row in two.items()}
    given = tenfold_(command, "--recipe", "one/recipe.yaml", "--seed", "3", "--params", "1.2x", "--out", "three")
    assert given.exit_code == 0, given.output
    lines = dict(line.split(": ", 1) for line in (place / "three/recipe.yaml").read_text().splitlines())
    assert (lines["seed"], lines["params"], lines["exclude"]) == ("3", "1.2x", "['7']")
    assert "out" not in lines


def test_a_recipe_is_checked_before_any_work(place: Path) -> None:
    for text, words in {
        "parms: 4x": "'r.yaml': tenfold compress has no option 'parms'; did you mean 'params'",
        "- params": "'r.yaml': it is no recipe",
        "params: [": "'r.yaml': not a YAML file",
        "params: 2x\nepochs: many": "'r.yaml': 'epochs' is 'many': Input should be a valid integer",
        "out: small": "'out' is no part of a recipe; type it",
        "params: [4x]": "'params' is ['4x'], where one value belongs",
    }.items():
        (place / "r.yaml").write_text(text)
        result = tenfold_("compress", "net.py:build", "--recipe", "r.yaml", "--out", "small")
        assert result.exit_code == 2
        assert words in result.stderr.replace("\n", " ")
        assert not (place / "small").exists()


def test_json_is_the_report_and_all_else_is_elsewhere(place: Path) -> None:
    result = tenfold_("-v", "compress", "net.py:build", "--data", "own.py:own", "--params", "1.5x", "--epochs", "1",
                      "--out", "small", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((place / "small/report.json").read_text())
    keys = "schema dense compressed recovered ratio part layers settings planned course"
    assert set(report) == {*keys.split()}
    assert report["recovered"]["score"]["name"] == "top-1"
    assert (report["settings"]["data"], report["settings"]["params"]) == ("own.py:own", "1.5x")
    assert report["settings"]["inputs"] == [[1, 8, 8]]
    assert "epoch" not in result.stderr  # no bar where there is no terminal
    assert "parameters" in result.stderr  # log.info, by -v
    assert not (place / "small/state").exists()
    model = json.loads((place / "small/model.json").read_text())
    assert model["input"] == {"x": [1, 8, 8]}


def test_normalisation_is_kept_restored_and_overridden(place: Path) -> None:
    net = ["compress", "digits-cnn", "--data", "digits"]
    asked = [*net, "--params", "2x", "--calibrate", "0", "--no-bn", "--format", "svd", "--out"]
    result = tenfold_(*asked, "a")
    assert "mean 0.3053, std 0.376" in result.stderr
    assert "no trained weights" in result.stderr
    assert json.loads((place / "a/model.json").read_text())["normalisation"] == {"mean": [0.3053], "std": [0.376]}
    own = tenfold_("evaluate", "a", "--data", "digits")
    assert "mean 0.3053" in own.stderr
    assert (
        "mean 0.5, std 0.25" in tenfold_("evaluate", "a", "--data", "digits", "--mean", "0.5", "--std", "0.25").stderr
    )
    tenfold_(*asked, "b", "--mean", "0.5", "--std", "0.25")
    assert "mean 0.5, std 0.25" in tenfold_("evaluate", "b", "--data", "digits").stderr


# ---- recover
def test_recover_replaces_the_folder_and_scores_it_anew(place: Path) -> None:
    tenfold_("compress", "net.py:build", "--data", "own.py:own", "--params", "1.5x", "--no-bn", "--out", "small")
    before = json.loads((place / "small/report.json").read_text())
    old = load_file(place / "small/model.safetensors")
    torch.save(nn_state(place), place / "w.pt")
    found = document(
        "recover", "small", "--data", "own.py:own", "--epochs", "2", "--lr", "0.05", "--distill", "0.3", "--weights",
        "w.pt", "--trust-code",
    )  # fmt: skip
    assert found == json.loads((place / "small/report.json").read_text())
    assert found["dense"] == before["dense"]
    assert found["recovered"]["params"] == before["compressed"]["params"]
    assert before["recovered"]["elsewhere"]
    assert found["recovered"]["elsewhere"] == {}  # nobody measured the new network there
    assert found["settings"]["recover"][0]["epochs"] == 2
    new = load_file(place / "small/model.safetensors")
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert not (place / "small/state").exists()
    scored = document("evaluate", "small", "--data", "own.py:own", "--trust-code")["networks"]["small"]["score"]
    assert scored == found["recovered"]["score"]


def test_a_task_says_how_data_is_judged(place: Path) -> None:
    given = ["--data", "own.py:numbers", "--task", "regression"]
    found = document(
        "compress", "net.py:build", *given, "--params", "2x", "--format", "svd", "--epochs", "1", "--out", "o"
    )
    assert (found["settings"]["task"], found["settings"]["distill"]) == ("regression", 0.0)
    assert (found["dense"]["score"]["name"], found["dense"]["score"]["higher_is_better"]) == (
        "mean squared error",
        False,
    )
    (error,) = found["recovered"]["outputs"].values()
    assert error["relative_error"] > 0
    assert error["agreement"] is error["axis"] is None  # the largest of several numbers that are no classes
    judged = document("evaluate", "net.py:build", *given)["networks"]["net.py:build"]["score"]
    assert judged == found["dense"]["score"]
    said = tenfold_("evaluate", "net.py:build", *given).stdout
    assert "Judged on the test split." in said
    again = document("recover", "o", *given, "--trust-code", "--epochs", "1")
    assert again["recovered"]["score"]["value"] < found["recovered"]["score"]["value"]


def test_evaluate_says_that_nothing_is_judged_without_a_test_split(place: Path) -> None:
    (place / "own.py").write_text(DATA.replace("def own(): return Own()", OWN_WITHOUT_TEST))
    said = tenfold_("evaluate", "net.py:build", "--data", "own.py:own").stdout
    assert "The data has no test split, so nothing was judged." in said
    assert "top-1" not in said


def nn_state(place: Path) -> dict[str, torch.Tensor]:
    scope: dict[str, Any] = {}
    exec(NET, scope)
    model: nn.Module = scope["build"]()
    return dict(model.state_dict())


def test_a_frontier_is_printed_and_drawn_and_is_made_of_plans(place: Path) -> None:
    words = ["plan", "net.py:build", "--format", "svd", "--data", "own.py:own", "--profile", "kept", "--params", "3x"]
    shown = tenfold_(*words, "--frontier", "--out", "curve.svg")
    assert shown.exit_code == 0, shown.output
    assert "foreseen relative error of the outputs" in shown.stdout
    assert "Drawn in curve.svg" in shown.stdout
    assert (place / "curve.svg").read_bytes().startswith(b"<?xml")
    assert not (place / "plan.yaml").exists()
    written = json.loads(tenfold_(*words, "--frontier", "--json").stdout)
    assert [row["asked"] for row in written["rows"]] == [{"params": ratio} for ratio in (1.25, 1.5, 2, 2.5, 3)]
    for row in written["rows"]:
        assert f"{row['ratio']['params']:.2f}x  {row['error']:.3f}" in shown.stdout
    plan = json.loads(tenfold_(*words, "--json").stdout)
    assert plan["ratio"] == written["rows"][-1]["ratio"]
    assert "exists; --overwrite replaces it" in refused(*words, "--frontier", "--out", "curve.svg")


# ---- what is refused
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("inspect resnet2", "did you mean 'resnet32'"),
        ("inspect net.py:biuld", "no function 'biuld'; did you mean 'build'?"),
        ("inspect nett.py:build", "there is no file 'nett.py'"),
        ("inspect .", "a folder, but not one that tenfold wrote"),
        ("inspct net.py:build", "Did you mean 'inspect'"),
        ("inspect net.py:build --input 1*8", "write 3x224x224"),
        ("inspect net.py:build --input 1x8x8:int65", "there is no 'int65'"),
        ("inspect net.py:build --input 1x8", "cannot run on inputs of shape"),
        ("plan net.py:build", "nothing was asked for"),
        ("plan net.py:build --params 4x --energy 0.5", "--params, --energy exclude each other"),
        ("plan net.py:build --macs 4x", "a budget on macs needs inputs"),
        ("plan net.py:build --params 4y", "params '4y' is no budget"),
        ("plan net.py:build --params 4x --format tuker", "did you mean 'tucker'"),
        ("plan net.py:build --params 4x --format con=svd", "no kind of layer is called 'con'"),
        ("plan net.py:build --params 4x --exclude 33", "no layer matches '33'"),
        ("plan net.py:build --params 4x --layer 3=svdd:4", "did you mean 'svd'"),
        ("plan net.py:build --params 4x --allocation even", "is none of 'global', 'clipped', 'uniform'"),
        ("plan net.py:build --params 400x", "the largest reachable ratio"),
        ("plan net.py:build --params 2x --out .", "'.' is a folder; name a file"),
        ("plan net.py:build --frontier --macs 2x", "a budget on macs needs inputs"),
        ("plan net.py:build --frontier --params 4x --out curve.gif", "ends in .png or .svg"),
        ("plan net.py:build --frontier --params 4x --out net.py", "ends in .png or .svg"),
        ("plan net.py:build --frontier --energy 0.5", "a frontier goes through budgets"),
        ("plan net.py:build --frontier --params 4x --batch 8", "--batch times the stages of one plan"),
        ("plan net.py:build --frontier --params 400y", "params '400y' is no budget"),
        ("compress net.py:build --params 2x", "nowhere to write; give --out FOLDER"),
        ("compress net.py:build --params 2x --out net.py", "is a file; name a folder"),
        ("compress net.py:build --params 2x --out .", "was not written by tenfold"),
        ("compress net.py:build --params 2x --out o --epochs 1", "needs data to train on"),
        ("compress net.py:build --params 2x --out o --epochs -1", "--epochs"),
        ("compress net.py:build --params 2x --out o --seed -1", "--seed"),
        ("compress net.py:build --params 2x --out o --threads 0", "--threads"),
        ("compress net.py:build --params 2x --out o --distill 0.5", "give epochs, too"),
        ("compress net.py:build --max-drop 0 --data digits --out o", "max_drop=0.0 is no number of points above 0"),
        ("compress net.py:build --max-drop 1 --data digits --dry-run", "--dry-run has nothing to show"),
        ("compress net.py:build --max-drop 1 --data digits --objective tme --out o", "did you mean 'time'"),
        ("compress net.py:build --max-drop 1 --params 2x --data digits --out o", "leave params out"),
        ("compress net.py:build --max-drop 1 --out o", "max_drop judges networks on data"),
        ("compress net.py:build --max-drop 1 --data digits --epochs 1 --out o", "leave epochs=1 out"),
        ("compress net.py:build --params 2x --objective time --out o", "says what max_drop gains; give max_drop, too"),
        ("compress net.py:build --params 2x --objective tme --dry-run", "says what max_drop gains; give max_drop, too"),
        ("compress net.py:build --params 2x --data digits --memory much --out o", "'much' is no size of memory"),
        ("compress net.py:build --params 2x --out o --data own.py:own --epochs 1 --lr 0", "lr=0.0"),
        ("compress net.py:build --params 2x --out o --device gpu", "there is no device 'gpu'"),
        ("compress net.py:build --params 2x --out o --device cuda:99", "torch finds"),
        ("compress net.py:build --params 2x --out o --plan p.yaml", "a plan was given and params too"),
        ("compress net.py:build --out o --plan p.yaml", "'p.yaml' cannot be read: it is not there"),
        ("compress net.py:build --params 2x --out o --data digit", "did you mean 'digits'"),
        ("compress net.py:build --params 2x --out o --data cifar10", "write cifar10:DIR"),
        ("compress net.py:build --params 2x --out o --data own.py:own --task segments", "did you mean 'segmentation'"),
        (
            "compress net.py:build --params 2x --out o --data own.py:numbers --task regression --epochs 1 --distill 1",
            "distillation compares classes, and task 'regression' has none",
        ),
        ("evaluate net.py:build --task regression", "--task regression says what data is for; give --data, too"),
        ("evaluate net.py:build --data own.py:numbers", "choose task='regression'"),
        ("compress net.py:build --params 2x --out o --mean a", "--mean 'a' is no list of numbers"),
        ("compress net.py:build --params 2x --out o --mean 0.5", "give --mean and --std"),
        ("compress net.py:build --params 2x --out o --mean 0,0 --std 1", "--mean has 2 channels and --std 1"),
        ("compress net.py:build --params 2x --out o --layer foo", "--layer 'foo' is not PATTERN=FORMAT"),
        ("compress net.py:build --params 2x --out o --weights w.pt", "there is no such file of weights"),
        ("compress net.py:build --param 2x --out o", "--params"),
        ("evaluate net.py:build net.py:build", "named twice"),
        ("evaluate lenet5 net.py:build --weights w.pt", "--weights is for one dense network"),
        ("recover net.py:build --data digits", "not a folder that tenfold wrote"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_leaves_nothing(place: Path, arguments: str, words: str) -> None:
    before = files(place)
    said = refused(*arguments.split())
    assert words in said
    assert "Traceback" not in said
    assert files(place) == before


def test_a_bug_is_not_hidden(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("a bug of ours")

    monkeypatch.setattr("tenfold.api.plan.inspect", fails)
    with pytest.raises(ValueError, match="a bug of ours"):
        tenfold_("inspect", "net.py:build")


# ---- runs that are stopped
def command(out: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "tenfold", "compress", "net.py:build", "--data", "digits", "--params", "1.5x",
        "--batch-size", "32", "--epochs", "3", "--format", "svd", "--threads", "1", "--out", out, *more,
    ]  # fmt: skip


def hear_the_keyboard() -> None:
    """Jobs in the background ignore SIGINT, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(place: Path, how: signal.Signals, words: list[str] | None = None) -> subprocess.Popen[str]:
    """A run that got this signal once a step or a block was kept."""
    running = subprocess.Popen(
        words or command("cut"), cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=hear_the_keyboard,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(place.glob("cut/state/[bs]*[0-9s]")) and time.monotonic() < end and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(how)
    return running


def unlaid(folder: Path) -> list[str]:
    """The plan of a folder, but for the layout, which the clock chose."""
    lines = (folder / "plan.yaml").read_text().splitlines()
    return [line for line in lines if not line.startswith("layout:")]


def test_a_killed_run_goes_on_where_it_was(place: Path) -> None:
    stopped(place, signal.SIGKILL).communicate()
    assert {path.name for path in (place / "cut").iterdir()} == {"state"}
    assert "of a run that differs in plan;" in refused(*command("cut", "--layer", "7=dense")[3:])
    assert tenfold_(*command("cut")[3:]).exit_code == 0
    assert tenfold_(*command("whole")[3:]).exit_code == 0
    assert (place / "cut/model.safetensors").read_bytes() == (place / "whole/model.safetensors").read_bytes()
    assert unlaid(place / "cut") == unlaid(place / "whole")
    assert not (place / "cut/state").exists()


KILLED = """
import contextlib, json, math, os, signal, sys
from tenfold.cli import app, screen
from tenfold.statistics import begun

begun.EVERY, begun.SHARE = 0.0, math.inf  # sums are kept after every chunk
kills, words = json.loads(sys.argv[1]), sys.argv[2:]

def dying(own, title, last):
    @contextlib.contextmanager
    def bar():
        with own() as watch:
            yield lambda steps: killing(watch(steps), title, last)
    return bar

def killing(steps, title, last):
    for step in steps:
        if step.title.startswith(title) and step.step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        yield step

for title, last, kept in kills:
    child = os.fork()  # what is imported need not be imported again
    if not child:
        screen.bar = dying(screen.bar, title, last)
        app(words)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, title
    assert os.path.exists(kept), title
"""
KILLS = [  # in which part, the last step that is survived, and what is kept by then
    ("statistics", 2, "kept/statistics.begun-0.safetensors"),
    ("decompose", 0, "kept/statistics.safetensors"),
    ("block", 2, "cut/state/blocks.safetensors"),
    ("all blocks", 3, "cut/state/blocks.safetensors"),
    ("distillation", 2, "cut/state/blocks.safetensors"),
]


def test_a_run_that_is_killed_in_every_step_ends_with_the_same_weights(place: Path) -> None:
    words = ["--params", "2.5x", "--epochs", "0", "--calibrate", "96", "--distil", "4", "--profile"]
    arguments = [json.dumps(KILLS), *command("cut", *words, "kept")[3:]]
    run = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=place, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert tenfold_(*command("cut", *words, "kept")[3:]).exit_code == 0
    assert tenfold_(*command("whole", *words, "other")[3:]).exit_code == 0
    assert (place / "cut/model.safetensors").read_bytes() == (place / "whole/model.safetensors").read_bytes()
    assert unlaid(place / "cut") == unlaid(place / "whole")
    assert files(place / "kept") == files(place / "other")
    assert not (place / "cut/state").exists()


def test_a_search_that_finds_nothing_says_how_to_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drop, "NEAR", 10.0)
    monkeypatch.setattr(drop.Search, "loss", lambda *_: 5.0)
    words = "compress net.py:build --data own.py:own --calibrate 32 --no-reconstruct --format svd --out cut --max-drop"
    said = refused(*words.split(), "2")
    assert "What was done is kept in cut/state: once that is mended, the command goes on after the last" in said
    assert "allow more (what was tried is kept, and not judged again)" in said
    monkeypatch.setattr(drop.Search, "judged", lambda *_: pytest.fail("made again"))
    monkeypatch.setattr(drop, "GROWTH", 1e9)
    assert tenfold_(*words.split(), "6").exit_code == 0
    assert {path.name for path in (place / "cut").iterdir()} >= {"model.safetensors", "plan.yaml"}
    assert not (place / "cut/state").exists()


def test_a_stop_by_the_keyboard_says_how_to_go_on(place: Path) -> None:
    run = stopped(place, signal.SIGINT)
    _, said = run.communicate()
    assert run.returncode == 130
    assert "the same command goes on after the last step, block or" in said
    assert f"tenfold {shlex.join(command('cut')[3:])}" in said
    assert "Traceback" not in said


DYING = """
import os, signal, torch

class Dying:
    \"\"\"Test batches, the second of which kills whoever reads it, once the file `kill` is there.\"\"\"

    def __init__(self, batches): self.batches = batches
    def __len__(self): return len(self.batches)
    def __iter__(self):
        for k, batch in enumerate(self.batches):
            if k and os.path.exists("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if k and os.path.exists("fail"):
                raise ValueError("cannot read")
            yield batch

def own():
    from own import Own
    found = Own()
    found.test = Dying(found.test)
    return found
"""
COMMANDS = {
    "train": ["train", "net.py:build", "--format", "svd", "--ranks", "4"],
    "compress": ["compress", "net.py:build", "--format", "svd", "--params", "1.5x"],
    "recover": ["recover", "cut", "--trust-code"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_finished_training_survives_all_that_comes_after_it(place: Path, verb: str) -> None:
    """Killed while the test set is read, then stopped by an error there: no epoch is trained again."""
    (place / "dying.py").write_text(DYING)
    if verb == "recover":
        assert tenfold_(*COMMANDS["compress"], "--out", "cut").exit_code == 0
        shutil.copytree(place / "cut", place / "whole")
    words = [*COMMANDS[verb], "--data", "dying.py:own", "--epochs", "2", "--threads", "1"]
    words += [] if verb == "recover" else ["--out", "cut"]
    (place / "kill").touch()
    run = subprocess.run([sys.executable, "-m", "tenfold", *words], cwd=place, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [path.name for path in (place / "cut/state").iterdir()] == ["step-12"]
    (place / "kill").rename(place / "fail")
    with pytest.raises(ValueError, match="cannot read"):
        tenfold_(*words)
    (place / "fail").unlink()
    result = tenfold_(*words)
    assert result.exit_code == 0, result.output
    assert "epoch" not in result.stderr  # the bar of a training
    assert not (place / "cut/state").exists()
    assert not list(place.glob(".*.lock"))
    assert tenfold_(*["whole" if word == "cut" else word for word in words]).exit_code == 0
    assert (place / "cut/model.safetensors").read_bytes() == (place / "whole/model.safetensors").read_bytes()


def test_the_checkpoints_of_another_command_do_not_vanish(place: Path) -> None:
    stopped(place, signal.SIGKILL, [sys.executable, "-m", "tenfold", *training("cut", "--epochs", "60")]).communicate()
    before = files(place / "cut")
    small = ["compress", "net.py:build", "--data", "own.py:own", "--params", "1.5x", "--out", "cut"]
    for more in ([], ["--epochs", "1"]):
        said = refused(*small, *more)
        assert "'cut/state' keeps step" in said
        assert "of a run of 'train'" in said
        assert "repeat that command, delete the folder to give it up, or name another place" in said
        assert files(place / "cut") == before - {"state/lock"}  # the dead run's


def test_a_second_run_on_a_folder_is_refused_at_its_start(place: Path) -> None:
    words = [sys.executable, "-m", "tenfold", *training("cut", "--epochs", "2000")]
    first = stopped(place, signal.SIGCONT, words)
    for second in (training("cut"), ["compress", "net.py:build", "--params", "1.5x", "--out", "cut"]):
        said = refused(*second)
        assert f"another run (process {first.pid} on " in said
        assert "is writing 'cut'; wait until it has ended, or name another folder" in said
    first.kill()
    first.communicate()
    other = ["compress", "net.py:build", "--params", "1.5x", "--format", "svd", "--out", "other"]
    assert tenfold_(*other).exit_code == 0
    shutil.rmtree(place / "cut/state")
    assert tenfold_(*training("cut")).exit_code == 0  # a dead run holds nothing
    assert not list(place.glob(".*.lock"))


# ---- train
def training(out: str, *more: str) -> list[str]:
    return ["train", "net.py:build", "--data", "own.py:own", "--epochs", "3", "--lr", "0.02", "--out", out, *more]


def test_a_network_trained_dense_is_one_for_the_other_commands(place: Path) -> None:
    found = document(*training("dense"))
    assert (found["ratio"]["params"], found["recovered"]) == (1, None)
    assert found["compressed"]["score"]["value"] > 50  # ten classes
    assert [row["rel_error"] for row in found["layers"]] == [None] * 4
    assert files(place / "dense") >= {"model.safetensors", "plan.yaml", "report.json", "README.md"}
    assert "A trained PyTorch network, dense." in (place / "dense/README.md").read_text()
    scored = document("evaluate", "dense", "--data", "own.py:own", "--trust-code")["networks"]["dense"]["score"]
    assert scored == found["compressed"]["score"]
    small = ["--data", "own.py:own", "--params", "1.5x", "--format", "svd", "--no-bn", "--out"]
    first = document("compress", "net.py:build", "--weights", "dense/model.safetensors", *small, "first")
    second = document("compress", "dense", "--trust-code", *small, "second")
    assert first["dense"]["score"] == second["dense"]["score"] == found["compressed"]["score"]
    assert (place / "first/model.safetensors").read_bytes() == (place / "second/model.safetensors").read_bytes()


@pytest.mark.parametrize("init", ["dense", "cores"])
def test_a_network_is_trained_in_cores(place: Path, init: str) -> None:
    found = document(*training("cores", "--format", "svd", "--params", "2x", "--init", init, "--epochs", "10"))
    assert found["ratio"]["params"] >= 2
    assert found["dense"]["score"] is None
    assert found["compressed"]["score"]["value"] > 50
    assert (found["settings"]["init"], found["settings"]["epochs"]) == (init, 10)
    scored = document("evaluate", "cores", "--data", "own.py:own", "--trust-code")["networks"]["cores"]["score"]
    assert scored == found["compressed"]["score"]
    assert "is compressed already" in refused("compress", "cores", "--trust-code", "--params", "2x", "--out", "small")


def test_python_trains_the_same_network(place: Path) -> None:
    document(*training("cores", "--format", "svd", "--params", "2x"))
    model = resolve("net.py:build").function()
    result = tenfold.train(model, load_data("own.py:own"), format="svd", params="2x", epochs=3, lr=0.02)
    for name, value in load_file(place / "cores/model.safetensors").items():
        assert torch.equal(result.model.state_dict()[name], value)


def test_a_plan_by_hand_is_trained(place: Path) -> None:
    (place / "mine.yaml").write_text("schema: 1\nlayers: {'7': {format: svd, ranks: [4]}}\n")
    found = document(*training("cores", "--plan", "mine.yaml"))
    assert [row["ranks"] for row in found["layers"] if row["format"] == "svd"] == [[4]]


def test_what_is_trained_shows_a_score_and_what_to_do_next(place: Path) -> None:
    said = tenfold_(*training("dense")).stdout
    assert "top-1" in said
    assert "tenfold compress dense --trust-code --params 4x --out small" in said
    said = tenfold_(*training("cores", "--format", "svd", "--ranks", "4")).stdout
    assert "against" not in said
    assert "tenfold.load('cores', trust_code=True)" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--params", "4x"], "params is for weights in cores, and no format is given; give one, such as --format tt"),
        (["--format", "tt"], "nothing was asked for; give a budget"),
        (["--format", "tt", "--ranks", "4", "--init", "corse"], "no init is called 'corse'; did you mean 'cores'?"),
        (["--format", "tt", "--ranks", "4", "--plan", "p.yaml"], "a plan was given and ranks, format too"),
        (["--epochs", "0"], "cannot train with epochs=0"),
        (["--lr", "nan"], "cannot train with epochs=3 and lr=nan"),
    ],
)
def test_what_cannot_be_trained_gets_a_sentence(place: Path, options: list[str], words: str) -> None:
    assert words in refused(*training("out", *options))
    assert not (place / "out").exists()


def test_training_wants_an_architecture_data_and_a_place(place: Path) -> None:
    assert "give --data" in refused("train", "net.py:build", "--out", "out")
    assert "give --out FOLDER" in refused("train", "net.py:build", "--data", "own.py:own")
    tenfold_(*training("dense"))
    assert "'dense' is trained already; name its architecture" in refused(
        "train", "dense", "--data", "own.py:own", "--out", "out"
    )
    assert "exists; --overwrite" in refused(*training("dense"))


def test_a_killed_training_goes_on_where_it_was(place: Path) -> None:
    more = ["--epochs", "20", "--format", "svd", "--ranks", "4", "--threads", "1"]
    stopped(place, signal.SIGKILL, [sys.executable, "-m", "tenfold", *training("cut", *more)]).communicate()
    assert {path.name for path in (place / "cut").iterdir()} == {"state"}
    assert "of a run that differs in init (dense, now cores);" in refused(*training("cut", *more, "--init", "cores"))
    assert tenfold_(*training("cut", *more)).exit_code == 0
    assert tenfold_(*training("whole", *more)).exit_code == 0
    assert (place / "cut/model.safetensors").read_bytes() == (place / "whole/model.safetensors").read_bytes()
    assert not (place / "cut/state").exists()


# ---- the demo
@pytest.mark.slow
def test_the_demo_is_the_main_job(place: Path) -> None:
    result = tenfold_("demo")
    assert result.exit_code == 0, result.output
    assert "times fewer parameters" in result.stdout
    report = json.loads((place / "tenfold-demo/report.json").read_text())
    assert report["ratio"]["params"] >= 10
    assert report["dense"]["score"]["value"] > 97
    assert report["recovered"]["score"]["value"] > report["dense"]["score"]["value"] - 2
    tenfold.load(place / "tenfold-demo")


def test_the_demo_never_replaces_what_is_not_its_own(place: Path) -> None:
    tenfold_("compress", "net.py:build", "--params", "1.5x", "--format", "svd", "--out", "small")
    assert "exists; --overwrite" in refused("demo", "--out", "small")
    assert "was not written by tenfold" in refused("demo", "--out", ".")


@pytest.mark.parametrize(
    ("missing", "words"), [("sklearn.datasets", "tenfold[demo]"), ("accelerate", "tenfold[train]")]
)
def test_the_demo_says_which_extra_is_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: str
) -> None:
    if missing == "accelerate":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "accelerate" else 1)
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    assert words in refused("demo")
    assert not os.path.exists("tenfold-demo")


# ---- completion in a shell
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("tenfold comp", {"compress"}),
        ("tenfold inspect resnet2", {"resnet20"}),
        ("tenfold inspect tim", {"timm:"}),
        ("tenfold inspect net", set()),  # a file: the shell's own matter
        ("tenfold compress x --format svd,tucker", {"svd,tucker", "svd,tucker2"}),
        ("tenfold plan x --format conv=stt", {"conv=stt", "conv=sttu"}),
        ("tenfold plan x --layer fc=den", {"fc=dense"}),
        ("tenfold train x --data fash", {"fashion-mnist:"}),
        ("tenfold compress x --task mul", {"multi-label"}),
    ],
)
def test_a_shell_completes_names(typed: str, found: set[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    result = RUN.invoke(app, [], env={"_TENFOLD_COMPLETE": "complete_bash", **words}, prog_name="tenfold")
    assert {*result.stdout.split()} == found
