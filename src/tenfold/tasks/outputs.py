"""Which of a network's outputs is meant."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from tenfold.protocols import TenfoldError


def picked(outputs: Any, key: str | int) -> Any:
    """The output under a key or an index. Raises: TenfoldError that names those there are."""
    parts = parts_of(outputs)
    if key not in parts:
        raise TenfoldError(f"the network's outputs have no {key!r}; they are {described(outputs)}.")
    return parts[key]


def lone(outputs: Any) -> Tensor:
    """The tensor, the only tensor of several outputs, or their `logits`.

    Raises: TenfoldError where it could be another.
    """
    if isinstance(outputs, Tensor):
        return outputs
    tensors = {key: part for key, part in parts_of(outputs).items() if isinstance(part, Tensor)}
    if "logits" in tensors:
        return tensors["logits"]
    if len(tensors) != 1:
        way = f"say which to judge by, as in Data(output={next(iter(tensors))!r})" if tensors else "none is a tensor"
        raise TenfoldError(f"the network's outputs are {described(outputs)}; {way}.")
    return next(iter(tensors.values()))


def parts_of(outputs: Any) -> dict[str | int, Any]:
    """Outputs by name, or by place where they have none."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if hasattr(outputs, "_asdict"):  # a named tuple
        return dict(outputs._asdict())
    if isinstance(outputs, tuple | list):
        return dict(enumerate(outputs))
    if is_dataclass(outputs):
        return {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    return {}


def described(outputs: Any) -> str:
    """`a dict of 'out', 'aux'`."""
    parts = ", ".join(map(repr, parts_of(outputs)))
    return f"a {type(outputs).__name__}{f' of {parts}' if parts else ''}"
