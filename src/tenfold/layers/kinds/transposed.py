"""`nn.ConvTranspose1d`, `nn.ConvTranspose2d` and `nn.ConvTranspose3d` as stages of smaller ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from tenfold.layers.plain import filled
from tenfold.layers.rows import Pick, channels, padded, patches
from tenfold.layers.sliding import Sliding, Window
from tenfold.layers.staged import Step
from tenfold.network import Count, Positions, Stage, Stages, TensorNetwork, backwards
from tenfold.protocols import TenfoldError

Module = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
SPREAD = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
MODULES = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@dataclass(frozen=True)
class Spread(Step):
    """A grouped transposed convolution. On the axes whose window the stage does not hold it leaves positions alone.

    Attributes:
        window: size on every axis.
        padding: entries that are cropped on both sides, on every axis; output_padding: entries added behind.
        whole: whether it takes the dense weight, which lies as torch has it, and not the tensor of a stage.
    """

    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    whole: bool

    def shape(self, given: int, made: int) -> tuple[int, ...]:
        channels = (given, made // self.groups) if self.whole else (made, given // self.groups)
        return *channels, *self.window

    def kernel(self, weight: Tensor) -> Tensor:
        """A stage tensor (groups·new, summed, *held) as torch wants it, (groups·summed, new, *window)."""
        if self.whole:
            return weight
        grouped = weight.reshape(self.groups, -1, weight.shape[1], *self.window)
        return grouped.transpose(1, 2).flatten(0, 1).contiguous()

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        spread, kernel = SPREAD[len(self.window)], self.kernel(weight)
        return spread(x, kernel, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)

    def module(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        kernel = self.kernel(weight)
        build = cast(Callable[..., nn.Module], MODULES[len(self.window)])
        conv = build(
            kernel.shape[0],
            kernel.shape[1] * self.groups,
            self.window,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
            bias=bias is not None,
            dilation=self.dilation,
            device="meta",
        )
        return filled(conv, kernel, bias)

    def tensor(self, module: nn.Module) -> Tensor:
        kernel = super().tensor(module)
        return kernel if self.whole else kernel.reshape(self.groups, -1, *kernel.shape[1:]).transpose(1, 2)


class Transposed(Sliding):
    """A transposed convolution whose kernel (i, o, *window), `g` in front where it is grouped, is a tensor network.

    A stage with a window axis is a transposed convolution with that axis's stride, paddings and dilation; one without
    is an ordinary 1x1 convolution.
    """

    replaces = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    channels = ("g", "i", "o")

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        """As torch counts them: the inputs of the convolution the other way."""
        axes = cls.axes(module)[name]
        return float((3 * math.prod(size for axis, size in axes.items() if axis not in ("i", "g"))) ** -0.5)

    @classmethod
    def dense_macs(cls, name: str, axes: Mapping[str, int], positions: Positions) -> int:
        return math.prod(axes.values()) * math.prod(before for before, _ in positions.values())

    @classmethod
    def mac_count(cls, name: str, stages: Stages, positions: Positions) -> Count:
        """As many as the convolution the other way has, stage by stage."""
        return stages.mirrored().mac_count(backwards(positions))

    @classmethod
    def input_axes(cls, axes: Mapping[str, int]) -> tuple[str, ...]:
        return ("i",)

    @classmethod
    def input_rows(cls, module: nn.Module, x: Tensor, pick: Pick) -> tuple[Tensor, int]:
        conv = cast(Module, module)
        return channels(x, len(conv.kernel_size), conv.groups, pick)

    @classmethod
    def output_rows(cls, module: nn.Module, y: Tensor, pick: Pick) -> tuple[Tensor, int]:
        """Every input position writes a patch: the patches that the convolution the other way would read."""
        conv = cast(Module, module)
        whole = padded(y, [(int(n), int(n)) for n in conv.padding], "zeros")
        return patches(whole, conv.kernel_size, conv.stride, conv.dilation, conv.groups, pick)

    def step(self, stage: Stage | None, net: TensorNetwork) -> Step:
        if stage is not None and not stage.window:
            once, nothing = (1,) * self.spatial, ((0, 0),) * self.spatial
            return Window(once, once, once, nothing, "zeros", self.groups_of(stage, net))
        return Spread(
            window=self.along(stage, self.kernel_size, 1),
            stride=self.along(stage, self.stride, 1),
            dilation=self.along(stage, self.dilation, 1),
            padding=self.along(stage, self.padding, 0),
            output_padding=self.along(stage, self.output_padding, 0),
            groups=self.groups_of(stage, net),
            whole=stage is None,
        )

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Args: x (n, channels, *positions) or one sample; the output's positions, batch and channels before or not.

        Raises: TenfoldError for an output size that the stride cannot give.
        """
        if x.ndim == self.spatial + 1:
            return self.forward(x.unsqueeze(0), output_size).squeeze(0)
        steps = None if output_size is None else self.steps_to(x, output_size)
        y: Tensor = self.chain(x, self.weight(), self.bias, steps)
        return y

    def steps_to(self, x: Tensor, output_size: Sequence[int]) -> list[Step]:
        """The chain's steps with the output padding that gives this size."""
        extra = self.extra(x.shape[-self.spatial :], output_size[-self.spatial :])
        stages = (None,) if self.weight.stages.rebuilds else self.weight.stages.each
        return [
            replace(step, output_padding=self.along(stage, extra, 0)) if isinstance(step, Spread) else step
            for stage, step in zip(stages, self.chain.steps, strict=True)
        ]

    def extra(self, given: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
        """The output padding of every axis for these positions before and after."""
        each = zip(given, self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in each]
        found = tuple(size - low for size, low in zip(wanted, least, strict=True))
        if not all(0 <= n < s for n, s in zip(found, self.stride, strict=True)):
            most = [low + s - 1 for low, s in zip(least, self.stride, strict=True)]
            raise TenfoldError(f"no output of {list(wanted)} from {list(given)}; use {least} to {most}.")
        return found
