"""What every room knows: the one error, the place it concerns, and where batches come from."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from tenfold.tasks.base import Task

BatchDim = int | Literal["none"] | None  # the dimension that counts samples; none: all is one sample; None: to be found


class TenfoldError(ValueError):
    """What was given cannot work; the text is one sentence for whoever gave it."""


@contextmanager
def within(place: str) -> Iterator[None]:
    """Name the layer or file that a TenfoldError raised inside concerns."""
    try:
        yield
    except TenfoldError as error:
        error.args = (f"{place}: {error}",)
        raise


def near_misses(given: str, known: Iterable[str]) -> str:
    """The end of an error sentence: `; did you mean 'x'?`, or what there is to choose from."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    near = [lowered[hit] for hit in difflib.get_close_matches(given.lower(), list(lowered), n=3, cutoff=0.5)]
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    shown = ", ".join(names[:12]) + (", .." if len(names) > 12 else "")
    return f"; there are {shown}." if names else "; there are none."


def listed(names: Sequence[str]) -> str:
    """Names for one line: `a, b, c`, or the first eight and how many more there are."""
    few, more = names[:8], len(names) - 8
    return ", ".join(few) + (f" and {more} more" if more > 0 else "")


def first_part(batch: Any) -> Any:
    """The inputs of a batch: the first of a (inputs, targets) pair, or the batch itself."""
    return batch[0] if isinstance(batch, tuple | list) else batch


def second_part(batch: Any) -> Any:
    """The targets of a batch: the second of (inputs, targets), or what a dict calls `labels`.

    Raises: TenfoldError if it has neither.
    """
    if isinstance(batch, Mapping) and "labels" in batch:
        return batch["labels"]
    if isinstance(batch, tuple | list) and len(batch) > 1:
        return batch[1]
    raise TenfoldError(
        f"a batch of type {type(batch).__name__} has no targets; give (inputs, targets), a dict with 'labels', or "
        "Data(targets=...), a function that finds them in a batch."
    )


class Metric(Protocol):
    """Gathers batches into one number, however they are cut. A `torchmetrics.Metric` is one."""

    def update(self, outputs: Any, targets: Any) -> None: ...

    def compute(self) -> Any: ...


class Progress(Protocol):
    """How far one part of a run is, as a bar shows it."""

    @property
    def title(self) -> str: ...

    @property
    def words(self) -> str: ...

    @property
    def step(self) -> int:
        """What is done, 0 to `steps`; counted so that what is left takes about as long for its size."""
        ...

    @property
    def steps(self) -> int:
        """What there is to be done; 0 where that is not known."""
        ...


@dataclass(frozen=True)
class Done:
    """A step that has been done, where there is no more to say of it than a bar shows (`Progress`)."""

    title: str
    words: str
    step: int
    steps: int


Watch = Callable[[Iterator[Progress]], Iterable[Progress]]


@dataclass(frozen=True)
class Score:
    """What a user judges a network by: a mean over samples, or what a metric gathers.

    Attributes:
        scale: the number shown is so many times the one measured.
        measure: (outputs, batch) -> (sum, count) of one batch, for a mean.
        metric: instead of `measure`: makes an empty metric, given the predictions of the first batch (for the number
            of classes, and the device). It is then handed predictions and targets as the task of the data reads them.
    """

    name: str
    higher_is_better: bool = True
    scale: float = 100.0
    measure: Callable[[Any, Any], tuple[float, int]] | None = None
    metric: Callable[[Tensor], Metric] | None = None

    def __post_init__(self) -> None:
        if (self.measure is None) == (self.metric is None):
            raise TenfoldError(
                f"score '{self.name}' needs one of measure, (outputs, batch) -> (sum, count), and metric, which makes "
                "a torchmetrics.Metric."
            )


@dataclass(frozen=True)
class Data:
    """Where batches come from. Every part but `inputs` may be empty; each can be iterated again and again.

    Attributes:
        train: augmented batches with targets, one pass an epoch.
        inputs: plain inputs without targets, for shapes and calibration.
        validation: plain batches with targets; may choose settings.
        test: plain batches with targets; judged once, never chooses anything.
        feed: the model's positional inputs in a labelled batch.
        loss: (outputs, batch) -> scalar; by default that of the task.
        score: what the network is judged by: the name of a score that the task has, or one of your own; by default the
            task's first.
        task: what the network is for, by name (`tenfold.tasks.TASKS`) or as a `tenfold.tasks.Task`.
        output: key or index of the output that is meant, where a network gives several; by default the only tensor, or
            `logits`.
        targets: the targets in a labelled batch.
        batch: the dimension of the (first) input that counts samples; by default it is found.
    """

    train: Iterable[Any]
    inputs: Iterable[Any]
    validation: Iterable[Any]
    test: Iterable[Any]
    feed: Callable[[Any], Any] = first_part
    loss: Callable[[Any, Any], Tensor] | None = None
    score: Score | str | None = None
    task: "str | Task" = "classification"
    output: str | int | None = None
    targets: Callable[[Any], Any] = second_part
    batch: BatchDim = None
