"""ResNet-18 and ResNet-50 for ImageNet (He et al., arXiv 1512.03385, table 1), named and shaped as in torchvision."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _shortcut(channels: int, new_channels: int, stride: int) -> nn.Sequential | None:
    """Option B: a strided 1 x 1 convolution where the shape changes, else nothing."""
    if stride == 1 and channels == new_channels:
        return None
    projection = nn.Conv2d(channels, new_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(new_channels))


class Basic(nn.Module):
    """Two 3 x 3 convolutions of `width` channels."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        kept = maps if self.downsample is None else self.downsample(maps)
        branch = torch.relu_(self.bn1(self.conv1(maps)))
        return torch.relu_(self.bn2(self.conv2(branch)) + kept)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions; the 3 x 3 has the stride, as in torchvision ("v1.5")."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        kept = maps if self.downsample is None else self.downsample(maps)
        branch = torch.relu_(self.bn1(self.conv1(maps)))
        branch = torch.relu_(self.bn2(self.conv2(branch)))
        return torch.relu_(self.bn3(self.conv3(branch)) + kept)


Block = type[Basic] | type[Bottleneck]


def _stage(block: Block, channels: int, width: int, stride: int, blocks: int) -> nn.Sequential:
    later = (block(block.expansion * width, width, 1) for _ in range(1, blocks))
    return nn.Sequential(block(channels, width, stride), *later)


class ImageNetResNet(nn.Module):
    """Four stages of blocks, 64, 128, 256 and 512 wide, for 224 x 224 images and 1,000 classes.

    Args:
        block: `Basic` or `Bottleneck`.
        blocks: how many in each of the four stages.
    """

    def __init__(self, block: Block, blocks: Sequence[int]) -> None:
        super().__init__()
        wide = block.expansion
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(block, 64, 64, 1, blocks[0])
        self.layer2 = _stage(block, 64 * wide, 128, 2, blocks[1])
        self.layer3 = _stage(block, 128 * wide, 256, 2, blocks[2])
        self.layer4 = _stage(block, 256 * wide, 512, 2, blocks[3])
        self.fc = nn.Linear(512 * wide, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, 224, 224) -> (n, 1000)."""
        maps = self.maxpool(torch.relu_(self.bn1(self.conv1(images))))  # (n, 64, 56, 56)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))  # (n, 512 wide, 7, 7)
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits
