"""ResNets for CIFAR with parameter-free shortcuts (He et al., arXiv 1512.03385, section 4.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ShortcutA(nn.Module):
    """Option A where the shape changes: every second pixel, the new channels zero, half on either side."""

    def __init__(self, channels: int, new_channels: int) -> None:
        super().__init__()
        self.before = (new_channels - channels) // 2
        self.after = new_channels - channels - self.before

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, new_channels, ceil(h / 2), ceil(w / 2))."""
        return functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the shortcut around them."""

    def __init__(self, channels: int, new_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, new_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(new_channels)
        self.conv2 = nn.Conv2d(new_channels, new_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(new_channels)
        same = stride == 1 and channels == new_channels
        self.shortcut: nn.Module = nn.Identity() if same else ShortcutA(channels, new_channels)

    def forward(self, maps: Tensor) -> Tensor:
        branch = torch.relu_(self.bn1(self.conv1(maps)))
        return torch.relu_(self.bn2(self.conv2(branch)) + self.shortcut(maps))


def _stage(channels: int, new_channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(channels, new_channels, stride)
    return nn.Sequential(first, *(BasicBlock(new_channels, new_channels, 1) for _ in range(1, blocks)))


class CifarResNet(nn.Module):
    """6 n + 2 layers: three stages of n blocks, 16, 32 and 64 channels wide.

    The names of its weights are those of the published ones (akamaster/pytorch_resnet_cifar10).

    Args:
        depth: 6 n + 2, as 20, 32, 44, 56, 110.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        assert rest == 0
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, 32, 32) -> (n, 10)."""
        maps = torch.relu_(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))  # (n, 64, 8, 8)
        logits: Tensor = self.linear(maps.mean((2, 3)))
        return logits
