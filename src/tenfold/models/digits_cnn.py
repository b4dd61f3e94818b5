"""A small convolutional network for the 8 x 8 digits of scikit-learn, wide enough to be worth compressing."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class DigitsCNN(nn.Module):
    """Four convolutions with batch norms and one linear layer (132,394 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 96, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(96)
        self.conv4 = nn.Conv2d(96, 64, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(64)
        self.linear = nn.Linear(64 * 2 * 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, 8, 8) -> (n, 10)."""
        maps = torch.relu(self.bn1(self.conv1(images)))
        maps = functional.max_pool2d(torch.relu(self.bn2(self.conv2(maps))), 2)  # (n, 64, 4, 4)
        maps = torch.relu(self.bn3(self.conv3(maps)))
        maps = functional.max_pool2d(torch.relu(self.bn4(self.conv4(maps))), 2)  # (n, 64, 2, 2)
        logits: Tensor = self.linear(maps.flatten(1))
        return logits
