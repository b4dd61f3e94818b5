"""Networks that several files of tests use."""

from torch import Tensor, nn


class WritesOver(nn.Module):
    """Adds to what a layer was given, in place, where it can."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.first, self.second, self.in_place = nn.Linear(5, 6), nn.Linear(6, 6, bias=False), in_place

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        z = self.second(y)
        if self.in_place:
            y += z
            return y
        return y + z
