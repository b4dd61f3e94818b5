"""Trained PyTorch networks several times smaller: every weight a tensor network, chosen under a budget, measured.

    result = tenfold.compress(model, data, params="4x")
    tenfold.save(result, "out/")
    model = tenfold.load("out/")

Names are found when first used, so that importing tenfold imports neither torch nor any extra.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

_HOMES = {
    "inspect": "tenfold.measure",
    "Profile": "tenfold.measure",
    "plan": "tenfold.planning",
    "frontier": "tenfold.api",
    "decompose": "tenfold.api",
    "fresh": "tenfold.surgery",
    "lower": "tenfold.api",
    "Plan": "tenfold.surgery",
    "Row": "tenfold.surgery",
    "calibrate": "tenfold.api",
    "reconstruct": "tenfold.api",
    "compress": "tenfold.api",
    "Compressed": "tenfold.api",
    "train": "tenfold.api",
    "recover": "tenfold.api",
    "evaluate": "tenfold.api",
    "export": "tenfold.api",
    "Linear": "tenfold.api.modules",
    "Embedding": "tenfold.api.modules",
    "EmbeddingBag": "tenfold.api.modules",
    "Conv1d": "tenfold.api.modules",
    "Conv2d": "tenfold.api.modules",
    "Conv3d": "tenfold.api.modules",
    "ConvTranspose1d": "tenfold.api.modules",
    "ConvTranspose2d": "tenfold.api.modules",
    "ConvTranspose3d": "tenfold.api.modules",
    "LSTM": "tenfold.api.modules",
    "GRU": "tenfold.api.modules",
    "RNN": "tenfold.api.modules",
    "save": "tenfold.api",
    "load": "tenfold.api",
    "Exported": "tenfold.report",
    "Frontier": "tenfold.report",
    "Measurement": "tenfold.report",
    "Report": "tenfold.report",
    "Data": "tenfold.protocols",
    "Score": "tenfold.protocols",
    "TenfoldError": "tenfold.protocols",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("tenfold")
    if name not in _HOMES:
        raise AttributeError(f"module 'tenfold' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
