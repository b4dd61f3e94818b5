"""In what type the numbers of a network are stored: half as wide, where a plan says so."""

from typing import Literal

import torch
from torch import Tensor, nn

from tenfold.protocols import TenfoldError, near_misses

Dtype = Literal["bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
MARK = "_stored_as"  # the attribute by which a network knows it


def check_dtype(name: str) -> None:
    """Raise a TenfoldError for a type in which nothing is stored."""
    if name not in DTYPES:
        raise TenfoldError(f"there is no dtype '{name}' to store numbers in{near_misses(name, DTYPES)}")


def stored(model: nn.Module, dtype: str | None) -> nn.Module:
    """The network, changed in place, with its numbers rounded to those that are stored; None: as it is.

    They keep the type that they have, so that the network runs on what it ran on before, and saving loses nothing.
    Raises: TenfoldError for a tensor with numbers beyond those of the type.
    """
    if dtype is None:
        return model
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and (half := narrowed(name, once(tensor), dtype)) is not tensor:
                once(tensor).copy_(half)
    setattr(model, MARK, dtype)
    return model


def stored_as(model: nn.Module) -> str | None:
    """The type in which the numbers of a network are stored; None: in their own."""
    found: str | None = getattr(model, MARK, None)
    return found


def narrowed(name: str, tensor: Tensor, dtype: str | None) -> Tensor:
    """A tensor as it is stored: itself, if it is no wider, or holds no floating numbers.

    What lies beyond the last number of the type by less than a step (the least of float32, in masks) becomes that.
    Raises: TenfoldError where other numbers of it become infinite.
    """
    kind = None if dtype is None else DTYPES[dtype]
    if kind is None or not tensor.is_floating_point() or tensor.itemsize <= kind.itemsize:
        return tensor
    known, numbers = torch.finfo(kind), tensor.detach()
    just_beyond = (numbers.abs() > known.max) & (numbers.abs() <= known.max * (1 + known.eps))
    half = numbers.where(~just_beyond, numbers.sign() * known.max).to(kind)
    if (half.isinf() & numbers.isfinite()).any():
        way = "store it in bf16" if kind == torch.float16 else "leave the dtype out"
        raise TenfoldError(f"'{name}' has numbers beyond {known.max:.3g}, where {dtype} ends; {way}.")
    return half


def once(tensor: Tensor) -> Tensor:
    """A tensor without the dimensions along which it only repeats itself: what can be written to in place."""
    return tensor[tuple(slice(1) if step == 0 else slice(None) for step in tensor.stride())]


def stored_bytes(params: int, bytes: int, dtype: str | None) -> int:
    """Bytes of so many numbers as they are stored. Args: bytes: that they take in the network."""
    return bytes if dtype is None else min(bytes, params * DTYPES[dtype].itemsize)
