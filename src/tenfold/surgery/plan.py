"""`Plan`: what becomes of every weight; a YAML file that a person edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import yaml

from tenfold.formats import Format, format_named
from tenfold.network import TensorNetwork
from tenfold.protocols import TenfoldError, near_misses, within

SCHEMA = 1
KEYS = ("schema", "batch", "layers")  # of a plan file
DENSE = "dense"
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
        reason: in words, why this and nothing else.
    """

    name: str
    format: str = DENSE
    modes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    ranks: tuple[int | None, ...] = ()
    stages: tuple[tuple[int, ...], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    group: str | None = None
    reason: str = ""

    @property
    def is_dense(self) -> bool:
        """Whether the weight stays as it is."""
        return self.format == DENSE

    def maker(self) -> Format:
        """The format with its options."""
        return format_named(self.format, **self.options)

    def network(self, axes: Mapping[str, int]) -> TensorNetwork:
        """The network of the weight with these axes."""
        return self.maker().network(axes, self.ranks, self.modes)


@dataclass(frozen=True)
class Plan:
    """What becomes of every weight of a network.

    Attributes:
        rows: by name, in the order of the network.
        batch: how many samples the stages were timed for; None where multiply-adds chose them.
    """

    rows: Mapping[str, Row] = field(hash=False)
    batch: int | None = None

    def to_yaml(self) -> str:
        """The plan as a file that a person edits."""
        layers = {name: row_to_yaml(row) for name, row in self.rows.items()}
        document = {"schema": SCHEMA, **({} if self.batch is None else {"batch": self.batch}), "layers": layers}
        text: str = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
        return HEADER + text

    @staticmethod
    def from_yaml(text: str) -> "Plan":
        """Read a plan.

        Raises: TenfoldError, one sentence that names the layer and what would work.
        """
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a ValueError
            raise TenfoldError(f"not a YAML file: {' '.join(str(error).split())}.") from error
        if not isinstance(document, dict) or not isinstance(document.get("layers"), dict):
            raise TenfoldError("not a plan: a plan has 'schema' and 'layers'.")
        if document.get("schema") != SCHEMA:
            raise TenfoldError(f"schema {document.get('schema')!r} is not known; this version reads schema {SCHEMA}.")
        for key in document:
            if key not in KEYS:
                raise TenfoldError(f"nothing is called '{key}'{near_misses(str(key), KEYS)}")
        batch = document.get("batch")
        if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
            raise TenfoldError(f"batch {batch!r} is no number of samples; use a whole number from 1.")
        rows = {}
        for name, given in document["layers"].items():
            with within(f"layer '{name}'"):
                rows[str(name)] = row_from_yaml(str(name), given)
        return Plan(rows, batch)


HEADER = """\
# What becomes of every layer. Edit a copy and hand it to --plan.
# ranks: one for each bond; 'full' leaves a bond uncut, so that its two cores are one.
# stages: which cores are applied together, in order.
"""


def row_to_yaml(row: Row) -> dict[str, Any]:
    """The parts of a row that say something."""
    values: dict[str, Any] = {
        "format": row.format,
        "modes": {axis: list(sizes) for axis, sizes in row.modes.items()},
        "ranks": [MERGED if rank is None else rank for rank in row.ranks],
        "stages": [list(stage) for stage in row.stages],
        "options": dict(row.options),
        "group": row.group,
        "reason": row.reason,
    }
    return {key: value for key, value in values.items() if value or key == "format"}


def row_from_yaml(name: str, given: object) -> Row:
    """A row, every part checked."""
    if not isinstance(given, dict):
        raise TenfoldError(f"a layer is a mapping with 'format', 'ranks', ..; this one is {given!r}.")
    known = [item.name for item in fields(Row) if item.name != "name"]
    for key in given:
        if key not in known:
            raise TenfoldError(f"nothing is called '{key}'{near_misses(str(key), known)}")
    kind = given.get("format", DENSE)
    if not isinstance(kind, str):
        raise TenfoldError(f"'format' is the name of a format or '{DENSE}', not {kind!r}.")
    modes, options = given.get("modes") or {}, given.get("options") or {}
    for key, value in (("modes", modes), ("options", options)):
        if not isinstance(value, dict):
            raise TenfoldError(f"'{key}' is a mapping, not {value!r}.")
    row = Row(
        name=name,
        format=kind.lower(),
        modes={str(axis): whole_numbers(f"modes of '{axis}'", sizes, least=1) for axis, sizes in modes.items()},
        ranks=tuple(None if rank == MERGED else rank for rank in ranks_from_yaml(given.get("ranks") or [])),
        stages=tuple(whole_numbers("stages", stage, least=0) for stage in listed("stages", given.get("stages") or [])),
        options=dict(options),
        group=None if given.get("group") is None else str(given["group"]),
        reason=str(given.get("reason") or ""),
    )
    if not row.is_dense:
        row.maker()
    elif row.ranks or row.stages or row.modes or row.options:
        raise TenfoldError("a dense layer has no ranks, stages, modes or options; name a format or take them out.")
    return row


def ranks_from_yaml(given: object) -> list[Any]:
    """Ranks: whole numbers from 1, or `full`."""
    ranks = listed("ranks", given)
    for rank in ranks:
        if rank != MERGED and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
            raise TenfoldError(f"no rank {rank!r}; a rank is a whole number from 1, or '{MERGED}'.")
    return ranks


def listed(what: str, given: object) -> list[Any]:
    """A list, or an error that says it should be one."""
    if not isinstance(given, list):
        raise TenfoldError(f"'{what}' is a list, not {given!r}.")
    return given


def whole_numbers(what: str, given: object, *, least: int) -> tuple[int, ...]:
    """A list of whole numbers from `least`."""
    numbers: Sequence[Any] = listed(what, given)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise TenfoldError(f"'{what}' holds {number!r}; these are whole numbers from {least}.")
    return tuple(numbers)
