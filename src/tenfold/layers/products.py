"""Stages of matrices: products on the last dimension, chained; shared by all layers that hold matrices."""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from tenfold.layers.base import FactoredWeight
from tenfold.layers.plain import GroupedLinear, filled
from tenfold.layers.staged import Chain, Step
from tenfold.network import Positions, Stage, TensorNetwork


@dataclass(frozen=True)
class Product(Step):
    """A matrix product on the last dimension, block-diagonal where there are groups."""

    groups: int

    def shape(self, given: int, made: int) -> tuple[int, ...]:
        return made, given // self.groups

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

    def shape(self, given: int, made: int) -> tuple[int, ...]:
        return given, made

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super().apply(x, weight.mT, bias)

    def module(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        return super().module(weight.mT, bias)

    def tensor(self, module: nn.Module) -> Tensor:
        return super().tensor(module).mT


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
