"""What every room knows: the one error, the place it concerns, and where batches come from."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class TenfoldError(ValueError):
    """What was given cannot work; the text is one sentence for whoever gave it."""


@contextmanager
def within(place: str) -> Iterator[None]:
    """Name the layer or file that a TenfoldError raised inside concerns."""
    try:
        yield
    except TenfoldError as error:
        error.args = (f"{place}: {error}",)
        raise


def near_misses(given: str, known: Iterable[str]) -> str:
    """The end of an error sentence: `; did you mean 'x'?`, or what there is to choose from."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    near = [lowered[hit] for hit in difflib.get_close_matches(given.lower(), list(lowered), n=3, cutoff=0.5)]
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; there are {shown}." if names else "; there are none."


def first_part(batch: Any) -> Any:
    """The inputs of a batch: the first of a (inputs, targets) pair, or the batch itself."""
    return batch[0] if isinstance(batch, tuple | list) else batch


def classification_loss(outputs: Any, batch: Any) -> Tensor:
    """Mean cross entropy of logits (n, classes) against the integer targets of `(inputs, targets)`."""
    return functional.cross_entropy(outputs, batch[1])


def top1(outputs: Any, batch: Any) -> tuple[float, int]:
    """Correct predictions in a batch `(inputs, targets)`, and how many there were."""
    return float((outputs.argmax(dim=1) == batch[1]).sum()), len(batch[1])


@dataclass(frozen=True)
class Score:
    """What a user judges a network by: a sum over batches, divided by a count, times a scale.

    `measure(outputs, batch)` gives (sum, count) of one batch; top-1 in per cent by default.
    """

    name: str = "top-1"
    higher_is_better: bool = True
    scale: float = 100.0
    measure: Callable[[Any, Any], tuple[float, int]] = top1


@dataclass(frozen=True)
class Data:
    """Where batches come from. Every part but `inputs` may be empty; each can be iterated again and again.

    Attributes:
        train: augmented batches with targets, one pass an epoch.
        inputs: plain inputs without targets, for shapes and calibration.
        validation: plain batches with targets; may choose settings.
        test: plain batches with targets; judged once, never chooses anything.
        feed: the model's positional inputs in a labelled batch.
        loss: (outputs, batch) -> scalar.
        score: what the network is judged by.
    """

    train: Iterable[Any]
    inputs: Iterable[Any]
    validation: Iterable[Any]
    test: Iterable[Any]
    feed: Callable[[Any], Any] = first_part
    loss: Callable[[Any, Any], Tensor] = classification_loss
    score: Score = Score()


def to_device(value: Any, device: torch.device | str) -> Any:
    """Tensors of a batch on a device, in whatever lists, tuples or dicts they come."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(part, device) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(to_device(part, device) for part in value)
    return value


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on its inputs: a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(inputs)
