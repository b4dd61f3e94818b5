"""Imports point down only, and importing tenfold brings in no extra."""

import importlib.util
import logging.config
import os
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).parents[1]
EXTRAS = {
    "sklearn",
    "accelerate",
    "matplotlib",
    "PIL",
    "onnx",
    "onnxscript",
    "huggingface_hub",
    "torchvision",
    "tensorly",
    "torchmetrics",
}


def test_imports_point_down_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.config, "dictConfig", lambda settings: None)  # it would silence tenfold's own loggers
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    contract = tmp_path / "contract.toml"  # rooms that are not built yet are left out
    contract.write_text("\n".join(line for line in lines if not is_unbuilt(line.strip(' ",'))))
    assert cli.lint_imports(config_filename=str(contract), no_cache=True) == 0


def is_unbuilt(name: str) -> bool:
    """Whether a line of the contract names a room that is not there."""
    return name.startswith("tenfold.") and " " not in name and importlib.util.find_spec(name) is None


@pytest.mark.parametrize("module", ["tenfold", "tenfold.surgery"])  # (which imports all rooms below)
def test_importing_brings_in_no_extra_and_seeds_nothing(module: str) -> None:
    lines = f"import random; before = random.getstate(); import {module}, sys; assert random.getstate() == before"
    code = f"{lines}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    path = os.pathsep.join([str(ROOT / "src"), *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert not EXTRAS & set(found.stdout.split())
