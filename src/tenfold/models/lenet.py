"""The two LeNets for 28 x 28 digits that compression papers are compared on."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeNet300(nn.Module):
    """LeNet-300-100: three linear layers (LeCun et al., Proc. IEEE 86, 1998; 266,610 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, 28, 28) -> (n, 10)."""
        hidden = torch.relu(self.fc1(images.flatten(1)))
        logits: Tensor = self.fc3(torch.relu(self.fc2(hidden)))
        return logits


class LeNet5(nn.Module):
    """LeNet-5 in Caffe's sizes, 20-50-500 (Han et al., NeurIPS 2015, table 1; 431,080 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, 28, 28) -> (n, 10)."""
        maps = torch.relu(functional.max_pool2d(self.conv1(images), 2))  # (n, 20, 12, 12)
        maps = torch.relu(functional.max_pool2d(self.conv2(maps), 2))  # (n, 50, 4, 4)
        logits: Tensor = self.fc2(torch.relu(self.fc1(maps.flatten(1))))
        return logits
