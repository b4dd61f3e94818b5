"""The modules besides torch's own that a lowered layer may hold: reshapes, permutes and paddings, no numbers."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenfold.network import Labels, Stages, TensorNetwork, input_labels, output_labels


class Rearrange(nn.Module):
    """Split channels into labels, permute, and flatten to other channels.

    The layout before and after is (carried labels, channel labels). With `spatial` dimensions the carried labels ride
    in the batch: (n·carried, channels, *spatial). Without, they stand after the leading dimensions:
    (*lead, *carried, channels), which is what `nn.Linear` takes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        order: Sequence[int],
        carried: tuple[int, int],
        *,
        spatial: int,
        groups: int = 1,
        pad: int = 0,
        crop: int = 0,
    ) -> None:
        """Args:
        shape: sizes of all labels before, carried first.
        order: the permutation that gives the labels after.
        carried: how many labels are carried before and after.
        groups: equal blocks of channels that are padded or cropped each by itself.
        pad: zeros to append to the channels before they are split; crop: entries to drop in the end.
        """
        super().__init__()
        self.shape, self.order, self.carried = tuple(shape), tuple(order), carried
        self.spatial, self.groups, self.pad, self.crop = spatial, groups, pad, crop
        self.channels = math.prod(self.shape[k] for k in self.order[carried[1] :])

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x) if self.spatial == 0 else self.maps(x)

    def features(self, x: Tensor) -> Tensor:
        """(*lead, *carried, channels) to (*lead, *carried', channels')."""
        before, after = self.carried
        x = functional.pad(x, (0, self.pad)) if self.pad else x
        lead = x.ndim - 1 - before
        x = x.reshape(*x.shape[:-1], *self.shape[before:])
        x = x.permute(*range(lead), *(lead + k for k in self.order))
        x = x.reshape(*x.shape[: lead + after], self.channels)
        return x.narrow(-1, 0, x.shape[-1] - self.crop) if self.crop else x

    def maps(self, x: Tensor) -> Tensor:
        """(n·carried, channels, *spatial) to (n·carried', channels', *spatial)."""
        count, positions = len(self.shape), x.shape[2:]
        if self.pad:
            blocks = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *positions)
            x = functional.pad(blocks, (0, 0) * self.spatial + (0, self.pad))
        x = x.reshape(-1, *self.shape, *positions)
        x = x.permute(0, *(1 + k for k in self.order), *range(1 + count, 1 + count + self.spatial))
        x = x.reshape(-1, self.channels, *positions)
        if self.crop:
            blocks = x.reshape(x.shape[0], self.groups, self.channels // self.groups, *positions)
            x = blocks.narrow(2, 0, blocks.shape[2] - self.crop).flatten(1, 2)
        return x

    def extra_repr(self) -> str:
        return f"{self.shape} by {self.order}, carried {self.carried}, pad={self.pad}, crop={self.crop}"


class Pad(nn.Module):
    """Uneven padding in front of a convolution (an even window with padding 'same')."""

    def __init__(self, pads: Sequence[int], mode: str) -> None:
        """Args: pads as `torch.nn.functional.pad` takes them, last dimension first; mode likewise."""
        super().__init__()
        self.pads, self.mode = list(pads), mode

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.pads, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.pads}, {self.mode}"


class Resizing(nn.Sequential):
    """Convolutions one after the other, some transposed, that take the `output_size` of a transposed one."""

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Args: x (n, channels, *positions); the output's positions, batch and channels before them or not."""
        for part in self:
            if isinstance(part, TRANSPOSED) and output_size is not None:
                x = part(x, sizes_after(part, x, output_size))
            else:
                x = part(x)
        return x


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def sizes_after(part: nn.Module, x: Tensor, wanted: Sequence[int]) -> list[int]:
    """Output sizes of one transposed convolution in a chain: those wanted, but on axes that it leaves alone."""
    conv = cast(nn.ConvTranspose2d, part)
    count = len(conv.kernel_size)
    each = zip(x.shape[-count:], wanted[-count:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    return [now if (k, s, p) == (1, 1, 0) else then for now, then, k, s, p in each]


def add_bias(x: Tensor, bias: Tensor, spatial: int) -> Tensor:
    """A bias (channels,) added to (.., channels, *positions), in the dtype of these (autocast's)."""
    return x + bias.to(x.dtype).reshape(-1, *[1] * spatial)


class AddBias(nn.Module):
    """A bias for channels that no convolution could add, because they were rearranged after it."""

    def __init__(self, bias: Tensor, spatial: int) -> None:
        super().__init__()
        self.bias, self.spatial = nn.Parameter(bias.detach().clone()), spatial

    def forward(self, x: Tensor) -> Tensor:
        return add_bias(x, self.bias, self.spatial)


class GroupedLinear(nn.Module):
    """A block-diagonal matrix on the last dimension, as a grouped 1x1 convolution."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int) -> None:
        """Args: weight (groups·new, summed); bias (groups·new,) or None."""
        super().__init__()
        count = weight.shape[1] * groups
        conv = nn.Conv1d(count, weight.shape[0], 1, groups=groups, bias=bias is not None, device="meta")
        self.conv = filled(conv, weight.unsqueeze(-1), bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.reshape(-1, x.shape[-1], 1))
        return y.reshape(*x.shape[:-1], y.shape[1])


class Closed(nn.Module):
    """A plain module that calls its parts in its own way: it counts as one where the order of modules is traced."""


class Chained(nn.Sequential):
    """A linear module in several steps, where `nn.TransformerEncoder` reads a weight and a bias.

    It asks them of its first layer to see whether they want gradients; no more is to be read from these.
    """

    @property
    def weight(self) -> nn.Parameter:
        """The first parameter."""
        return next(self.parameters())

    @property
    def bias(self) -> nn.Parameter:
        """The first parameter, too."""
        return self.weight


def rearrangements(stages: Stages, spatial: int) -> list[Rearrange | None]:
    """What must be rearranged before each stage and after the last; None where nothing must."""
    net = stages.net
    carried: Labels = ()
    channels = input_labels(net)
    found: list[Rearrange | None] = []
    for stage in stages.each:
        found.append(rearrange(net, (carried, channels), (stage.carried, stage.channels[0]), spatial, not found))
        carried, channels = stage.carried, stage.channels[1]
    found.append(rearrange(net, (carried, channels), ((), output_labels(net)), spatial, False, last=True))
    return found


def rearrange(
    net: TensorNetwork,
    before: tuple[Labels, Labels],
    after: tuple[Labels, Labels],
    spatial: int,
    first: bool,
    last: bool = False,
) -> Rearrange | None:
    """From one (carried, channels) layout to another, padding what comes in and cropping what goes out."""
    pad = surplus(net, "i") if first else 0
    crop = surplus(net, "o") if last else 0
    if before == after and not pad and not crop:
        return None
    labels = (*before[0], *before[1])
    order = [labels.index(x) for x in (*after[0], *after[1])]
    carried = (len(before[0]), len(after[0]))
    groups = net.size(net.batched)
    return Rearrange(net.shape(labels), order, carried, spatial=spatial, groups=groups, pad=pad, crop=crop)


def surplus(net: TensorNetwork, axis: str) -> int:
    """How many entries padding adds to an axis."""
    return next(net.size(fold.modes) for fold in net.folds if axis in fold.axes) - net.axes[axis]


def filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A module with these numbers in the place of its own."""
    with torch.no_grad():
        module.weight = nn.Parameter(weight.detach().clone().contiguous())
        if bias is not None:
            module.bias = nn.Parameter(bias.detach().clone())
    return module
