"""`Report`: dense, compressed and recovered, side by side; what was measured, never what was hoped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tenfold import documents
from tenfold.report.course import CoursePoint
from tenfold.report.layer_row import LayerRow
from tenfold.report.measurement import Measurement

SCHEMA = 1


@dataclass(frozen=True)
class Ratios:
    """Dense over final: 4.0 is four times smaller, or four times faster; None where one side is not known.

    Attributes:
        deployed_params: of the form that runs.
        payload_bytes: of the numbers in the file, without the list of their names.
        time: the median over rounds in which both ran; time_spread: the distance between the quartiles.
    """

    params: float | None
    deployed_params: float | None
    file_bytes: float | None
    macs: float | None
    time: float | None
    time_spread: float | None
    payload_bytes: float | None = None


@dataclass(frozen=True)
class PlannedRatios:
    """Dense over planned, of the whole network; macs None where they were not measured."""

    params: float
    bytes: float
    macs: float | None
    deployed_params: float


@dataclass(frozen=True)
class Part:
    """The part of a network that budgets were asked of, dense over final; `of`: patterns of its modules' names."""

    of: tuple[str, ...]
    params: float
    deployed_params: float
    bytes: float
    macs: float | None


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        part: what was asked for of a part alone; None where it was of the whole network.
        recovered: None where there was no recovery.
        layers: what became of every weight.
        settings: what was asked for, in values that JSON knows.
        planned: what the plan foretold of the whole network.
        course: how the losses went in the recovery, as far as this run saw it.
    """

    dense: Measurement
    compressed: Measurement
    recovered: Measurement | None
    layers: tuple[LayerRow, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    part: Part | None = None
    planned: PlannedRatios | None = None
    course: tuple[CoursePoint, ...] = ()

    @property
    def final(self) -> Measurement:
        """The network that leaves the house."""
        return self.recovered or self.compressed

    @property
    def ratio(self) -> Ratios:
        """The dense network over the final one."""
        dense, final = self.dense, self.final
        speedup = final.speedup
        return Ratios(
            params=over(dense.params, final.params),
            deployed_params=over(dense.deployed_params, final.deployed_params),
            file_bytes=over(dense.file_bytes, final.file_bytes),
            macs=over(dense.macs, final.macs),
            time=None if speedup is None else speedup.median,
            time_spread=None if speedup is None else speedup.spread,
            payload_bytes=over(dense.payload_bytes, final.payload_bytes),
        )

    def to_json(self) -> str:
        """The report as a JSON document; keys `schema`, `ratio`, and the attributes."""
        return documents.to_json({"schema": SCHEMA, **asdict(self), "ratio": asdict(self.ratio)})

    @staticmethod
    def from_json(text: str) -> "Report":
        """Read a report; its ratios are worked out again.

        Raises: TenfoldError that names the part which is not as it should be.
        """
        return documents.from_json(text, Report, "a report", SCHEMA, derived=("ratio",))


def over(dense: float | None, final: float | None) -> float | None:
    """A ratio, where both sides are known and the lower one is not nothing."""
    return None if dense is None or not final else dense / final
