"""Inputs to measure on: from data, or drawn for a shape."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.protocols import Data, TenfoldError

SHAPE = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>\d+(?:x\d+)*)(?::(?P<dtype>\w+))?$")
DTYPES = {
    name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "bool")
}
MOST_SAMPLES = 64
MOST_MACS = 8e9  # of one timed batch


def parse_inputs(shapes: Sequence[str]) -> Any:
    """A batch for each input of a network: `3x224x224`, or `ids=128:int64` for inputs by name.

    Returns: (64, 3, 224, 224), one sample seen 64 times: numbers from a fixed normal draw, zeros for whole numbers; a
        dict where names are given.
    Raises: TenfoldError for another spelling.
    """
    found: list[tuple[str | None, Tensor]] = []
    for text in shapes:
        match = SHAPE.match(text.strip())
        if match is None or "0" in match["sizes"].split("x"):
            raise TenfoldError(f"input '{text}' is no shape; write 3x224x224, or ids=128:int64 for an input by name.")
        if (kind := match["dtype"] or "float32") not in DTYPES:
            raise TenfoldError(f"input '{text}': there is no '{kind}'; use one of {', '.join(DTYPES)}.")
        found.append((match["name"], sample([*map(int, match["sizes"].split("x"))], DTYPES[kind])))
    if all(name is None for name, _ in found):
        tensors = tuple(tensor for _, tensor in found)
        return tensors[0] if len(tensors) == 1 else tensors
    if any(name is None for name, _ in found):
        raise TenfoldError("some inputs have names and some have none; name all (ids=128:int64) or none.")
    return {str(name): tensor for name, tensor in found}


def sample(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Normal numbers from seed 0, or zeros; (64, *shape), the same in every sample and in memory once."""
    if dtype.is_floating_point:
        one = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    else:
        one = torch.zeros(tuple(shape), dtype=dtype)
    return one.expand(MOST_SAMPLES, *shape)


def first_inputs(data: Data) -> Any:
    """The first batch of a data set's plain inputs.

    Raises: TenfoldError if there are none.
    """
    for batch in data.inputs:
        return batch
    raise TenfoldError("the data has no inputs; its 'inputs' must give at least one batch.")


def samples(inputs: Any, count: int) -> Any:
    """The first samples of a batch, in whatever tensors, tuples or dicts it comes."""
    if isinstance(inputs, Tensor):
        return inputs[:count].contiguous() if inputs.ndim else inputs
    if isinstance(inputs, dict):
        return {key: samples(part, count) for key, part in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(samples(part, count) for part in inputs)
    return inputs


def one_sample(model: nn.Module, inputs: Any) -> Any:
    """The first sample of a batch; all of the inputs where a module wants another dimension first (steps)."""
    return inputs if steps_first(model) else samples(inputs, 1)


def steps_first(model: nn.Module) -> bool:
    """Whether some module says that the first dimension of what it takes is not the batch, as torch's sequences may."""
    return any(getattr(module, "batch_first", True) is False for module in model.modules())


def repeated(inputs: Any, count: int) -> Any:
    """A batch of so many samples, in whatever tensors, tuples or dicts it comes; begun anew where it is too short."""
    if isinstance(inputs, Tensor):
        return inputs[torch.arange(count) % len(inputs)] if inputs.ndim else inputs
    if isinstance(inputs, dict):
        return {key: repeated(part, count) for key, part in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(repeated(part, count) for part in inputs)
    return inputs


def timed(model: nn.Module, inputs: Any, macs: int) -> Any:
    """What is timed of a batch, where one sample takes so many multiply-adds."""
    return inputs if steps_first(model) else samples(inputs, timed_samples(macs))


def timed_samples(macs: int) -> int:
    """How many samples a timed batch should have: 64, fewer where one sample is much work."""
    return max(1, min(MOST_SAMPLES, int(MOST_MACS / max(macs, 1))))
