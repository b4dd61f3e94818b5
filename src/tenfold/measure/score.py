"""What a network is judged by, over labelled batches."""

import math
from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import Any

import torch
from torch import nn

from tenfold.inputs import call, evaluating, to_device
from tenfold.measure.finite import because, spoiled
from tenfold.protocols import Data, Done, TenfoldError, Watch
from tenfold.tasks import Objective, Running


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter, or else the first buffer, is; the CPU for a network with neither."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def score(
    model: nn.Module,
    batches: Iterable[Any],
    data: Data,
    *,
    device: torch.device | str | None = None,
    watch: Watch = iter,
) -> float | None:
    """The network's score over labelled batches, in eval mode and without gradients.

    Args:
        model: left as it was, modes and states included.
        batches: labelled batches, such as `data.validation`; gone through once.
        data: whose `feed` and score are used.
        device: where each batch is put; by default where the network is.
        watch: is handed the iterator of batches that are done and hands it on, to draw a bar.
    Returns: in the unit of the score; None where nothing was counted.
    Raises: TenfoldError where the task of the data does not take such outputs or targets, and where outputs, or the
        score itself, are not finite: a largest entry among NaN means nothing.
    """
    where = device_of(model) if device is None else device
    found = Running(Objective.of(data))
    whole = length_hint(batches)

    def judging() -> Iterator[Done]:
        for number, batch in enumerate(batches, start=1):
            batch = to_device(batch, where)
            inputs = data.feed(batch)
            outputs = call(model, inputs)
            if spoiled(outputs):
                raise TenfoldError(
                    f"no score can be given: the network's outputs for batch {number} hold NaN or infinity"
                    + because(inputs, "though its inputs do not; see that weights and running statistics are finite")
                )
            found.update(outputs, batch)
            yield Done("score", found.score.name, number, whole)

    with evaluating(model):
        for _ in watch(judging()):
            pass
    value = found.compute()
    if value is not None and not math.isfinite(value):
        raise TenfoldError(f"the score '{found.score.name}' is {value}; it has to be finite.")
    return value
