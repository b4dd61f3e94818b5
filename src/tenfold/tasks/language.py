"""The next token after each token."""

import math
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from tenfold.protocols import Score
from tenfold.tasks.classes import Classes, accuracy
from tenfold.tasks.metrics import Mean


def surprise(logits: Tensor, targets: Tensor) -> tuple[float, int]:
    """Cross entropy of (m, vocabulary) against (m,), summed, and m."""
    return functional.cross_entropy(logits, targets, reduction="none").double().sum().item(), len(targets)


def exp(mean: float) -> float:
    """Infinity where a float64 holds no more."""
    return math.exp(mean) if mean < 709 else math.inf


def perplexity() -> Score:
    """exp of the mean cross entropy of all tokens.

    Not that of torchmetrics, which takes the logarithm of a softmax: infinite once logits lie 104 apart.
    """
    return Score("perplexity", higher_is_better=False, scale=1.0, metric=lambda _: Mean(surprise, exp))


class Language(Classes):
    """The next token after each token: logits at place k are judged by the target at place k + 1."""

    name = "language"
    outputs = "(n, t, vocabulary)"
    targets = "(n, t) of whole numbers"
    axis = 2
    dims = (3,)
    scores: ClassVar = {"perplexity": perplexity, "token accuracy": lambda: accuracy("token accuracy")}

    def aligned(self, targets: Tensor) -> Tensor:
        return super().aligned(functional.pad(targets.long()[:, 1:], (0, 1), value=self.ignore))  # none after the last
