"""`Budget`: one measure of a whole network, and what one layer adds to it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class Cost:
    """What a network, a weight or every candidate for it costs: numbers, or arrays with one entry a candidate.

    Attributes:
        params: numbers that the folder stores; bytes: the same at their stored width.
        deployed: numbers that the form which runs holds, of all modules that apply the weight.
        macs: multiply-adds of one sample, in the form that will run; None where they were not measured.
        seconds: of one forward on the batch of a clock; None without one.
    """

    params: Any
    bytes: Any
    deployed: Any
    macs: Any = None
    seconds: Any = None


class Budget(ABC):
    """One measure of what things cost."""

    needs = "inputs to measure it; give data or an input shape"  # where the measure was not taken

    @abstractmethod
    def of(self, cost: Cost) -> Any:
        """This measure of a network, of one weight, or of every candidate for it; None where it was not taken."""


def limit(name: str, asked: str | float, whole: float | None, needs: str = Budget.needs) -> float:
    """The largest total that what was asked for leaves of the whole.

    Raises: TenfoldError as `ratio_asked` does, or for a measure that was not taken.
    """
    if whole is None:
        raise TenfoldError(f"a budget on {name} needs {needs}.")
    return whole / ratio_asked(name, asked)


def ratio_asked(name: str, asked: str | float) -> float:
    """Whole over kept: 4 of `4x` and of `25%`; a number is a ratio.

    Raises: TenfoldError for another spelling, or a ratio below 1.
    """
    text = str(asked).strip().lower()
    try:
        ratio = 100 / float(text[:-1]) if text.endswith("%") else float(text.removesuffix("x"))
    except (ValueError, ZeroDivisionError):
        raise TenfoldError(f"{name} '{asked}' is no budget; write a ratio (4x) or what is kept (25%).") from None
    if not 1 <= ratio < float("inf"):
        raise TenfoldError(f"{name} '{asked}' would not shrink the network; use a ratio from 1x, or up to 100%.")
    return ratio
