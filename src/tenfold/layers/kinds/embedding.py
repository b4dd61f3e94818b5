"""`nn.Embedding` and `nn.EmbeddingBag`: rows of cores are gathered and multiplied up; the table is never built."""

import math
from collections.abc import Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.lookup import (
    Bag,
    Factor,
    Lookup,
    Reading,
    Renorm,
    TableReader,
    bagged,
    looked_up,
    padded,
    renormed,
    row_labels,
)  # fmt: skip
from tenfold.layers.plain import StandIn
from tenfold.layers.rows import Pick, tokens
from tenfold.network import Count, Positions, Stage, Stages

Module = nn.Embedding | nn.EmbeddingBag


class Table(Layer):
    """A table (i rows, o numbers each) as a tensor network: the linear map of one-hot rows.

    The index is read as digits, one for each mode of `i`; each digit chooses a slice of the core that holds it. The
    gradient of a core is a plain tensor, `sparse` or not.
    """

    takes_computed = True
    reads_rows = True
    weight: FactoredWeight
    padding_row: Tensor | None  # the dense row at `padding_idx`, where it is read

    def __init__(self, module: nn.Module, weight: FactoredWeight) -> None:
        """Args: the dense module, whose settings are taken over; its weight in cores."""
        super().__init__(module)
        table = cast(Module, module)
        self.weight = weight
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = table.padding_idx, table.max_norm, table.norm_type
        self.reading = Reading.of(weight.stages)
        self.register_buffer("padding_row", None)

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(module, weights["weight"]).train(module.training)

    @classmethod
    def refusal(cls, module: nn.Module) -> str | None:
        if cast(Module, module).scale_grad_by_freq:
            return "its gradients are scaled by the frequency of a row, and cores have other rows"
        return super().refusal(module)

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        table = cast(Module, module)
        return {"weight": {"i": table.num_embeddings, "o": table.embedding_dim}}

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        return 1.0

    @classmethod
    def objection(cls, name: str, stages: Stages) -> str | None:
        if any(fold.straddles for fold in stages.net.folds):
            return "modes that cross the axes of a table have no rows to look up"
        if any(len(stage.cores) > 1 and looked_up(stages, stage) for stage in stages.each):
            return "a stage that joins cores with rows of a table would build the table; give each a stage of its own"
        return None

    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        """Indices (samples, ..)."""
        tokens = math.prod(given[0].shape[1:])
        return {"tokens": (tokens, tokens)}, given[0].shape[0] if given[0].ndim else 1

    @classmethod
    def dense_macs(cls, name: str, axes: Mapping[str, int], positions: Positions) -> int:
        """None: a row is read."""
        return 0

    @classmethod
    def mac_count(cls, name: str, stages: Stages, positions: Positions) -> Count:
        """Every stage after the first, which is only read; the modes of the index have one value a token."""
        tokens = math.prod(after for _, after in positions.values())
        count = Count(tuple((tokens, (*stage.carried, *stage.labels)) for stage in stages.each[1:]))
        return count.without(row_labels(stages))

    @classmethod
    def input_rows(cls, module: nn.Module, x: Tensor, pick: Pick) -> tuple[Tensor, int]:
        """Indices: a moment of one-hot rows is how often each row is read. -1 for padding, whose row no core holds."""
        flat, padding = x.reshape(x.shape[0] if x.ndim else 1, -1), cast(Module, module).padding_idx
        flat = flat if padding is None else flat.masked_fill(flat == padding, -1)
        return flat[:, pick(flat.shape[1]).to(x.device)], flat.shape[1]

    @classmethod
    def output_rows(cls, module: nn.Module, y: Tensor, pick: Pick) -> tuple[Tensor, int]:
        return tokens(y, pick)

    def tables(self) -> list[Tensor]:
        """What the factors read: a core, its digits in front (no copy), or the tensor of a stage without rows."""
        cores = self.weight.numbers
        each = zip(self.weight.stages.each, self.weight.builds, self.reading.factors, strict=True)
        return [
            self.digits_first(cores, stage, factor) if factor.digits else build(cores) for stage, build, factor in each
        ]

    def digits_first(self, cores: Sequence[Tensor], stage: Stage, factor: Factor) -> Tensor:
        """The one core of a stage, seen as (*digits, *labels of the factor)."""
        at, digits = stage.cores[0], looked_up(self.weight.stages, stage)
        labels = self.weight.net.cores[at]
        core: Tensor = cores[at].permute([labels.index(x) for x in (*digits, *factor.labels)])
        return core

    def rows(self, ids: Tensor) -> Tensor:
        """Rows (*ids, o), of norm `max_norm` at most; under autocast, too, in the dtype of the cores."""
        rows = self.reading(ids, self.tables()).to(self.weight.dtype)
        rows = padded(rows, ids, self.padding_idx, self.padding_row)
        return rows if self.max_norm is None else renormed(rows, self.max_norm, self.norm_type)

    def lowered_rows(self) -> nn.Module:
        """`rows` as plain modules."""
        parts = self.chain() or [Lookup(self.reading, self.tables(), self.padding_idx, self.padding_row)]
        parts += [] if self.max_norm is None else [Renorm(self.max_norm, self.norm_type)]
        if len(parts) == 1 and isinstance(parts[0], nn.Embedding):
            return parts[0]
        plain = StandIn(*parts)
        plain.reader = TableReader((self.num_embeddings, self.embedding_dim))
        return plain

    def chain(self) -> list[nn.Module] | None:
        """An embedding and linear layers that find the rows, where there are such; a padding of zeros is a zero row."""
        parts = self.reading.chain(self.tables())
        if parts is None or self.padding_row is None:
            return parts
        if self.padding_row.any():
            return None
        first = cast(nn.Embedding, parts[0])
        first.padding_idx = self.padding_idx
        with torch.no_grad():
            first.weight[self.padding_idx] = 0
        return parts

    def extra_repr(self) -> str:
        said = f"{self.num_embeddings}, {self.embedding_dim}"
        said += "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return said if self.max_norm is None else f"{said}, max_norm={self.max_norm}"


class Embedding(Table):
    """An embedding; the row at `padding_idx` stays the dense one, and is not trained."""

    replaces = (nn.Embedding,)

    def __init__(self, module: nn.Module, weight: FactoredWeight) -> None:
        super().__init__(module, weight)
        if self.padding_idx is not None:
            self.padding_row = cast(Tensor, module.weight)[self.padding_idx].detach().clone()

    def forward(self, input: Tensor) -> Tensor:
        return self.rows(input)

    def lower(self) -> nn.Module:
        return self.lowered_rows().train(self.training)


class EmbeddingBag(Table):
    """Sums, means or maxima of rows."""

    replaces = (nn.EmbeddingBag,)

    def __init__(self, module: nn.Module, weight: FactoredWeight) -> None:
        super().__init__(module, weight)
        bag = cast(nn.EmbeddingBag, module)
        self.mode, self.include_last_offset = bag.mode, bag.include_last_offset

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        rows = self.rows(input)
        return bagged(rows, input, offsets, per_sample_weights, self.mode, self.padding_idx, self.include_last_offset)

    def lower(self) -> nn.Module:
        return Bag(self.lowered_rows(), self.mode, self.padding_idx, self.include_last_offset).train(self.training)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
