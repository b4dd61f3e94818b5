"""Lookups in a table of factors: plain modules and plain operations, rows of factors gathered and multiplied up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenfold.layers.plain import Closed, Numbers, StandIn
from tenfold.layers.tensor_like import TensorLike
from tenfold.network import INPUTS, Labels, Stage, Stages, output_labels
from tenfold.network.contraction import einsum_equation

TOKEN = "token"  # the label of the indices that are looked up together


@dataclass(frozen=True)
class Factor:
    """One stage of a lookup: which of its numbers belong to an index, and how they meet what was found before.

    Attributes:
        digits: (divisor, size) of every digit of the index that chooses a row here; none: the same for every index.
        labels, shape: of what is chosen.
        equation: the product with what was found before, as einsum writes it; empty for the first.
        is_matrix: whether that is the product with a matrix (new, summed).
    """

    digits: tuple[tuple[int, int], ...]
    labels: Labels
    shape: tuple[int, ...]
    equation: str
    is_matrix: bool


@dataclass(frozen=True)
class Reading:
    """How the rows of a table (count, width) are found from its factors, stage by stage; no numbers."""

    factors: tuple[Factor, ...]
    count: int
    width: int

    @staticmethod
    def of(stages: Stages) -> "Reading":
        """Derived from the labels: the input has one value a token once it is looked up."""
        net, inputs = stages.net, row_labels(stages)
        found: list[Factor] = []
        state: Labels = ()
        for at, stage in enumerate(stages.each):
            digits = tuple((net.size(inputs[inputs.index(x) + 1 :]), net.sizes[x]) for x in looked_up(stages, stage))
            before, after = state, kept(stages, at)
            tensor = after if at == 0 else tuple(x for x in stage.labels if x not in inputs)
            own = (TOKEN, *tensor) if digits else tensor
            state = (TOKEN, *after) if TOKEN in (*before, *own) else after
            equation = einsum_equation([before, own], state) if at else ""
            product = before == (TOKEN, *stage.summed) and tensor == (*after, *stage.summed) and not digits
            found.append(Factor(digits, tensor, net.shape(tensor), equation, product))
        return Reading(tuple(found), net.axes["i"], net.axes["o"])

    def __call__(self, ids: Tensor, tables: Sequence[Tensor]) -> Tensor:
        """Rows (*ids, width)."""
        return multiplied_up(ids, list(tables), *self.as_lists(), self.count, self.width)

    def as_lists(self) -> tuple[list[list[int]], list[list[int]], list[list[int]], list[str]]:
        """Divisors and sizes of digits, shapes and equations of all factors, as `multiplied_up` takes them."""
        digits = [factor.digits for factor in self.factors]
        return (
            [[divisor for divisor, _ in each] for each in digits],
            [[size for _, size in each] for each in digits],
            [list(factor.shape) for factor in self.factors],
            [factor.equation for factor in self.factors],
        )

    def chain(self, tables: Sequence[Tensor]) -> list[nn.Module] | None:
        """The same as an embedding and linear layers, where the first factor holds the rows and the others follow."""
        first, *others = self.factors
        plain = first.digits == ((1, self.count),) and all(factor.is_matrix for factor in others)
        rows = tables[0].flatten(1)
        if not plain or (tables[-1].shape[0] if others else rows.shape[1]) != self.width:
            return None
        parts: list[nn.Module] = [filled_embedding(rows)]
        for table in tables[1:]:
            linear = nn.Linear(table.shape[1], table.shape[0], bias=False, device="meta")
            linear.weight = nn.Parameter(table.detach().clone())
            parts.append(linear)
        return parts


def multiplied_up(
    ids: Tensor,
    tables: list[Tensor],
    divisors: list[list[int]],
    sizes: list[list[int]],
    shapes: list[list[int]],
    equations: list[str],
    count: int,
    width: int,
) -> Tensor:
    """Rows (*ids, width) of a table in factors; in words that TorchScript knows, like `chosen`."""
    flat = ids.reshape(-1)
    found = chosen(flat, tables[0], divisors[0], sizes[0], shapes[0], count)
    for k in range(1, len(tables)):
        part = chosen(flat, tables[k], divisors[k], sizes[k], shapes[k], count)
        found = torch.einsum(equations[k], [found, part])
    return found.flatten(1)[:, :width].reshape(list(ids.shape) + [width])  # noqa: RUF005  (it knows no stars)


def chosen(ids: Tensor, table: Tensor, divisors: list[int], sizes: list[int], shape: list[int], count: int) -> Tensor:
    """The numbers (n, *shape) of indices (n,), from a table (*digits, *shape); where it has no digits, (*shape).

    Raises: IndexError, torch's own, for an index outside 0 to `count`.
    """
    if len(sizes) == 0:
        return table.reshape(shape)
    if sizes == [count]:
        return table.index_select(0, ids)
    first = torch.where((ids >= 0) & (ids < count), ids // divisors[0] % sizes[0], sizes[0])  # outside: no such digit
    if len(sizes) == 1:
        return table.index_select(0, first)
    digits: list[Tensor | None] = [first]
    for k in range(1, len(sizes)):
        digits.append(ids // divisors[k] % sizes[k])  # noqa: PERF401  (TorchScript)
    found: Tensor = torch.ops.aten.index(table, digits)
    return found


def row_labels(stages: Stages) -> Labels:
    """The modes of the index, the slowest digit first."""
    return tuple(mode for fold in stages.net.folds if fold.axes[0] in INPUTS for mode in fold.modes)


def looked_up(stages: Stages, stage: Stage) -> Labels:
    """The modes of the index in a stage's tensor, the slowest digit first."""
    return tuple(mode for mode in row_labels(stages) if mode in stage.labels)


