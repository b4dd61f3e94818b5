"""One class for each token."""

from typing import ClassVar

from tenfold.tasks.classes import Classes, accuracy


class Tokens(Classes):
    """One class for each token of a sequence."""

    name = "tokens"
    outputs = "(n, t, classes)"
    targets = "(n, t) of whole numbers"
    axis = 2
    dims = (3,)
    scores: ClassVar = {"token accuracy": lambda: accuracy("token accuracy")}
