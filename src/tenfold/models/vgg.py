"""VGG-16 with batch norms for CIFAR: the thirteen convolutions of configuration D and one linear layer."""

from itertools import pairwise

from torch import Tensor, nn

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class CifarVGG16(nn.Module):
    """Configuration D of Simonyan and Zisserman (ICLR 2015, table 1), cut to 32 x 32 inputs (14,728,266 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for widths in _STAGES:
            for before, after in pairwise((channels, *widths)):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels = widths[-1]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 10)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, 32, 32) -> (n, 10)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
