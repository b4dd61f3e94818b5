"""A disk that fills at any write: one sentence, nothing lost, nothing half. And runs that meet on one folder.

A limit on the size of files (`RLIMIT_FSIZE`) stands for the full disk: whoever writes beyond it, in Python or below, is
refused by the system.
"""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tenfold
from tenfold.api import write_plan
from tenfold.cli import app
from tenfold.protocols import TenfoldError
from tenfold.recovery import finetune
from tenfold.recovery.reconstruction.progress import keep
from tenfold.report.html import write_page
from tenfold.statistics import Statistics, file
from tenfold.storage import alone, check_writable
from tenfold.surgery import Plan, Row

resource = pytest.importorskip("resource", reason="limits on files are not Windows'")


LIMITS = resource.getrlimit(resource.RLIMIT_FSIZE)


@contextmanager
def largest(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, LIMITS[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, LIMITS)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)).eval()


X = torch.randn(32, 24, generator=torch.Generator().manual_seed(0))
BATCHES = [(X[at : at + 16], torch.arange(16) % 3) for at in (0, 16)]
DATA = tenfold.Data(BATCHES, [X], BATCHES, BATCHES)
RESULT = tenfold.compress(network(), params="1.5x", format="svd", settings={"recipe": {"params": "1.5x"}})
STATISTICS: Statistics = tenfold.calibrate(network(), [X], samples=32)


def saved(place: Path) -> None:
    tenfold.save(RESULT, place / "out", overwrite=True)


def trained(place: Path) -> None:
    model = copy.deepcopy(RESULT.model).train()
    list(finetune(model, DATA, epochs=1, state=place / "state", checkpoint_minutes=0))


WRITES: dict[str, Callable[[Path], None]] = {
    "a folder": saved,
    "a plan": lambda place: write_plan(place / "plan.yaml", Plan({"0": Row("0")}), overwrite=True),
    "a page": lambda place: write_page(place / "page.html", "<!doctype html>" + 5000 * "x"),
    "statistics": lambda place: file.write(place / "statistics.safetensors", STATISTICS),
    "blocks": lambda place: keep(place / "state", RESULT.model, 1, {}),
    "checkpoints": trained,
}


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WRITES)
def test_a_disk_that_fills_at_any_write_gets_one_sentence(tmp_path: Path, name: str) -> None:
    write = WRITES[name]
    write(tmp_path / "whole")
    sizes = sorted({len(content) for content in contents(tmp_path / "whole").values()})
    for size in {0, 1, *(size - 1 for size in sizes)}:  # at the first byte, and at the last of every file
        place = tmp_path / f"{size}"
        with largest(size), pytest.raises(TenfoldError) as caught:
            write(place)
        said = str(caught.value)
        assert "cannot be written" in said, said
        assert "\n" not in said
        assert contents(place) == {} or name == "checkpoints"
        assert not list(place.rglob("*.partial"))


@pytest.mark.parametrize("name", [name for name in WRITES if name != "checkpoints"])
def test_what_was_there_before_the_disk_was_full_is_whole(tmp_path: Path, name: str) -> None:
    WRITES[name](tmp_path)
    before = contents(tmp_path)
    with largest(1), pytest.raises(TenfoldError):
        WRITES[name](tmp_path)
    assert contents(tmp_path) == before


def test_a_training_goes_on_once_there_is_room(tmp_path: Path) -> None:
    model, undisturbed = network(), network()
    steps = finetune(model, DATA, epochs=2, state=tmp_path / "state", checkpoint_minutes=0)
    assert [step.step for step in islice(steps, 2)] == [1, 2]
    with largest(1000), pytest.raises(TenfoldError, match="what was kept there before is whole"):
        next(steps)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-2"]
    again = network()
    others = [step.step for step in finetune(again, DATA, epochs=2, state=tmp_path / "state", checkpoint_minutes=0)]
    list(finetune(undisturbed, DATA, epochs=2, state=tmp_path / "other", checkpoint_minutes=0))
    assert others == [3, 4]
    assert all(map(torch.equal, again.state_dict().values(), undisturbed.state_dict().values()))


def test_a_lock_needs_no_room(tmp_path: Path) -> None:
    with largest(0), alone(tmp_path / "out"), pytest.raises(TenfoldError, match="another run"), alone(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


# ---- two runs, and no rights
def test_a_second_run_on_a_folder_is_refused_and_leaves_the_first_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    holder = """
from pathlib import Path
from tenfold.storage import alone
with alone(Path("out")):
    print(flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", holder], stdin=-1, stdout=-1, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        result = CliRunner().invoke(app, ["compress", "digits-cnn", "--params", "2x", "--out", "out"])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: another run (process {first.pid} on ")
        assert result.stderr.endswith(" is writing 'out'; wait until it has ended, or name another folder.\n")
        assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
        first.communicate("\n")
    check_writable("out")
    with alone(Path("out")):
        pass


def test_a_place_where_nothing_can_be_made_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")  # no rights stop the root user; a file in the way does
    result = CliRunner().invoke(app, ["compress", "digits-cnn", "--params", "2x", "--out", "file/out"])
    assert (result.exit_code, result.stderr) == (2, f"error: '{tmp_path / 'file'}' is a file; name a folder.\n")
