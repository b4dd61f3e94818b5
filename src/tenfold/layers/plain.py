"""The modules besides torch's own that a lowered layer may hold: reshapes, permutes and paddings, no numbers."""

import math
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any, ClassVar, Protocol, Self, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tenfold.layers.tensor_like import Rebuilt
from tenfold.network import Labels, Stages, TensorNetwork, input_labels, output_labels


class Closed(nn.Module):
    """A plain module that calls its parts in its own way: one node wherever the order of modules is traced."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        proxy = next((each for each in (*args, *kwargs.values()) if isinstance(each, fx.Proxy)), None)
        if proxy is None:
            return super().__call__(*args, **kwargs)
        tracer = cast(fx.Tracer, proxy.tracer)
        return tracer.create_proxy("call_module", tracer.path_of_module(self), args, kwargs)


class Rearrange(Closed):
    """Split channels into labels, permute, and flatten to other channels.

    The layout before and after is (carried labels, channel labels). With `spatial` dimensions the carried labels ride
    in the batch: (n·carried, channels, *spatial). Without, they are one dimension after the leading ones, where there
    are any: (*lead, carried, channels), which is what `nn.Linear` takes. No tensor has more than 5 dimensions, unless
    it has them before: a permutation of many labels is several of few blocks.
    """

    moves: list[tuple[list[int], list[int], int]]
    made: list[int]

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
        self.moves = moves(shape, order)
        self.spatial, self.groups, self.pad, self.crop = spatial, groups, pad, crop
        after = [shape[k] for k in order]
        self.before, self.made = int(carried[0] > 0), [math.prod(after[: carried[1]])] if carried[1] else []
        self.channels = math.prod(after[carried[1] :])

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x) if self.spatial == 0 else self.maps(x)

    def features(self, x: Tensor) -> Tensor:
        """(*lead, carried, channels) to (*lead, carried', channels')."""
        x = functional.pad(x, [0, self.pad]) if self.pad else x
        lead = list(x.shape[: x.dim() - 1 - self.before])
        x = self.moved(x, 1).reshape(lead + self.made + [self.channels])
        return x.narrow(-1, 0, x.shape[-1] - self.crop) if self.crop else x

    def maps(self, x: Tensor) -> Tensor:
        """(n·carried, channels, *spatial) to (n·carried', channels', *spatial)."""
        positions = list(x.shape[2:])
        if self.pad:
            x = functional.pad(self.blocks(x), [0, 0] * self.spatial + [0, self.pad])
        places = 1
        for size in positions:
            places *= size
        x = self.moved(x, places).reshape([-1, self.channels] + positions)  # noqa: RUF005  (TorchScript knows no stars)
        if self.crop:
            blocks = self.blocks(x)
            x = blocks.narrow(2, 0, blocks.shape[2] - self.crop).flatten(1, 2)
        return x

    def moved(self, x: Tensor, places: int) -> Tensor:
        """All labels in their order, whatever shape they have; each with so many places."""
        for sizes, order, rest in self.moves:
            x = x.reshape([-1] + sizes + [rest * places])  # noqa: RUF005
            x = x.permute([0] + [1 + k for k in order] + [1 + len(sizes)])
        return x

    def blocks(self, x: Tensor) -> Tensor:
        """(n, channels, *spatial) to (n, groups, channels of one, *spatial)."""
        return x.reshape([x.shape[0], self.groups, x.shape[1] // self.groups] + list(x.shape[2:]))  # noqa: RUF005

    def extra_repr(self) -> str:
        return f"{self.shape} by {self.order}, carried {self.carried}, pad={self.pad}, crop={self.crop}"


MOST_BLOCKS = 3  # that change places at once, between what stays before them and what stays behind


def moves(shape: Sequence[int], order: Sequence[int]) -> list[tuple[list[int], list[int], int]]:
    """A permutation of labels as permutations of few blocks, one after the other.

    Args: shape: sizes of the labels; order: the permutation, as `Tensor.permute` takes it.
    Returns: for each: sizes of the blocks that change places, their order, and the size of all that is behind them.
    """
    goal, found = [k for k in order if shape[k] > 1], []  # a label of size 1 is wherever it should be
    state = sorted(goal)
    while state != goal:
        wrong = [k for k, (one, other) in enumerate(zip(state, goal, strict=True)) if one != other]
        begin, end = wrong[0], wrong[-1] + 1
        before = together(state[begin:end], goal)
        after = sorted(before, key=lambda block: goal.index(block[0]))
        behind: list[int] = []
        if len(before) > MOST_BLOCKS:  # the block that belongs in front changes places with all before it
            at = before.index(after[0])
            behind = list(chain(*before[at + 1 :]))
            before = [list(chain(*before[:at])), before[at]]
            after = before[::-1]
        rest = behind + state[end:]
        sizes = [math.prod(shape[k] for k in block) for block in before]
        found.append((sizes, [before.index(block) for block in after], math.prod(shape[k] for k in rest)))
        state = [*state[:begin], *chain(*after), *rest]
    return found


def together(labels: Sequence[int], goal: Sequence[int]) -> list[list[int]]:
    """Labels in blocks that stay together on the way to a goal."""
    blocks = [[labels[0]]]
    for before, label in pairwise(labels):
        if goal.index(label) == goal.index(before) + 1:
            blocks[-1].append(label)
        else:
            blocks.append([label])
    return blocks


class Pad(Closed):
    """Uneven padding in front of a convolution (an even window with padding 'same')."""

    def __init__(self, pads: Sequence[int], mode: str) -> None:
        """Args: pads as `torch.nn.functional.pad` takes them, last dimension first; mode likewise."""
        super().__init__()
        self.pads, self.mode = list(pads), mode

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.pads, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.pads}, {self.mode}"


class Reader(Protocol):
    """Finds the weight that the parts of a `StandIn` stand for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        ...

    def read(self, plain: "StandIn") -> Tensor:
        """The weight."""
        ...


