"""Inputs to measure on: from data, or drawn for a shape."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, inputs_for, tensors_in
from tenfold.protocols import BatchDim, Data, TenfoldError

SHAPE = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>\d+(?:x\d+)*)(?::(?P<dtype>\w+))?$")
DTYPES = {
    name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "bool")
}
MOST_SAMPLES = 64
MOST_MACS = 8e9  # of one timed batch


def parse_inputs(shapes: Sequence[str], batch: BatchDim = None) -> Any:
    """A batch for each input of a network: `3x224x224`, or `ids=128:int64` for inputs by name.

    Args: batch: the dimension that is to count samples, by default the first; `none`: the shapes are of the whole.
    Returns: (64, 3, 224, 224), one sample seen 64 times: numbers from a fixed normal draw, zeros for whole numbers; a
        dict where names are given; `Inputs` where the batch is said.
    Raises: TenfoldError for another spelling, or a batch between dimensions that are not there.
    """
    found: list[tuple[str | None, Tensor]] = []
    for text in shapes:
        match = SHAPE.match(text.strip())
        if match is None or "0" in match["sizes"].split("x"):
            raise TenfoldError(f"input '{text}' is no shape; write 3x224x224, or ids=128:int64 for an input by name.")
        if (kind := match["dtype"] or "float32") not in DTYPES:
            raise TenfoldError(f"input '{text}': there is no '{kind}'; use one of {', '.join(DTYPES)}.")
        sizes = [*map(int, match["sizes"].split("x"))]
        if isinstance(batch, int) and not 0 <= batch <= len(sizes):
            raise TenfoldError(f"input '{text}' has no place for a batch at dimension {batch}; use 0 to {len(sizes)}.")
        found.append((match["name"], sample(sizes, DTYPES[kind], batch)))
    value = together(found)
    return value if batch is None else Inputs(value, (None if batch == "none" else batch,) * len(found))


def together(found: Sequence[tuple[str | None, Tensor]]) -> Any:
    """One tensor, a tuple of them, or a dict where they have names."""
    if all(name is None for name, _ in found):
        tensors = tuple(tensor for _, tensor in found)
        return tensors[0] if len(tensors) == 1 else tensors
    if any(name is None for name, _ in found):
        raise TenfoldError("some inputs have names and some have none; name all (ids=128:int64) or none.")
    return {str(name): tensor for name, tensor in found}


def sample(shape: Sequence[int], dtype: torch.dtype, batch: BatchDim = None) -> Tensor:
    """Normal numbers from seed 0, or zeros; (64, *shape), the same in every sample and in memory once.

    Args: batch: where the 64 stand instead of in front; `none`: (*shape).
    """
    if dtype.is_floating_point:
        one = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    else:
        one = torch.zeros(tuple(shape), dtype=dtype)
    if batch == "none":
        return one
    at = batch or 0
    return one.unsqueeze(at).expand(*shape[:at], MOST_SAMPLES, *shape[at:])


def first_inputs(data: Data) -> Any:
    """The first batch of a data set's plain inputs.

    Raises: TenfoldError if there are none.
    """
    for batch in data.inputs:
        return batch
    raise TenfoldError("the data has no inputs; its 'inputs' must give at least one batch.")


def given_inputs(model: nn.Module, data: Data | None = None, inputs: Any = None) -> Inputs | None:
    """What a network is measured on, on its device: the inputs, by default the data's first; None without either.

    Raises: TenfoldError for inputs with NaN.
    """
    if inputs is None and data is None:
        return None
    value = first_inputs(data) if inputs is None and data is not None else inputs
    given = inputs_for(model, value, None if data is None else data.batch)
    if any(tensor.isnan().any() for tensor in tensors_in(given.value) if tensor.is_floating_point()):
        raise TenfoldError(f"the inputs ({given.described}) hold NaN, and nothing can be measured on them.")
    return given


def unseen_inputs(model: nn.Module, data: Data) -> Inputs | None:
    """The inputs of the first batch that judges, of `test` or else of `validation`; None where there is none."""
    for batches in (data.test, data.validation):
        for batch in batches:
            return inputs_for(model, data.feed(batch), data.batch)
    return None


def timed(inputs: Inputs, macs: int) -> Inputs:
    """What is timed of a batch, where one sample takes so many multiply-adds."""
    return inputs.samples(timed_samples(macs))


def timed_samples(macs: int) -> int:
    """How many samples a timed batch should have: 64, fewer where one sample is much work."""
    return max(1, min(MOST_SAMPLES, int(MOST_MACS / max(macs, 1))))
