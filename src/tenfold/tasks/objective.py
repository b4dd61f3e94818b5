"""`Objective`: what a network is trained for and judged by, on some data."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tenfold.inputs.containers import held, tensors_in
from tenfold.named import foreign
from tenfold.protocols import Data, Metric, Score, TenfoldError, near_misses
from tenfold.tasks.base import Task
from tenfold.tasks.classes import Classes
from tenfold.tasks.metrics import Mean
from tenfold.tasks.outputs import lone, picked
from tenfold.tasks.refusal import expect, said
from tenfold.tasks.registry import task_named


@dataclass(frozen=True)
class Objective:
    """The task of some data, and the loss and score that the data gives in place of the task's own."""

    data: Data
    task: Task
    score: Score

    @classmethod
    def of(cls, data: Data) -> "Objective":
        """Raises: TenfoldError if there is no such task or score, or if the score needs an extra that is missing."""
        task = data.task if isinstance(data.task, Task) else task_named(data.task)
        return cls(data, task, data.score if isinstance(data.score, Score) else score_named(task, data.score))

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Scalar. Raises: TenfoldError where the task does not take such outputs or targets."""
        if self.data.loss is not None:
            return self.data.loss(self.given(outputs), batch)
        return self.task.loss(*self.expected(outputs, batch))

    @property
    def distils(self) -> bool:
        """Whether the task has classes, which one network can learn from another."""
        return isinstance(self.task, Classes)

    def check_distils(self) -> None:
        """Raise a TenfoldError unless there are classes to distil."""
        if not self.distils:
            raise TenfoldError(
                f"distillation compares classes, and task '{self.task.name}' has none; leave out distill and teacher."
            )

    def logits(self, outputs: Any) -> Tensor:
        """What distillation compares, (m, classes, ...). Raises: TenfoldError for outputs without the task's axes."""
        assert isinstance(self.task, Classes)
        tensor = self.tensor(outputs)
        if tensor.ndim not in self.task.dims or not tensor.is_floating_point():
            raise TenfoldError(
                f"distillation for task '{self.task.name}' takes floating outputs {self.task.outputs}, not "
                f"{said(tensor)}; choose the task that the network is for, or leave out distill and teacher."
            )
        return self.task.logits(tensor)

    def compared(self, outputs: Any) -> list[Tensor]:
        """What of the outputs counts where no labels are: of classes the logits about their mean, else all that is
        floating.
        """
        logits = self.classes(outputs)
        return self.floating(outputs) if logits is None else [logits - logits.mean(1, keepdim=True)]

    def classes(self, outputs: Any) -> Tensor | None:
        """(m, classes, ...), where that is what counts of the outputs; None for other tasks, and of a single column."""
        found = self.floating(outputs)
        if not isinstance(self.task, Classes) or len(found) != 1 or found[0].ndim not in self.task.dims:
            return None
        return self.task.logits(found[0]) if found[0].shape[self.task.axis] > 1 else None

    def floating(self, outputs: Any) -> list[Tensor]:
        """What is floating of the output that was asked for; its `logits` alone, where it has some."""
        given = self.given(outputs)
        logits = (held(given) or {}).get("logits")
        return [x for x in tensors_in(given if logits is None else logits) if x.is_floating_point()]

    @property
    def told(self) -> str:
        """`compared` in words, by which it is told from what counts of other data."""
        return f"task '{self.task.name}', output {self.data.output or 'all'}"

    def counted(self, batch: Any) -> Tensor | None:
        """(m, ...), which places of `logits` count; None: all, where a loss of the data's own reads the targets."""
        assert isinstance(self.task, Classes)
        return None if self.data.loss is not None else self.task.counted(self.data.targets(batch))

    def expected(self, outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """Outputs and targets of a batch that the task takes."""
        tensor, targets = self.tensor(outputs), self.data.targets(batch)
        expect(self.task, tensor, targets)
        return tensor, targets

    def tensor(self, outputs: Any) -> Any:
        """The output that the task is about."""
        return lone(outputs) if self.data.output is None else picked(outputs, self.data.output)

    def given(self, outputs: Any) -> Any:
        """The output that was asked for; all of them where none was."""
        return outputs if self.data.output is None else picked(outputs, self.data.output)


class Running:
    """A score while batches come in: the same however they are cut."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.score = objective, objective.score
        self.metric: Metric | None = None

    def update(self, outputs: Any, batch: Any) -> None:
        """Add a batch. Raises: TenfoldError where the task does not take it, or whatever measures it fails."""
        if self.score.metric is None:
            pair = self.objective.given(outputs), batch
        else:
            pair = self.objective.task.scored(*self.objective.expected(outputs, batch))
            if not len(pair[1]):
                return
        with foreign(f"score '{self.score.name}'"):
            if self.metric is None:
                self.metric = self.empty(pair[0])
            self.metric.update(*pair)

    def empty(self, outputs: Any) -> Metric:
        """What gathers this score, empty."""
        if self.score.metric is not None:
            return self.score.metric(outputs)
        assert self.score.measure is not None
        return Mean(self.score.measure)

    def compute(self) -> float | None:
        """In the score's unit; None where nothing was counted."""
        if self.metric is None:
            return None
        with foreign(f"score '{self.score.name}'"):
            value = self.metric.compute()
        return None if value is None else self.score.scale * float(value)


def score_named(task: Task, name: str | None) -> Score:
    """A score of a task; its own where none is named."""
    known = {each.lower(): make for each, make in task.scores.items()}
    if name is None:
        return next(iter(known.values()))()
    if name.lower() not in known:
        raise TenfoldError(f"task '{task.name}' has no score '{name}'{near_misses(name, task.scores)}")
    return known[name.lower()]()
