"""Tasks by name. A new one is a file beside this one and a line here."""

from tenfold.protocols import TenfoldError, near_misses
from tenfold.tasks.base import Task
from tenfold.tasks.classification import Classification
from tenfold.tasks.language import Language
from tenfold.tasks.multilabel import MultiLabel
from tenfold.tasks.regression import Regression
from tenfold.tasks.segmentation import Segmentation
from tenfold.tasks.tokens import Tokens

TASKS: dict[str, Task] = {
    task.name: task for task in (Classification(), Segmentation(), Tokens(), Language(), MultiLabel(), Regression())
}


def task_named(name: str) -> Task:
    """A task. Raises: TenfoldError with near misses if none has the name."""
    if name.lower() not in TASKS:
        raise TenfoldError(f"no task is called '{name}'{near_misses(name, TASKS)}")
    return TASKS[name.lower()]
