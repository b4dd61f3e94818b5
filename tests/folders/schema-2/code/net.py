import torch
from parts import Tail
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.tail = Tail()
        self.scale = nn.Buffer(torch.full((6,), 0.5), persistent=False)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv1(x)))
        return self.tail((self.conv2(x) + x).mean(dim=(2, 3)) * self.scale)