class StandIn(nn.Sequential):
    """Plain modules, one after the other, in the place of one module, whose weight and bias they answer for."""

    __constants__: ClassVar = ["columns"]
    __jit_ignored_attributes__: ClassVar = ["reader"]
    reader: Reader
    columns = 0  # of the matrix (o, i) that the modules stand for; 0 for any other weight
    unseen = False  # whether torch's functions are to take the weight for no tensor

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """`output_size`: of a transposed convolution; the output's positions, batch and channels before or not."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            for part in self:
                input = part(input)
        else:
            for part in self:
                input = part(input) if output_size is None else resized(part, input, output_size)
        return input

    @property
    def weight(self) -> Tensor:
        """The dense weight, rebuilt where it is read; in Python without being a tensor."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.answered()
        else:  # (TorchScript looks at one of the two)
            return self.rebuilt()

    def answered(self) -> Tensor:
        """A matrix (o, i), from what the modules make of every unit vector.

        Raises: NotImplementedError where they stand for another weight.
        """
        if self.columns == 0:
            raise NotImplementedError("in TorchScript, only weights of linear layers are rebuilt where they are read.")
        like = torch.zeros(1)
        for part in self:
            if hasattr(part, "conv"):  # `GroupedLinear`, whose properties `hasattr` does not see in TorchScript
                like = part.conv.weight  # type: ignore
            elif hasattr(part, "weight"):
                like = part.weight  # type: ignore[assignment]
        units = torch.eye(self.columns, dtype=like.dtype, device=like.device)
        return (self.forward(units, None) - self.forward(torch.zeros_like(units), None)).mT

    @torch.jit.unused
    def rebuilt(self) -> Tensor:
        """The weight as a `Rebuilt`."""
        parameters = list(self.parameters())
        trained = any(each.requires_grad for each in parameters)
        found = Rebuilt(
            self.reader.shape, parameters[0].dtype, parameters[0].device, trained, lambda: self.reader.read(self)
        )
        if self.unseen:
            found.unseen()
        return cast(Tensor, found)

    @property  # not annotated, because TorchScript finds out by itself whether there is one
    def bias(self):  # type: ignore[no-untyped-def]
        """That of the last part, if it has one."""
        last = self[-1]
        return last.conv.bias if hasattr(last, "conv") else last.bias if hasattr(last, "bias") else None  # type: ignore[union-attr]


