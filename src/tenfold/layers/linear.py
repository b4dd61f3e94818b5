"""`nn.Linear`, and the linear layer of GPT-2's code, as stages of matrix products."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from tenfold.layers.base import FactoredWeight
from tenfold.layers.plain import GroupedLinear, filled
from tenfold.layers.staged import Chain, Staged, Step
from tenfold.network import Positions, Stage, TensorNetwork


@dataclass(frozen=True)
class Product(Step):
    """A matrix product on the last dimension, block-diagonal where there are groups."""

    groups: int

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.groups == 1:
            return functional.linear(x, weight, bias)
        rows = x.reshape(-1, x.shape[-1], 1)
        return functional.conv1d(rows, weight.unsqueeze(-1), bias, groups=self.groups).reshape(
            *x.shape[:-1], len(weight)
        )

    def module(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        if self.groups > 1:
            return GroupedLinear(weight, bias, self.groups)
        return filled(nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta"), weight, bias)


@dataclass(frozen=True)
class Turned(Product):
    """The product with a matrix that lies as (in, out)."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super().apply(x, weight.mT, bias)

    def module(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        return super().module(weight.mT, bias)


def product(net: TensorNetwork, stage: Stage | None) -> Product:
    """What a stage of a matrix does; None: the whole matrix in one, as it lies."""
    if stage is not None:
        return Product(net.size(stage.groups))
    return Turned(1) if next(iter(net.axes)) == "i" else Product(1)


def matrix_chain(weight: FactoredWeight | Tensor) -> Chain:
    """How a matrix (o, i), in cores or dense, is applied to the last dimension of an input."""
    if isinstance(weight, Tensor):
        return Chain.of(None, lambda _: Product(1), 0)
    return Chain.of(weight.stages, lambda stage: product(weight.net, stage), 0)


def tokens_of(x: Tensor) -> tuple[Positions, int]:
    """Tokens of one sample, and samples, of features (samples, .., features); one vector is one sample."""
    tokens = math.prod(x.shape[1:-1])
    return {"tokens": (tokens, tokens)}, x.shape[0] if x.ndim > 1 else 1


class Linear(Staged):
    """A linear layer whose weight is a tensor network: (o, i), `y = x Wᵀ + b`, or (i, o) in GPT-2, `y = x W + b`."""

    replaces = (nn.Linear, "transformers.pytorch_utils.Conv1D", "transformers.modeling_utils.Conv1D")

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        names = ("o", "i") if isinstance(module, nn.Linear) else ("i", "o")
        return {"weight": dict(zip(names, cast(Tensor, module.weight).shape, strict=True))}

    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        return tokens_of(given[0])

    def describe(self, module: nn.Module) -> None:
        self.in_features, self.out_features = (self.sizes["weight"][axis] for axis in ("i", "o"))
        self.spatial = 0

    def step(self, stage: Stage | None) -> Step:
        return product(self.weight.net, stage)

    def rows(self, x: Tensor) -> int | None:
        return x.numel() // self.in_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
