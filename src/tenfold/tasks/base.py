"""`Task`: what outputs and targets look like, what is lost on them, and what they score."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from tenfold.protocols import Score


class Task(ABC):
    """What a network is for. Subclasses are final.

    Attributes:
        name: by which it is chosen.
        outputs: shape and type of what a network gives, in words.
        targets: shape and type of what it should have given, in words.
        scores: what makes each score, by name; the first is the task's own. Raises: TenfoldError without its extra.
    """

    name: ClassVar[str]
    outputs: ClassVar[str]
    targets: ClassVar[str]
    scores: ClassVar[Mapping[str, Callable[[], Score]]]

    @abstractmethod
    def suits(self, outputs: Tensor, targets: Tensor) -> bool:
        """Whether shapes and types are those of the task."""

    @abstractmethod
    def objection(self, outputs: Tensor, targets: Tensor) -> str:
        """What is wrong with the values of targets whose shapes and types suit; empty: nothing."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Scalar, a mean over what counts in the batch."""

    @abstractmethod
    def scored(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets as a score takes them, a row for each thing that counts."""