class Batched(Closed):
    """Parts in a row that need a batch, on images with one or without."""

    def __init__(self, parts: Sequence[nn.Module], spatial: int) -> None:
        super().__init__()
        self.parts, self.spatial = StandIn(*parts), spatial

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        alone = x.dim() == self.spatial + 1
        y: Tensor = self.parts(x.unsqueeze(0) if alone else x, output_size)
        return y.squeeze(0) if alone else y


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def resized(part: nn.Module, x: Tensor, output_size: Sequence[int]) -> Tensor:
    """One part of a transposed convolution that is to have outputs of a size."""
    y: Tensor
    if isinstance(part, Batched):
        y = part(x, output_size)
    else:
        y = part(x, sizes_after(part, x, output_size)) if isinstance(part, TRANSPOSED) else part(x)
    return y


def sizes_after(part: nn.Module, x: Tensor, wanted: Sequence[int]) -> list[int]:
    """Output sizes of one transposed convolution in a chain: those wanted, but on axes that it leaves alone."""
    conv = cast(nn.ConvTranspose2d, part)
    count = len(conv.kernel_size)
    each = zip(x.shape[-count:], wanted[-count:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    return [now if (k, s, p) == (1, 1, 0) else then for now, then, k, s, p in each]


def with_batch(parts: Sequence[nn.Module], spatial: int) -> list[nn.Module]:
    """Parts of a convolution, those between the first and the last rearrangement in one that sees to the batch."""
    at = [k for k, part in enumerate(parts) if isinstance(part, Rearrange)]
    if not spatial or not at:
        return list(parts)
    first, end = at[0], at[-1] + 1
    return [*parts[:first], Batched(parts[first:end], spatial), *parts[end:]]


def add_bias(x: Tensor, bias: Tensor, spatial: int) -> Tensor:
    """A bias (channels,) added to (.., channels, *positions), in the dtype of these (autocast's)."""
    return x + bias.to(x.dtype).reshape([-1] + [1] * spatial)


class AddBias(Closed):
    """A bias for channels that no convolution could add, because they were rearranged after it."""

    def __init__(self, bias: Tensor, spatial: int) -> None:
        super().__init__()
        self.bias, self.spatial = nn.Parameter(bias.detach().clone()), spatial

    def forward(self, x: Tensor) -> Tensor:
        return add_bias(x, self.bias, self.spatial)


class GroupedLinear(Closed):
    """A block-diagonal matrix on the last dimension, as a grouped 1x1 convolution."""

    __jit_unused_properties__: ClassVar = ["weight", "bias"]

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int) -> None:
        """Args: weight (groups·new, summed); bias (groups·new,) or None."""
        super().__init__()
        count = weight.shape[1] * groups
        conv = nn.Conv1d(count, weight.shape[0], 1, groups=groups, bias=bias is not None, device="meta")
        self.conv = filled(conv, weight.unsqueeze(-1), bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.reshape(-1, x.shape[-1], 1))
        return y.reshape(list(x.shape[:-1]) + [y.shape[1]])  # noqa: RUF005  (TorchScript knows no stars)

    @property
    def weight(self) -> Tensor:
        """The blocks, one below the other."""
        return cast(Tensor, self.conv.weight).squeeze(-1)

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias of all blocks."""
        return cast(nn.Parameter | None, self.conv.bias)


class Numbers(nn.ParameterList):
    """Parameters that are no images, whatever their dimensions: `memory_format` does not concern them."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        apply = cast(Callable[..., Self], super()._apply)
        return apply(lambda x: fn(x[(None,) * 6])[(0,) * 6], recurse)  # images have 4 or 5 dimensions


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
