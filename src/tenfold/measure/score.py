"""What a network is judged by, over labelled batches; and the mode in which it is judged."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tenfold.protocols import Data, call, to_device
from tenfold.tasks import Objective, Running


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module of the network in eval mode; afterwards each in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter, or else the first buffer, is; the CPU for a network with neither."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def score(
    model: nn.Module, batches: Iterable[Any], data: Data, *, device: torch.device | str | None = None
) -> float | None:
    """The network's score over labelled batches, in eval mode and without gradients.

    Args:
        model: left as it was, each module's mode included.
        batches: labelled batches, such as `data.validation`; gone through once.
        data: whose `feed` and score are used.
        device: where each batch is put; by default where the network is.
    Returns: in the unit of the score; None where nothing was counted.
    Raises: TenfoldError where the task of the data does not take such outputs or targets.
    """
    where = device_of(model) if device is None else device
    found = Running(Objective.of(data))
    with evaluating(model), torch.no_grad():
        for batch in batches:
            batch = to_device(batch, where)
            found.update(call(model, data.feed(batch)), batch)
    return found.compute()
