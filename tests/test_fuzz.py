"""Folders that were spoilt, disks that fill, systems without locks: one sentence, and nothing is lost."""

import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tenfold
from mutations import KINDS, Ground, ground, outcome
from tenfold import storage
from tenfold.api import opened
from tenfold.models import resolve
from tenfold.protocols import TenfoldError
from tenfold.storage import Document, Origin, document, folder, load, replace, save
from tenfold.surgery import Plan

SAMPLES = Path(__file__).parent / "folders"
ZOO = Document(Origin("zoo", "net"))


# ---- folders that were spoilt
@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground(tmp_path_factory.mktemp("fuzz") / "ground")


@pytest.mark.parametrize("name", KINDS)
def test_a_spoilt_folder_is_refused_in_one_sentence_or_read_as_it_is(
    spoilt: Ground, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`benchmarks/fuzz.py` does this ten thousand times."""
    monkeypatch.syspath_prepend(str(spoilt.outside))  # where code lies that must not be run
    for seed in range(4):
        found, said = outcome(spoilt, name, seed)
        assert found != "wrong", (seed, said)
        assert found != "as signed" or KINDS[name].forged


@pytest.mark.parametrize(
    ("owner", "check", "without", "names"),
    [
        (document, "check_same", lambda *_: None, ["two tensors swapped"]),
        (document, "is_sealed", lambda *_: True, ["a value in model.json"]),
        (document, "check_code", lambda *_: None, ["a file or link added to the code"]),
        (opened, "again", lambda kind, name, code: resolve(name), ["another origin, forged"]),
    ],
)
def test_the_fuzz_sees_what_a_check_that_is_not_there_lets_through(
    spoilt: Ground, owner: ModuleType, check: str, without: object, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(spoilt.outside))
    monkeypatch.setattr(owner, check, without)
    assert any(outcome(spoilt, name, seed)[0] == "wrong" for name in names for seed in range(40))
    (spoilt.outside / "run.txt").unlink(missing_ok=True)


# ---- folders of earlier schemas
@pytest.mark.parametrize("schema", [1, 2])
def test_a_folder_of_every_schema_loads(schema: int) -> None:
    place = SAMPLES / f"schema-{schema}"
    found = tenfold.load(place, trust_code=True)
    x = torch.linspace(-1, 1, 2 * 3 * 36).reshape(2, 3, 6, 6)
    with torch.no_grad():
        assert torch.allclose(found(x), load_file(SAMPLES / "outputs.safetensors")["y"], atol=1e-6)
    assert storage.read_plan(place).rows["conv2"].format == "tucker2"
    assert storage.read_report(place) == {"dense": {"params": 12}}
    assert storage.read_document(place).settings == {"classes": ["a", "b"]}


def test_what_is_written_is_of_a_schema_whose_sample_is_kept() -> None:
    assert (SAMPLES / f"schema-{document.SCHEMA}").is_dir()


# ---- disks that fill
def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def small(seed: int = 0) -> nn.Module:
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 5))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return model.eval()


STEPS = [(os, "mkdir"), (os, "rename"), (os, "fsync"), (os, "open"), (shutil, "copymode"), (folder, "save_file"),
         (Path, "write_text"), (folder, "sha256")]  # fmt: skip


def failing_at(step: int, code: int, patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Let the disk refuse one thing, and do all others; says whether it came to that."""
    done = [0]

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def once(*args: Any, **kwargs: Any) -> object:
            done[0] += 1
            if done[0] == step + 1:
                raise OSError(code, os.strerror(code))
            return act(*args, **kwargs)

        return once

    for owner, name in STEPS:
        patch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: done[0] > step


@pytest.mark.parametrize(("exists", "code"), [(True, errno.ENOSPC), (False, errno.EACCES)])
def test_a_disk_that_refuses_any_one_thing_loses_nothing(
    tmp_path: Path, exists: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda opened: None)  # for time
    save(tmp_path / "kept", small(1), Plan({}), ZOO)
    place, failed, step = tmp_path / "disk/out", True, 0
    while failed:
        if exists:
            shutil.copytree(tmp_path / "kept", place)
        with monkeypatch.context() as patch:
            has_failed = failing_at(step, code, patch)
            said = None
            try:
                save(place, small(2), Plan({}), ZOO, overwrite=True)
            except TenfoldError as error:
                said = str(error)
            failed = has_failed()
        assert said is None or (os.strerror(code) in said and "\n" not in said)
        if exists or place.exists():
            whole = load(place, build=lambda *_: small())
            assert any(torch.equal(whole[0].weight, small(seed)[0].weight) for seed in (1, 2))
        save(place, small(2), Plan({}), ZOO, overwrite=True)  # what was left over is in nobody's way
        assert [path.name for path in place.parent.iterdir()] == ["out"]
        shutil.rmtree(place)
        step += 1
    assert step > 12


@pytest.mark.parametrize("size", [0, 10, 200, 1000, 3000])
def test_a_file_that_outgrows_the_disk_is_said(tmp_path: Path, size: int) -> None:
    """The system's own error, at whatever file it comes: that of safetensors was let out as it was."""
    place = tmp_path / "out"
    save(place, small(1), Plan({}), ZOO)
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(TenfoldError, match=r"'.*out' cannot be written: .*File too large[^\n]*\.$"):
            save(place, small(2), Plan({}), ZOO, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before


# ---- systems without locks
def test_without_locks_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: no fcntl, and folders that cannot be opened."""
    monkeypatch.setattr(replace, "LOCKS", False)
    monkeypatch.delattr(os, "O_DIRECTORY")
    place = tmp_path / "out"
    save(place, small(1), Plan({}), ZOO)
    save(place, small(2), Plan({}), ZOO, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(KeyboardInterrupt), replace.replacing(place):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with replace.replacing(place) as partial:
        (partial / "model.json").write_text((place / "model.json").read_text())
        place.rename(partial.with_suffix(".old"))
        replace.settle(place)  # another run: it cannot know whether the first one lives
        assert torch.equal(load(place, build=lambda *_: small())[0].weight, small(2)[0].weight)
    assert storage.is_folder(place)


def test_storage_imports_without_fcntl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    described = spec_from_file_location("elsewhere", replace.__file__)
    assert described is not None
    assert described.loader is not None
    module = module_from_spec(described)
    described.loader.exec_module(module)
    assert not module.LOCKS
