"""One class for each sample."""

from typing import ClassVar

from tenfold.tasks.classes import Classes, accuracy


class Classification(Classes):
    """One class for each sample."""

    name = "classification"
    outputs = "(n, classes)"
    targets = "(n,) of whole numbers"
    dims = (2,)
    scores: ClassVar = {"top-1": lambda: accuracy("top-1")}
