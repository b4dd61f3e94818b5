"""What a network keeps outside its parameters, put back after a forward."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


def kept(model: nn.Module) -> Iterator[Any]:
    """Every dict, list, set, deque and tensor that the modules hold, nested in whatever containers; no parameters.

    The attributes of a module (or of a dataclass that it holds) are such a dict; so are its buffers and hooks.
    """
    seen: dict[int, Any] = {}
    waiting: list[Any] = [model]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, nn.Parameter | type):
            continue
        seen[id(value)] = value
        if isinstance(value, nn.Module) or (is_dataclass(value) and hasattr(value, "__dict__")):
            waiting.append(vars(value))
        elif isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            waiting.extend(value)
        elif isinstance(value, dict | list | set | deque):
            yield value
            waiting.extend(value.values() if isinstance(value, dict) else value)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """All that the network keeps (modes, buffers, states and counters in attributes) comes back in the end.

    Parameters are trusted to stay as they are; what else a forward changes belongs to objects of the network's own.
    """
    before = [(value, content(value)) for value in kept(model)]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, was in before:
                put_back(value, was)


def content(value: Any) -> Any:
    """A copy of what a container or a tensor holds."""
    if isinstance(value, Tensor):
        return value.detach().clone() if value.layout is torch.strided else None
    return dict(value) if isinstance(value, dict) else list(value)


def put_back(value: Any, was: Any) -> None:
    """Give a container or a tensor the content that it had; tensors that others look into stay shared."""
    if not isinstance(value, Tensor):
        value.clear()
        put = value.extend if isinstance(value, list | deque) else value.update
        put(was)
    elif was is None or value.is_inference():
        return
    elif value.shape != was.shape:
        value.data = was
    elif not torch.equal(value, was):
        value.copy_(was)