def kept(stages: Stages, at: int) -> Labels:
    """What is left after a stage, without the modes of the index; after the last, the output's modes in order."""
    if at == len(stages.each) - 1:
        return output_labels(stages.net)
    stage, inputs = stages.each[at], row_labels(stages)
    return tuple(x for x in (*stage.carried, *stage.groups, *stage.new) if x not in inputs)


def filled_embedding(table: Tensor) -> nn.Embedding:
    """An embedding with these rows."""
    embedding = nn.Embedding(table.shape[0], table.shape[1], device="meta")
    embedding.weight = nn.Parameter(table.detach().clone(memory_format=torch.contiguous_format))
    return embedding


def renormed(rows: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Rows (.., width), those beyond a norm scaled down to it as torch does."""
    norm = torch.linalg.vector_norm(rows, norm_type, dim=[-1], keepdim=True)
    return rows * torch.where(norm > max_norm, max_norm / (norm + 1e-7), 1.0)


class Lookup(Closed):
    """Rows by index, from tables of factors; the row at `padding_idx` is kept by itself and not trained."""

    padding_row: Tensor | None
    padding_idx: int | None
    divisors: list[list[int]]
    sizes: list[list[int]]
    shapes: list[list[int]]

    def __init__(
        self, reading: Reading, tables: Sequence[Tensor], padding_idx: int | None, padding_row: Tensor | None
    ) -> None:
        super().__init__()
        self.padding_idx, self.count, self.width = padding_idx, reading.count, reading.width
        self.divisors, self.sizes, self.shapes, self.equations = reading.as_lists()
        self.tables = Numbers(nn.Parameter(table.detach().clone().contiguous()) for table in tables)
        self.register_buffer("padding_row", None if padding_row is None else padding_row.clone())

    def forward(self, ids: Tensor) -> Tensor:
        tables = [table for table in self.tables]  # noqa: C416  (TorchScript)
        rows = multiplied_up(
            ids, tables, self.divisors, self.sizes, self.shapes, self.equations, self.count, self.width
        )
        return padded(rows, ids, self.padding_idx, self.padding_row)


def padded(rows: Tensor, ids: Tensor, padding_idx: int | None, padding_row: Tensor | None) -> Tensor:
    """Rows (*ids, width) with the padding's own, where it has one, at every index that is the padding's."""
    if padding_idx is None or padding_row is None:
        return rows
    return torch.where(ids.eq(padding_idx).unsqueeze(-1), padding_row, rows)


class Renorm(Closed):
    """`renormed` as a module."""

    def __init__(self, max_norm: float, norm_type: float) -> None:
        super().__init__()
        self.max_norm, self.norm_type = max_norm, norm_type

    def forward(self, rows: Tensor) -> Tensor:
        return renormed(rows, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        return f"{self.max_norm}, norm_type={self.norm_type}"


@dataclass(frozen=True)
class TableReader:
    """Finds a table (rows, width) by looking all of its rows up."""

    shape: tuple[int, int]

    def read(self, plain: StandIn) -> Tensor:
        """The table, its rows of any norm."""
        rows: Tensor = torch.arange(self.shape[0], device=next(plain.parameters()).device)
        for part in plain:
            rows = rows if isinstance(part, Renorm) else part(rows)
        return rows


class Bag(Closed):
    """What `nn.EmbeddingBag` makes of the rows that a lookup finds."""

    __jit_unused_properties__: ClassVar = ["weight"]

    def __init__(self, rows: nn.Module, mode: str, padding_idx: int | None, include_last_offset: bool) -> None:
        super().__init__()
        self.rows, self.mode = rows, mode
        self.padding_idx, self.include_last_offset = padding_idx, include_last_offset

    @property
    def weight(self) -> Tensor | TensorLike:
        """The table."""
        return cast(Tensor | TensorLike, self.rows.weight)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        rows = self.rows(input)
        return bagged(rows, input, offsets, per_sample_weights, self.mode, self.padding_idx, self.include_last_offset)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, padding_idx={self.padding_idx}, include_last_offset={self.include_last_offset}"


def bagged(
    rows: Tensor,
    ids: Tensor,
    offsets: Tensor | None,
    per_sample_weights: Tensor | None,
    mode: str,
    padding_idx: int | None,
    include_last_offset: bool,
) -> Tensor:
    """Rows (*ids, width) reduced bag by bag: torch's own bag over a table that holds the row of every place once."""
    table = rows.reshape(ids.numel(), rows.shape[-1])
    places = torch.arange(ids.numel(), dtype=ids.dtype, device=ids.device).reshape(ids.shape)
    if padding_idx is not None:
        places = torch.where(ids == padding_idx, ids.numel(), places)
        table = functional.pad(table, [0, 0, 0, 1])
    return functional.embedding_bag(
        places, table, offsets, mode=mode, per_sample_weights=per_sample_weights,
        include_last_offset=include_last_offset, padding_idx=None if padding_idx is None else ids.numel(),
    )  # fmt: skip
