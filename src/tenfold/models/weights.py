"""Weights of others, into a network of ours: safetensors and torch files as they are published."""

import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tenfold.protocols import TenfoldError, within

_HOLDERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # left by DataParallel and by torch.compile
# what torch.load was seen to raise on damaged files: zip and legacy, cut at any byte
_DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, struct.error),
)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the weights of a file into a model, in the model's dtypes; nothing is copied unless all fits.

    Args:
        path: safetensors, or a torch file of tensors: a state dict, or one under `state_dict`, `model_state_dict`
            or `model`, with or without `module.` or `_orig_mod.` before every name.
    Raises: TenfoldError if the file is absent, damaged or foreign, or if names or shapes differ from the model's.
    """
    path = Path(path).expanduser()
    with within(str(path)):
        weights = _without_prefix(_state_dict(_content(path)), model)
        _check(model.state_dict(keep_vars=True), weights)
        model.load_state_dict(weights, strict=False)  # names are checked above, with tied and counted ones excused


def _content(path: Path) -> Any:
    """What lies in the file, whichever of the two kinds it is."""
    if not path.is_file():
        raise TenfoldError("there is no such file of weights.")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise TenfoldError(f"a damaged safetensors file ({error}); fetch it again.") from error
    if not head.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise TenfoldError("neither safetensors nor a torch file.")
    if is_torchscript(path):
        raise TenfoldError("a TorchScript program; save the state_dict() of torch.jit.load(..) and use that file.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        words = "damaged, or holds Python objects besides tensors; save model.state_dict() and use that file."
        raise TenfoldError(words) from error
    except _DAMAGE as error:
        raise TenfoldError("a torch file that is damaged or cut off; fetch it again.") from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors by name, from the top of a checkpoint or from under one of the usual keys."""
    for holder in _HOLDERS:
        if isinstance(content, Mapping) and isinstance(content.get(holder), Mapping):
            content = content[holder]
    if not isinstance(content, Mapping):
        raise TenfoldError(f"holds a value of type {type(content).__name__}, not tensors by name.")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        wanted = f"tensors by name, at the top or under {' or '.join(map(repr, _HOLDERS))}"
        raise TenfoldError(f"holds no plain {wanted}" + (f", but {_some(others)}." if others else "."))
    return dict(content)


def _without_prefix(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The same tensors, with a wrapper's prefix taken off all names, unless the model's own have it too."""
    own = model.state_dict(keep_vars=True)
    for prefix in (*_PREFIXES, *_PREFIXES):  # wrappers nest either way round
        if all(name.startswith(prefix) for name in weights) and not all(name.startswith(prefix) for name in own):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _check(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raises: TenfoldError with the first few names if any are missing, unexpected or of another shape."""
    given = {id(own[name]) for name in own if name in weights}  # a tied weight may come under one of its names
    missing = [
        name
        for name in own
        # batch norms did not count their batches before torch 0.4.1, and need not
        if name not in weights and id(own[name]) not in given and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    found = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    if any(names for _, names in found):
        words = "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in found if names)
        raise TenfoldError(f"these are not the {len(own)} weights of the network: {words}.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
