"""Which of a network's outputs is meant."""

from typing import Any

from torch import Tensor

from tenfold.inputs.containers import held
from tenfold.protocols import TenfoldError


def picked(outputs: Any, key: str | int) -> Any:
    """The output under a key or an index. Raises: TenfoldError that names those there are."""
    parts = held(outputs) or {}
    if key not in parts:
        raise TenfoldError(f"the network's outputs have no {key!r}; they are {described(outputs)}.")
    return parts[key]


def lone(outputs: Any) -> Tensor:
    """The tensor, the only tensor of several outputs, or their `logits`.

    Raises: TenfoldError where it could be another.
    """
    if isinstance(outputs, Tensor):
        return outputs
    tensors = {key: part for key, part in (held(outputs) or {}).items() if isinstance(part, Tensor)}
    if "logits" in tensors:
        return tensors["logits"]
    if len(tensors) != 1:
        way = f"say which to judge by, as in Data(output={next(iter(tensors))!r})" if tensors else "none is a tensor"
        raise TenfoldError(f"the network's outputs are {described(outputs)}; {way}.")
    return next(iter(tensors.values()))


def described(outputs: Any) -> str:
    """`a dict of 'out', 'aux'`."""
    parts = ", ".join(map(repr, held(outputs) or {}))
    return f"a {type(outputs).__name__}{f' of {parts}' if parts else ''}"
