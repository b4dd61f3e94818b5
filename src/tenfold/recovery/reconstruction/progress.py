"""What a reconstruction needs to go on after a stop: the network after the last block that was done."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tenfold.storage import writing

FILE = "blocks.safetensors"


def keep(state: Path, model: nn.Module, done: int, run: Mapping[str, Any]) -> None:
    """Keep the network after so many blocks, in place of what was kept before; whole, or not at all.

    Raises: TenfoldError if it cannot be written.
    """
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    with writing(state / FILE) as partial:
        save_file(tensors, partial, metadata={"done": str(done), "run": json.dumps(run, sort_keys=True)})


def resumed(state: Path, model: nn.Module, run: Mapping[str, Any]) -> int:
    """Fill the network with what the same run has kept; how many blocks were done, 0 where nothing fits."""
    try:
        with safe_open(state / FILE, "pt") as file:
            about = file.metadata() or {}
            if about.get("run") != json.dumps(run, sort_keys=True):
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (OSError, SafetensorError):
        return 0
    own = model.state_dict()
    if shapes(tensors) != shapes(own):
        return 0
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return int(about["done"])


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """By name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
