"""What tasks share in which every place of an output is one of several classes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tenfold.protocols import Score, TenfoldError
from tenfold.tasks.base import Task
from tenfold.tasks.metrics import Mean


@dataclass(frozen=True)
class Classes(Task):
    """Logits along an axis of the outputs, and the number of the right class at every place; they can be distilled.

    Attributes:
        ignore: the target of places that do not count.
        smoothing: share of the loss, 0 to below 1, that is towards all classes alike (Szegedy et al., CVPR 2016);
            scores have none of it.
        axis: of the classes in the outputs.
        dims: how many axes outputs may have.
    """

    ignore: int = -100
    smoothing: float = 0.0

    axis: ClassVar[int] = 1
    dims: ClassVar[tuple[int, ...]]

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise TenfoldError(f"labels cannot be smoothed by {self.smoothing}; use 0 (not at all) to below 1.")

    def suits(self, outputs: Tensor, targets: Tensor) -> bool:
        if outputs.ndim not in self.dims or not outputs.is_floating_point() or not is_whole(targets):
            return False
        sizes = list(outputs.shape)
        return sizes.pop(self.axis) > 1 and sizes == list(targets.shape)

    def objection(self, outputs: Tensor, targets: Tensor) -> str:
        targets, classes = targets.long(), outputs.shape[self.axis]
        wrong = targets[((targets < 0) | (targets >= classes)) & (targets != self.ignore)]
        if not len(wrong):
            return ""
        return (
            f"targets hold {wrong[0].item()}, where the outputs have classes 0 to {classes - 1} and {self.ignore} "
            f"stands for what does not count; Data(task=tenfold.tasks.{type(self).__name__}(ignore=...)) takes another."
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy of the places that count; 0 where none does."""
        logits, targets = self.logits(outputs), self.aligned(targets)
        total = functional.cross_entropy(
            logits, targets, ignore_index=self.ignore, reduction="sum", label_smoothing=self.smoothing
        )
        return total / (targets != self.ignore).sum().clamp(min=1)

    def scored(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (m, classes) and targets (m,) of the places that count."""
        counted = self.counted(targets)
        return self.logits(outputs).movedim(1, -1)[counted], self.aligned(targets)[counted]

    def logits(self, outputs: Tensor) -> Tensor:
        """(m, classes, ...), all axes before the classes as one; float32 at least."""
        return outputs.flatten(0, self.axis - 1).to(torch.promote_types(outputs.dtype, torch.float32))

    def counted(self, targets: Tensor) -> Tensor:
        """(m, ...), whether a place of `logits` counts."""
        return self.aligned(targets) != self.ignore

    def aligned(self, targets: Tensor) -> Tensor:
        """(m, ...), int64, place by place those of `logits`."""
        return targets.long().flatten(0, self.axis - 1)


def is_whole(tensor: Tensor) -> bool:
    """Whether its type is one of whole numbers."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)


def correct(logits: Tensor, targets: Tensor) -> tuple[float, int]:
    """How many of (m, classes) are largest at the target, and m."""
    return float((logits.argmax(dim=1) == targets).sum()), len(targets)


def accuracy(name: str) -> Score:
    """The share of places at which the largest logit is the target's, in per cent."""
    return Score(name, metric=lambda _: Mean(correct))
