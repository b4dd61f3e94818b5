"""`Plan`: what becomes of every weight; a YAML file that a person edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, to_builtins

from tenfold import documents
from tenfold.documents import Natural, Positive
from tenfold.formats import DENSE, Format, Whole, format_named
from tenfold.network import TensorNetwork
from tenfold.protocols import TenfoldError, within
from tenfold.quantization import CORE, Per, Scheme, scheme_named
from tenfold.surgery.layout import Layout
from tenfold.surgery.stored import Dtype

Runtime = Literal["eager", "compile", "onnxruntime", "cuda-graph"]
EAGER, COMPILE, ONNXRUNTIME, CUDA_GRAPH = get_args(Runtime)
SCHEMA = 1
FULL = 32  # bits of a number that is kept as it is
UNIFORM = "uniform"
MERGED = "full"  # how a plan file writes a bond that is not cut


@dataclass(frozen=True)
class Row:
    """What becomes of one weight.

    Attributes:
        name: the weight's site.
        format: `dense`, or the name of a format.
        modes: axes that are split, `{"i": (4, 4, 4)}`; empty: each axis is one mode.
        ranks: one for each bond in the format's order; None (in the file: `full`) where a bond is not cut, so that its
            two cores are one.
        stages: ordered sets of cores; empty: as many as there can be.
        options: the format's own options.
        group: rows of one group are decomposed together, by formats that share cores.
        bits: of every number, one for all cores or one for each; 32: the core keeps its numbers; empty: all do. A dense
            weight with bits is one core.
        scale_per: what has a scale of its own: `core`, `row` (of a core's first dimension), or so many numbers.
        levels: how numbers of few bits lie: `uniform` or `codebook`.
        reason: in words, why this and nothing else.
    """

    name: str
    format: str = DENSE
    modes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    ranks: tuple[int | None, ...] = ()
    stages: tuple[tuple[int, ...], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    group: str | None = None
    bits: tuple[int, ...] = ()
    scale_per: Per = CORE
    levels: str = UNIFORM
    reason: str = ""

    @property
    def is_dense(self) -> bool:
        """Whether the weight stays as it is."""
        return self.format == DENSE and not self.bits

    @property
    def form(self) -> str:
        """`tucker2`, and `tucker2, 4 bits` where its numbers have few."""
        return in_bits(self.format, self.bits)

    def maker(self) -> Format:
        """The format with its options."""
        return Whole() if self.format == DENSE else format_named(self.format, **self.options)

    def schemes(self, count: int) -> tuple[Scheme | None, ...]:
        """How the numbers of each of so many cores lie in few bits; None where they are kept, empty where all are.

        Raises: TenfoldError for bits of another number of cores.
        """
        if len(self.bits) not in (0, 1, count):
            raise TenfoldError(
                f"bits are given for {len(self.bits)} cores and there are {count}; give one number, or {count}."
            )
        each = self.bits * (count if len(self.bits) == 1 else 1)
        return tuple(None if bits == FULL else scheme_named(self.levels, bits, self.scale_per) for bits in each)

    def network(self, axes: Mapping[str, int]) -> TensorNetwork:
        """The network of the weight with these axes."""
        return self.maker().network(axes, self.ranks, self.modes)


def in_bits(form: str, bits: Sequence[int]) -> str:
    """A format and its bits in words."""
    return f"{form}, {' '.join(map(str, bits))} bits" if bits else form


@dataclass(frozen=True)
class Plan:
    """What becomes of every weight of a network.

    Attributes:
        rows: by name, in the order of the network.
        batch: how many samples the stages were timed for; None where multiply-adds chose them.
        layout: how images lie in memory from the first layer to the last, `contiguous` or `channels_last`; None where
            nobody has timed it.
        runtime: in which it was timed; None likewise.
        dtype: in which numbers are stored, `bf16` or `fp16`; None: in their own.
    """

    rows: Mapping[str, Row] = field(hash=False)
    batch: int | None = None
    layout: str | None = None
    runtime: str | None = None
    dtype: str | None = None

    def to_values(self) -> dict[str, Any]:
        """What a file holds of the plan: mappings, lists, texts and numbers."""
        layers = {name: row_values(row) for name, row in self.rows.items()}
        whole = {key: value for key, value in vars(self).items() if key != "rows" and value is not None}
        values: dict[str, Any] = to_builtins({"schema": SCHEMA, **whole, "layers": layers})
        return values

    @staticmethod
    def from_values(values: object) -> "Plan":
        """Read a plan from what a file holds of it.

        Raises: TenfoldError, one sentence that names the layer and what would work.
        """
        return from_file(documents.checked(values, PlanFile, "a plan", SCHEMA))

    def to_yaml(self) -> str:
        """The plan as a file that a person edits."""
        return HEADER + documents.to_yaml(self.to_values())

    @staticmethod
    def from_yaml(text: str) -> "Plan":
        """Read a plan.

        Raises: TenfoldError, one sentence that names the layer and what would work.
        """
        return from_file(documents.from_yaml(text, PlanFile, "a plan", SCHEMA))


HEADER = """\
# What becomes of every layer. Edit a copy and hand it to --plan.
# ranks: one for each bond; 'full' leaves a bond uncut, so that its two cores are one.
# stages: which cores are applied together, in order.
# bits: of every number, one for all cores or one for each (32, 16, 8, 6, 4, 3, 2).
"""


@dataclass(frozen=True)
class PlanFile:
    """A plan as its file has it; a layer is a `RowFile`, read by itself so that errors can name it."""

    layers: Mapping[str, Any]
    batch: Annotated[int, Meta(ge=1, description="a whole number of samples from 1")] | None = None
    layout: Layout | None = None
    runtime: Runtime | None = None
    dtype: Dtype | None = None


@dataclass(frozen=True)
class RowFile:
    """A `Row` as a plan file has it; what people write without quotes may come as a number."""

    format: Annotated[str, Meta(description="the name of a format or 'dense'")] = DENSE
    modes: Mapping[str, tuple[Positive, ...]] = field(default_factory=dict)
    ranks: tuple[Positive | Literal["full"], ...] = ()
    stages: tuple[tuple[Natural, ...], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    group: str | int | float | None = None
    bits: Positive | tuple[Positive, ...] = ()
    scale_per: Literal["core", "row"] | Positive = CORE
    levels: str = UNIFORM
    reason: str | int | float | bool = ""


def from_file(file: PlanFile) -> Plan:
    """A plan, every row checked."""
    rows = {}
    for name, given in file.layers.items():
        with within(f"layer '{name}'"):
            rows[name] = row_from_file(name, given)
    return Plan(rows, file.batch, file.layout, file.runtime, file.dtype)


def row_values(row: Row) -> dict[str, Any]:
    """The parts of a row that say something."""
    values = {**vars(row), "ranks": [MERGED if rank is None else rank for rank in row.ranks]}
    usual = {"scale_per": CORE, "levels": UNIFORM}
    values |= {"bits": row.bits[0]} if len(row.bits) == 1 else {}
    return {
        key: value
        for key, value in values.items()
        if key == "format" or (value and key != "name" and value != usual.get(key))
    }


def row_from_file(name: str, given: object) -> Row:
    """A row, every part checked."""
    file = documents.read(given, RowFile)
    row = Row(
        name=name,
        format=file.format.lower(),
        modes=file.modes,
        ranks=tuple(rank if isinstance(rank, int) else None for rank in file.ranks),
        stages=file.stages,
        options=file.options,
        group=None if file.group is None else str(file.group),
        bits=(file.bits,) if isinstance(file.bits, int) else file.bits,
        scale_per=file.scale_per,
        levels=file.levels.lower(),
        reason=str(file.reason),
    )
    if row.bits and set(row.bits) == {FULL}:
        row = replace(row, bits=())
    row.schemes(len(row.bits))
    if row.format != DENSE:
        row.maker()
    elif row.ranks or row.stages or row.modes or row.options:
        raise TenfoldError("a dense layer has no ranks, stages, modes or options; name a format or take them out.")
    return row
