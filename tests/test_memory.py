"""Memory that a run will take is foretold; a run that cannot have it is refused, and one that can keeps to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tenfold
from tenfold.api import foretold as foretelling
from tenfold.api.calibrate import Calibration
from tenfold.api.foretold import Foretold, foretold
from tenfold.api.recover import Training
from tenfold.cli import app
from tenfold.inputs import inputs_for
from tenfold.protocols import TenfoldError
from tenfold.surgery import room

NET = """
from torch import nn

def build(): return nn.Sequential(nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 9))
"""
DATA = """
import tenfold, torch

def own():
    batches = [(torch.rand(32, 384), torch.arange(32) % 9) for _ in range(2)]
    return tenfold.Data(batches, [x for x, _ in batches], batches, batches)
"""
# a run is refused under a limit on addresses that is too low; under one of what it is said to take it ends
LIMITED = """
import re, resource, sys
from typer.testing import CliRunner
from tenfold.cli import app
from tenfold.surgery.room import table

def run(bytes):
    used = 1024 * table(Path("/proc/self/status"))["VmSize"]
    resource.setrlimit(resource.RLIMIT_AS, (used + bytes, resource.RLIM_INFINITY))
    return CliRunner().invoke(app, ["compress", "net.py:build", "--data", "own.py:own", "--params", "2x", "--format",
                                    "svd", "--threads", "1", "--out", "o", *sys.argv[1:]])

from pathlib import Path
import tenfold.api, tenfold.cli.border  # what every run imports
refused = run(150_000_000)
assert refused.exit_code == 2, refused.output
assert not Path("o").exists()
said = re.search(r"up to ([\\d.]+) GB of memory, .* and this process can have [\\d.e-]+ GB; ", refused.stderr)
assert said, refused.stderr
done = run(int(1.05e9 * float(said[1])))  # what reading the network takes is not of the run
assert done.exit_code == 0, done.output
assert (Path("o") / "model.safetensors").exists()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits on addresses are Linux's")
@pytest.mark.parametrize(
    "options",
    [
        ["--calibrate", "0"],
        pytest.param(["--calibrate", "64"], marks=pytest.mark.slow),
        pytest.param(["--epochs", "2"], marks=pytest.mark.slow),
    ],
)
def test_a_run_keeps_to_what_was_foretold_under_a_limit_on_addresses(tmp_path: Path, options: list[str]) -> None:
    for name, text in {"net.py": NET, "own.py": DATA, "limited.py": LIMITED}.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "limited.py", *options], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_too_much_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(foretelling, "free_bytes", lambda: 10**6)
    Path("net.py").write_text(NET)
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["compress", "net.py:build", "--params", "2x", "--out", "o"])
    assert result.exit_code == 2
    words = "would take up to", "GB of memory", "this process can have 0.001 GB;"
    assert all(part in result.stderr for part in words), result.stderr
    assert result.stderr.count("\n") == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.suffix != ".pyc"] == before


def test_every_part_has_a_way_to_make_it_less(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Linear(8, 8), inputs_for(nn.Linear(8, 8), torch.rand(4, 8))
    found = foretold(model, x, {"params": "2x"}, Calibration(64, True, 0), Training())
    assert found is not None
    assert {*found.held, *found.steps} == {*foretelling.WAYS}
    assert foretold(model, x, {"params": "2x"}, Calibration(64, True, 0), Training(), "cuda") is None
    assert all(size > 0 for size in (*found.held.values(), *found.steps.values()))
    monkeypatch.setattr(foretelling, "free_bytes", lambda: 0)
    for part, way in foretelling.WAYS.items():
        with pytest.raises(TenfoldError) as caught:
            Foretold({part: 2 * 10**9}, {"": 1}).check()
        assert str(caught.value) == (
            f"this run would take up to 2 GB of memory, 2 GB of it for {part}, and this process can have 0 GB; {way}."
        )


def test_less_is_foretold_for_what_options_make_less() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    x = inputs_for(model, torch.rand(16, 64))

    def of(calibrate: int = 0, epochs: int = 0, memory: str | None = None, **asked: str) -> int:
        calibration = Calibration(calibrate, calibrate > 0, 0, memory)
        found = foretold(model, x, {"params": "2x", **asked}, calibration, Training(epochs))  # type: ignore[typeddict-item]
        assert found is not None
        return found.bytes

    assert of(format="svd") < of() < of(512) < of(100_000)
    assert of(100_000, memory="1MB") < of(100_000)
    assert of(format="svd", params="8x") < of(format="svd")
    assert of(format="svd") < of(format="svd", epochs=1)


def test_the_report_holds_what_was_foretold() -> None:
    result = tenfold.compress(nn.Linear(16, 16), params="1.5x", format="svd")
    told = result.report.settings["memory_for"]
    assert result.report.settings["memory_foretold"] == sum(told.values()) - min(
        told["fits of layers"], told["activations"]
    )


def test_limits_of_a_control_group(tmp_path: Path) -> None:
    assert room.free_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 400\n")
    assert room.free_in_group(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert room.free_in_group(tmp_path) is None
    assert (room.free_bytes() or 1) > 0
