"""Samples of what a network is given, in chunks that fit beside it."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from tenfold.inputs.containers import to_device
from tenfold.inputs.finding import inputs_for
from tenfold.inputs.forward import device_of
from tenfold.inputs.inputs import Inputs, parts_of
from tenfold.protocols import BatchDim, TenfoldError

CHUNK = 32  # samples


def chunks_of(
    model: nn.Module, batches: Iterable[Any], *, batch: BatchDim = None, chunk: int = CHUNK
) -> Iterator[Inputs]:
    """The samples of unlabelled batches, where the network is, so many at a time; batches that cannot be cut whole.

    Where samples are counted is found on the first batch (`inputs_for`) and holds for those that are built alike.

    Args: batches: what the network takes.
    """
    like: Inputs | None = None
    for value in batches:
        if like is None or isinstance(value, Inputs) or len(parts_of(value)) != len(like.dims):
            like = given = inputs_for(model, value, batch)
        else:
            device = device_of(model)
            given = Inputs(value if device is None else to_device(value, device), like.dims, like.fixed)
        if given.is_cut:
            yield from (given.at(range(at, min(at + chunk, given.size))) for at in range(0, given.size, chunk))
        else:
            yield given


def first_samples(
    model: nn.Module, batches: Iterable[Any], count: int, *, batch: BatchDim = None, chunk: int = CHUNK
) -> list[Inputs]:
    """So many samples of unlabelled batches as `chunks_of` gives them; fewer where there are no more.

    Raises: TenfoldError if there are none.
    """
    found: list[Inputs] = []
    left = count
    for each in chunks_of(model, batches, batch=batch, chunk=chunk):
        found.append(each.samples(left))
        left -= found[-1].size
        if left <= 0:
            break
    if not found:
        raise TenfoldError("there are no inputs to calibrate on; the data's 'inputs' must give at least one batch.")
    return found
