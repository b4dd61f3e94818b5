"""Codes of few bits as bytes, and back."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pack(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers from 0 below 2^bits, of any shape, end to end in bytes, (ceil(n bits / 8),) uint8.

    The first number comes first, its lowest bit first; the last byte is filled up with zeros.
    """
    flat = codes.cpu().numpy().reshape(-1, 1).astype(np.uint16)
    each = (flat >> np.arange(bits, dtype=np.uint16)) & 1  # (n, bits)
    return torch.from_numpy(np.packbits(each.astype(np.uint8), bitorder="little"))


def unpack(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """The exact inverse: int32 of this shape."""
    count = math.prod(shape)
    each = np.unpackbits(packed.cpu().numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    return (
        torch.from_numpy(each.astype(np.int32) @ (1 << np.arange(bits, dtype=np.int32)))
        .to(torch.int32)
        .reshape(tuple(shape))
    )
