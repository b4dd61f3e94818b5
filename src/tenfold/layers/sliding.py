"""Stages with windows: a stage slides along the axes whose window it holds; shared by convolutions of both kinds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar, cast

from torch import Tensor, nn
from torch.nn import functional

from tenfold.layers.plain import Pad, filled
from tenfold.layers.staged import Staged, Step
from tenfold.network import Labels, Positions, Stage, TensorNetwork

Module = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
MODULES = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
T = TypeVar("T")
AXES = {1: ("h",), 2: ("h", "w"), 3: ("d", "h", "w")}


@dataclass(frozen=True)
class Window(Step):
    """A grouped convolution. On the axes whose window the stage does not hold it has size, stride and dilation 1.

    Attributes:
        window: size on every axis.
        pads: entries to add before and after, on every axis.
        mode: the convolution's padding mode.
    """

    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    mode: str
    groups: int

    @property
    def uneven(self) -> bool:
        """Whether some axis is padded more on one side than on the other."""
        return any(before != after for before, after in self.pads)

    @property
    def inside(self) -> tuple[int, ...]:
        """What the convolution module pads by itself."""
        return tuple(0 if self.uneven else before for before, _ in self.pads)

    @property
    def ahead(self) -> list[int]:
        """The pads as `torch.nn.functional.pad` takes them: the last axis first."""
        return [n for side in reversed(self.pads) for n in side]

    @property
    def fill(self) -> str:
        """The name that `torch.nn.functional.pad` has for the mode."""
        return "constant" if self.mode == "zeros" else self.mode

    def shape(self, given: int, made: int) -> tuple[int, ...]:
        return made, given // self.groups, *self.window

    def kernel(self, weight: Tensor) -> Tensor:
        """A stage tensor (groups·new, summed, *held) as a convolution weight."""
        return weight.reshape(weight.shape[0], weight.shape[1], *self.window)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolve, kernel = CONVOLVE[len(self.window)], self.kernel(weight)
        if self.uneven or (any(self.inside) and self.mode != "zeros"):
            x = functional.pad(x, self.ahead, mode=self.fill)
            return convolve(x, kernel, bias, self.stride, 0, self.dilation, self.groups)
        return convolve(x, kernel, bias, self.stride, self.inside, self.dilation, self.groups)

    def module(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        kernel = self.kernel(weight)
        build = cast(Callable[..., nn.Module], MODULES[len(self.window)])
        conv = build(
            kernel.shape[1] * self.groups,
            kernel.shape[0],
            self.window,
            stride=self.stride,
            padding=self.inside,
            dilation=self.dilation,
            groups=self.groups,
            bias=bias is not None,
            padding_mode=self.mode if any(self.inside) else "zeros",
            device="meta",
        )
        conv = filled(conv, kernel, bias)
        return nn.Sequential(Pad(self.ahead, self.fill), conv) if self.uneven else conv


class Sliding(Staged):
    """A layer of which a stage slides along those axes only whose window it holds; elsewhere it is 1x1.

    State labels that a stage multiplies element by element are its groups.
    """

    channels: ClassVar[Labels]  # groups and channels in the weight's order
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[int, ...]

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        conv = cast(Module, module)
        sizes = {"g": conv.groups, "o": conv.out_channels // conv.groups, "i": conv.in_channels // conv.groups}
        channels = {axis: sizes[axis] for axis in cls.channels if axis != "g" or conv.groups > 1}
        return {"weight": {**channels, **dict(zip(AXES[len(conv.kernel_size)], conv.kernel_size, strict=True))}}

    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        x, count = given[0], len(cast(Module, module).kernel_size)
        sizes = zip(x.shape[-count:], result.shape[-count:], strict=True)
        return dict(zip(AXES[count], sizes, strict=True)), x.shape[0] if x.ndim > count + 1 else 1

    def describe(self, module: nn.Module) -> None:
        self.spatial = len(cast(Module, module).kernel_size)

    def along(self, stage: Stage | None, values: Sequence[T], elsewhere: T) -> tuple[T, ...]:
        """Values by axis, those of axes whose window the stage does not hold replaced."""
        held = [stage is None or axis in stage.window for axis in AXES[self.spatial]]
        return tuple(value if h else elsewhere for value, h in zip(values, held, strict=True))

    def groups_of(self, stage: Stage | None, net: TensorNetwork) -> int:
        """The groups of a stage; those of the module where the whole weight is one."""
        return self.groups if stage is None else net.size(stage.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, groups={self.groups}, bias={self.bias is not None}"
        )
