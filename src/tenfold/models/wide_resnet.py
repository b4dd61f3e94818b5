"""Wide ResNets for CIFAR (Zagoruyko and Komodakis, BMVC 2016, arXiv 1605.07146, table 1)."""

import torch
from torch import Tensor, nn


class PreactivatedBlock(nn.Module):
    """Norm and ReLU before each of two 3 x 3 convolutions; a 1 x 1 convolution where the width changes."""

    def __init__(self, channels: int, new_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, new_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(new_channels)
        self.conv2 = nn.Conv2d(new_channels, new_channels, 3, padding=1, bias=False)
        same = channels == new_channels
        self.shortcut = None if same else nn.Conv2d(channels, new_channels, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        active = torch.relu_(self.bn1(maps))
        kept = maps if self.shortcut is None else self.shortcut(active)
        branch: Tensor = self.conv2(torch.relu_(self.bn2(self.conv1(active))))
        return branch + kept


def _stage(channels: int, new_channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = PreactivatedBlock(channels, new_channels, stride)
    return nn.Sequential(first, *(PreactivatedBlock(new_channels, new_channels, 1) for _ in range(1, blocks)))


class WideResNet(nn.Module):
    """6 n + 4 layers: three stages of n blocks, 16, 32 and 64 channels wide, times `widen`.

    Args:
        depth: 6 n + 4, as 28.
        widen: 10 gives 160, 320 and 640 channels.
    """

    def __init__(self, depth: int, widen: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        assert rest == 0
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, 16 * widen, 1, blocks)
        self.layer2 = _stage(16 * widen, 32 * widen, 2, blocks)
        self.layer3 = _stage(32 * widen, 64 * widen, 2, blocks)
        self.bn = nn.BatchNorm2d(64 * widen)
        self.linear = nn.Linear(64 * widen, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, 32, 32) -> (n, 10)."""
        maps = self.layer3(self.layer2(self.layer1(self.conv1(images))))  # (n, 64 widen, 8, 8)
        logits: Tensor = self.linear(torch.relu_(self.bn(maps)).mean((2, 3)))
        return logits
