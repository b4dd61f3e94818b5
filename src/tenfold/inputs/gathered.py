"""The first samples of what a network is given, in chunks that fit beside it."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from tenfold.inputs.containers import to_device
from tenfold.inputs.finding import inputs_for
from tenfold.inputs.forward import device_of
from tenfold.inputs.inputs import Inputs, parts_of
from tenfold.protocols import BatchDim, TenfoldError

CHUNK = 32  # samples


def first_samples(
    model: nn.Module, batches: Iterable[Any], count: int, *, batch: BatchDim = None, chunk: int = CHUNK
) -> list[Inputs]:
    """So many samples of unlabelled batches, where the network is; fewer where there are no more.

    Where samples are counted is found on the first batch (`inputs_for`) and holds for those that are built alike.

    Args:
        batches: what the network takes.
        chunk: samples in one of the inputs that come back; batches that cannot be cut stay whole.
    Raises: TenfoldError if there are none.
    """
    found: list[Inputs] = []
    left, like = count, None
    for value in batches:
        if left <= 0:
            break
        if like is None or isinstance(value, Inputs) or len(parts_of(value)) != len(like.dims):
            like = inputs_for(model, value, batch)
            given = like
        else:
            device = device_of(model)
            given = Inputs(value if device is None else to_device(value, device), like.dims, like.fixed)
        if not given.is_cut:
            found.append(given)
            left -= given.size
            continue
        size = min(left, given.size)
        found += [given.at(range(at, min(at + chunk, size))) for at in range(0, size, chunk)]
        left -= size
    if not found:
        raise TenfoldError("there are no inputs to calibrate on; the data's 'inputs' must give at least one batch.")
    return found
