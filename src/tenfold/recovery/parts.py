"""A batch taken apart: for several processes, and for memory that a whole batch would not fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tenfold.inputs import tensors_in
from tenfold.protocols import TenfoldError
from tenfold.tasks import Objective


@dataclass(frozen=True)
class Part:
    """Some samples of a batch.

    Attributes:
        number: among the parts of the batch.
        share: of the batch's loss, a mean, that this part's mean has; all shares make 1.
    """

    number: int
    batch: Any
    share: float


def parts_of(batch: Any, objective: Objective, numbers: Sequence[int], count: int) -> Iterator[Part]:
    """Some of the `count` parts of a batch, as equal as can be; all of them together have the batch's gradient.

    What a loss is a mean over is counted: places that count for the task, or samples. Where there are fewer samples
    than parts, some parts are a sample that has no share.
    Raises: TenfoldError for a batch that cannot be cut along the first dimension of all its tensors.
    """
    if count == 1:
        yield Part(0, batch, 1.0)
        return
    from accelerate.utils import slice_tensors

    size = _size(batch, objective)
    whole = _counted(batch, size, objective)
    for number in numbers:
        start, end = size * number // count, size * (number + 1) // count
        part = slice_tensors(batch, slice(start, end) if start < end else slice(0, 1))
        yield Part(number, part, _counted(part, end - start, objective) / max(1, whole) if start < end else 0.0)


def _size(batch: Any, objective: Objective) -> int:
    """Samples of a batch that can be cut."""
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in tensors_in(batch)}
    if len(sizes) != 1 or objective.data.batch not in (None, 0):
        raise TenfoldError(
            "a batch is cut along the first dimension of its tensors, which here are "
            f"{' and '.join(map(str, sorted(sizes))) or 'none'} long (batch dimension {objective.data.batch}); use one "
            "process and accumulate=1, or give batches whose tensors all have the samples first."
        )
    return sizes.pop()


def _counted(batch: Any, size: int, objective: Objective) -> int:
    """What the mean of the loss is over."""
    counted: Tensor | None = objective.counted(batch) if objective.distils else None
    return size if counted is None else int(counted.sum())
