"""`Exported`: a file that runs without tenfold, checked and timed, beside the dense network's."""

from dataclasses import asdict, dataclass
from typing import Any

from tenfold.measure import MsPerBatch, Speedup
from tenfold.targets import Difference


@dataclass(frozen=True)
class ExportedFile:
    """What a file takes: bytes, and milliseconds of one forward in its own runtime."""

    bytes: int
    ms_per_batch: MsPerBatch


@dataclass(frozen=True)
class Exported:
    """A file that runs without tenfold.

    Attributes:
        path: where it lies.
        target: what it is, `onnx` or `pt2`.
        takes_any: whether it takes any number of samples; else only the one that it was made with.
        differences: from the network's own outputs, in a process without tenfold; each for another number of samples.
        dense: of the dense network, exported the same way and timed in turn; None where there is none beside it.
        speedup: how many times as long that one takes.
    """

    path: str
    target: str
    takes_any: bool
    differences: tuple[Difference, ...]
    file: ExportedFile
    dense: ExportedFile | None = None
    speedup: Speedup | None = None

    @property
    def furthest(self) -> Difference:
        """Of the differences."""
        return max(self.differences, key=lambda each: each.error)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {"schema": 1, **asdict(self)}


def export_sentences(found: Exported) -> list[str]:
    """What the file is, and how it was checked."""
    fixed = "its other sizes are those of the inputs that it was made with"
    return [f"'{found.path}' takes {batches(found)}; {fixed}.", checked(found)]


def batches(found: Exported) -> str:
    """How many samples it takes."""
    if found.takes_any:
        return "any number of samples"
    return f"{counted(found.differences[0].samples)} at a time and no other number"


def counted(samples: int) -> str:
    """`1 sample`, `3 samples`."""
    return f"{samples} sample{'s' if samples > 1 else ''}"


def checked(found: Exported) -> str:
    """What a process without tenfold made of the file."""
    sizes = " and ".join(str(each.samples) for each in found.differences)
    error = found.furthest.error
    same = f" to {error:.1e} of the largest entry" if error else ", bit for bit"
    return f"Run in a process without tenfold, on batches of {sizes}, its outputs are the network's{same}."
