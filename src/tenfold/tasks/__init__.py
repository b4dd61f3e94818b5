"""What networks are for: shapes, losses and scores, by name."""

from tenfold.tasks.base import Task
from tenfold.tasks.classification import Classification
from tenfold.tasks.language import Language
from tenfold.tasks.multilabel import MultiLabel
from tenfold.tasks.objective import Objective, Running
from tenfold.tasks.registry import TASKS, task_named
from tenfold.tasks.regression import Regression
from tenfold.tasks.segmentation import Segmentation
from tenfold.tasks.tokens import Tokens

__all__ = [
    "TASKS", "Classification", "Language", "MultiLabel", "Objective", "Regression", "Running", "Segmentation", "Task",
    "Tokens", "task_named",
]  # fmt: skip
