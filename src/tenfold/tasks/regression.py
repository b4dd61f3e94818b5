"""Numbers."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tenfold.protocols import Score
from tenfold.tasks.base import Task
from tenfold.tasks.metrics import Mean


def squares(outputs: Tensor, targets: Tensor) -> tuple[float, int]:
    """Squared errors, summed, and how many there are."""
    return (outputs - targets).square().sum().item(), targets.numel()


def mean_squared_error() -> Score:
    """Over all numbers of all samples."""
    return Score("mean squared error", higher_is_better=False, scale=1.0, metric=lambda _: Mean(squares))


class Explained:
    """Share of the variance of targets (n, numbers) that is explained; the mean over the numbers of a sample.

    Where targets are constant it is 1 without an error, and 0 with one. Not that of torchmetrics, which takes targets
    for constant whose squared deviations sum to less than 1e-4, whatever their unit.
    """

    def __init__(self, outputs: Tensor) -> None:
        self.count = 0
        self.origin, self.sum, self.squares, self.errors = (outputs.new_zeros(outputs.shape[1]) for _ in range(4))

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if not self.count:
            self.origin = targets[0]  # squares far from the origin would cancel
        self.count += len(targets)
        self.sum = self.sum + (targets - self.origin).sum(dim=0)
        self.squares = self.squares + (targets - self.origin).square().sum(dim=0)
        self.errors = self.errors + (outputs - targets).square().sum(dim=0)

    def compute(self) -> float | None:
        if self.count < 2:
            return None
        around_mean = (self.squares - self.sum.square() / self.count).clamp(min=0)
        explained = torch.where(around_mean > 0, 1 - self.errors / around_mean, (self.errors == 0).double())
        return explained.mean().item()


def r2() -> Score:
    """Share of the variance that is explained."""
    return Score("R2", scale=1.0, metric=Explained)


class Regression(Task):
    """Numbers, as many for a sample as one likes."""

    name = "regression"
    outputs = "(n, ...)"
    targets = "of the same shape and floating"
    scores: ClassVar = {"mean squared error": mean_squared_error, "R2": r2}

    def suits(self, outputs: Tensor, targets: Tensor) -> bool:
        alike = outputs.shape == targets.shape and outputs.ndim > 0
        return alike and outputs.is_floating_point() and targets.is_floating_point()

    def objection(self, outputs: Tensor, targets: Tensor) -> str:
        return ""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error."""
        return functional.mse_loss(outputs, targets.to(outputs.dtype))

    def scored(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(n, numbers) both, float64."""
        return outputs.double().reshape(len(outputs), -1), targets.double().reshape(len(targets), -1)
