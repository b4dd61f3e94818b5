"""`nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d` as stages of smaller convolutions."""

from typing import cast

from torch import Tensor, nn

from tenfold.layers.rows import Pick, channels, padded, patches
from tenfold.layers.sliding import Module, Sliding, Window
from tenfold.layers.staged import Step
from tenfold.network import Stage, TensorNetwork


class Conv(Sliding):
    """A convolution whose kernel (o, i, *window), with `g` in front where it is grouped, is a tensor network.

    A stage with a window axis is a convolution with that axis's stride, padding and dilation.
    """

    replaces = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    channels = ("g", "o", "i")
    padding_mode: str

    def step(self, stage: Stage | None, net: TensorNetwork) -> Step:
        return Window(
            window=self.along(stage, self.kernel_size, 1),
            stride=self.along(stage, self.stride, 1),
            dilation=self.along(stage, self.dilation, 1),
            pads=self.along(stage, sides(self), (0, 0)),
            mode=self.padding_mode,
            groups=self.groups_of(stage, net),
        )

    @classmethod
    def input_rows(cls, module: nn.Module, x: Tensor, pick: Pick) -> tuple[Tensor, int]:
        conv = cast(Module, module)
        given = padded(x, sides(conv), conv.padding_mode)
        return patches(given, conv.kernel_size, conv.stride, conv.dilation, conv.groups, pick)

    @classmethod
    def output_rows(cls, module: nn.Module, y: Tensor, pick: Pick) -> tuple[Tensor, int]:
        conv = cast(Module, module)
        return channels(y, len(conv.kernel_size), conv.groups, pick)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == self.spatial + 1:  # torch takes a sample without a batch, too
            return super().forward(x.unsqueeze(0)).squeeze(0)
        return super().forward(x)


def sides(conv: "Module | Conv") -> list[tuple[int, int]]:
    """Entries that a convolution adds before and after each axis."""
    if conv.padding == "valid":
        return [(0, 0)] * len(conv.kernel_size)
    if conv.padding == "same":
        whole = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return [(n // 2, n - n // 2) for n in whole]
    return [(int(n), int(n)) for n in conv.padding]
