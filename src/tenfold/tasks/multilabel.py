"""Any number of labels for each sample."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from tenfold.protocols import Score
from tenfold.tasks.base import Task
from tenfold.tasks.metrics import Mean, from_torchmetrics


def mean_average_precision() -> Score:
    """Average precision of a label over all samples, in per cent; the mean over labels, 0 for one that never occurs."""
    return from_torchmetrics("mAP", "MultilabelAveragePrecision")


def told_apart(predicted: Tensor, targets: Tensor) -> tuple[float, int]:
    """How many of (n, labels) lie on the right side of 1/2, and how many there are."""
    return float(((predicted > 0.5) == (targets > 0)).sum()), targets.numel()


class MultiLabel(Task):
    """Any number of labels for each sample: a logit, and a 1 or 0, for each."""

    name = "multi-label"
    outputs = "(n, labels)"
    targets = "(n, labels) of 0 and 1"
    scores: ClassVar = {
        "mAP": mean_average_precision,
        "label accuracy": lambda: Score("label accuracy", metric=lambda _: Mean(told_apart)),
    }

    def suits(self, outputs: Tensor, targets: Tensor) -> bool:
        return outputs.ndim == 2 and outputs.is_floating_point() and outputs.shape == targets.shape

    def objection(self, outputs: Tensor, targets: Tensor) -> str:
        wrong = targets[(targets != 0) & (targets != 1)]
        return f"targets hold {wrong[0].item():.4g}; a label that is there has 1, another 0." if len(wrong) else ""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross entropy."""
        return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))

    def scored(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities, float64, and 0 or 1, int64; (n, labels) both."""
        return outputs.double().sigmoid(), targets.long()
