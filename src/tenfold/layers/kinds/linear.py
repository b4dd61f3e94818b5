"""`nn.Linear`, and the linear layer of GPT-2's code, as stages of matrix products."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from tenfold.layers.products import product, tokens_of
from tenfold.layers.rows import Pick, tokens
from tenfold.layers.staged import Staged, Step
from tenfold.network import Positions, Stage, TensorNetwork


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

    @classmethod
    def input_rows(cls, module: nn.Module, x: Tensor, pick: Pick) -> tuple[Tensor, int]:
        return tokens(x, pick)

    @classmethod
    def output_rows(cls, module: nn.Module, y: Tensor, pick: Pick) -> tuple[Tensor, int]:
        return tokens(y, pick)

    def describe(self, module: nn.Module) -> None:
        self.in_features, self.out_features = (self.sizes["weight"][axis] for axis in ("i", "o"))
        self.spatial = 0

    def step(self, stage: Stage | None, net: TensorNetwork) -> Step:
        return product(net, stage)

    def rows(self, x: Tensor) -> int | None:
        return x.numel() // self.in_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
