"""What a weight meets in a call, as rows of features: patches of convolutions, tokens of matrices."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Pick = Callable[[int], Tensor]  # of so many positions, the places of those that are looked at, (p,)


def tokens(x: Tensor, pick: Pick) -> tuple[Tensor, int]:
    """Features (samples, .., k), or one vector (k,), as rows (samples, p, 1, k), and positions of a sample."""
    flat = x.reshape(x.shape[0] if x.ndim > 1 else 1, -1, 1, x.shape[-1])
    return flat[:, pick(flat.shape[1]).to(x.device)], flat.shape[1]


def channels(x: Tensor, spatial: int, groups: int, pick: Pick) -> tuple[Tensor, int]:
    """Channels (samples, c, *positions), or one sample, as rows (samples, p, groups, c / groups), and positions."""
    return patches(x, (1,) * spatial, (1,) * spatial, (1,) * spatial, groups, pick)


def patches(
    x: Tensor, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int, pick: Pick
) -> tuple[Tensor, int]:
    """Patches of a padded input (samples, c, *positions), or of one sample, as rows (samples, p, groups, k).

    k is made of the channels of a group and of the window's axes, in this order.
    Returns: the rows that were picked; the positions of a sample.
    """
    count = len(window)
    view = x if x.ndim == count + 2 else x.unsqueeze(0)
    for at, (size, step, spread) in enumerate(zip(window, stride, dilation, strict=True)):
        view = view.unfold(2 + at, spread * (size - 1) + 1, step)[..., ::spread]
    positions = view.shape[2 : 2 + count]
    total = int(torch.tensor(positions).prod())
    index = torch.unravel_index(pick(total).to(x.device), positions)
    places: tuple[Any, ...] = (slice(None), slice(None), *index)
    chosen = view[places]  # (samples, c, p, *window)
    rows = chosen.movedim(2, 1).reshape(*chosen.shape[:1], chosen.shape[2], groups, -1)
    return rows, total


def padded(x: Tensor, pads: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """An input with so many entries before and after every axis; `mode` as convolutions name it."""
    ahead = [n for side in reversed(pads) for n in side]
    return functional.pad(x, ahead, mode="constant" if mode == "zeros" else mode) if any(ahead) else x
