"""`nn.MultiheadAttention` with its four projections as tensor networks, each of its own."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight, Layer, lowered
from tenfold.layers.kinds.linear import Linear
from tenfold.layers.multihead import PROJECTIONS, MultiHead, PlainAttention, copied
from tenfold.layers.plain import StandIn
from tenfold.layers.products import matrix_chain
from tenfold.layers.staged import Chain
from tenfold.network import Positions

PACKED = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
LINEARS: tuple[type[nn.Module], ...] = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)


class Attention(MultiHead, Layer):
    """Attention whose weights `q_proj_weight`, `k_proj_weight`, `v_proj_weight` (embed, their inputs) and
    `out_proj.weight` are tensor networks or dense, each by itself.

    Where torch packs the first three into `in_proj_weight`, they are taken apart.
    """

    replaces = (nn.MultiheadAttention,)
    in_proj_bias: nn.Parameter | None

    def __init__(self, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> None:
        """Args: the dense module, whose biases and geometry are taken over; its weights in cores."""
        super().__init__(module)
        dense = cast(nn.MultiheadAttention, module)
        for name in PACKED:
            setattr(self, name, weights[name] if name in weights else own_parameter(dense, name))
        self.chains = nn.ModuleList(matrix_chain(self.held(name)) for name in PACKED)
        self.out_proj = with_cores(dense.out_proj, weights.get("out_proj.weight"))
        self.register_parameter("in_proj_bias", cast(nn.Parameter | None, dense.in_proj_bias))
        self.take_over(dense)

    # ---- a dense module and its weights
    @classmethod
    def refusal(cls, module: nn.Module) -> str | None:
        if type(module.out_proj) not in LINEARS:
            return f"its out_proj is a {type(module.out_proj).__name__}"
        return super().refusal(module)

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        dense = cast(nn.MultiheadAttention, module)
        o, inputs = dense.embed_dim, (dense.embed_dim, dense.kdim, dense.vdim)
        packed = {name: {"o": o, "i": i} for name, i in zip(PACKED, inputs, strict=True)}
        return {**packed, "out_proj.weight": {"o": o, "i": o}}

    @classmethod
    def stored(cls, module: nn.Module, name: str) -> str:
        return "in_proj_weight" if name in PACKED and module.in_proj_weight is not None else name

    @classmethod
    def dense_weight(cls, module: nn.Module, name: str) -> Tensor:
        if cls.stored(module, name) == name:
            return super().dense_weight(module, name)
        packed = cast(nn.MultiheadAttention, module).in_proj_weight
        return packed.detach().chunk(3)[PACKED.index(name)]

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        """Xavier's for the inputs, q, k and v counted as one matrix where torch packs them."""
        if name not in PACKED:
            return super().initial_deviation(module, name)
        axes, packed = cls.axes(module)[name], cls.stored(module, name) != name
        return float((2 / (axes["i"] + (3 if packed else 1) * axes["o"])) ** 0.5)

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(module, weights).train(module.training)

    # ---- how its weights are applied
    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        tokens, samples = counted(module, given[1 if name in PACKED[1:] else 0])
        return {"tokens": (tokens, tokens)}, samples

    @classmethod
    def other_macs(cls, module: nn.Module, given: Sequence[Tensor], result: Tensor) -> int:
        """Of queries with keys, and of weights with values."""
        return products(module, given[0], given[1])

    @classmethod
    def apart(cls, module: nn.Module) -> tuple[nn.Module, Mapping[str, str]]:
        layer = cls.from_dense(module, {})
        plain = PlainAttention(layer, layer.parts()).train(module.training)
        return plain, {**{name: f"{name[0]}_proj" for name in PACKED}, "out_proj.weight": "out_proj"}

    # ---- the layer
    def project(self, name: str, x: Tensor) -> Tensor:
        y: Tensor
        if name == "out":
            y = self.out_proj(x)
        else:
            k = PROJECTIONS.index(name)
            y = self.chains[k](x, self.tensors(PACKED[k]), self.biases()[k])
        return y

    def inputs(self) -> list[Any]:
        return [self.held(name) for name in PACKED]

    def biases(self) -> Sequence[Tensor | None]:
        """Of q, k and v."""
        return (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)

    def lower(self) -> nn.Module:
        """torch's own where every weight is dense or rebuilt; else the same around chains of plain modules."""
        parts = self.parts()
        linears = [part for part in parts if isinstance(part, nn.Linear)]
        whole = torchs_own(self, linears) if len(linears) == len(parts) else PlainAttention(self, parts)
        return whole.train(self.training)

    def parts(self) -> list[nn.Module]:
        """The projections q, k, v and out as plain modules."""
        inputs = [
            cast(Chain, chain).lower(self.tensors(name), bias)
            for chain, name, bias in zip(self.chains, PACKED, self.biases(), strict=True)
        ]
        return [*inputs, without_cores(self.out_proj)]

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


def own_parameter(module: nn.MultiheadAttention, name: str) -> nn.Parameter:
    """The weight of q, k or v that stays dense: the module's parameter, or a copy of its part of the packed one."""
    stored = Attention.stored(module, name)
    parameter: nn.Parameter = getattr(module, stored)
    if stored == name:
        return parameter
    return nn.Parameter(Attention.dense_weight(module, name).clone(), requires_grad=parameter.requires_grad)


def with_cores(module: nn.Module, weight: FactoredWeight | None) -> nn.Module:
    """A linear module with its weight in cores; itself where there are none."""
    if weight is None:
        return module
    weight.unseen()
    return Linear.from_dense(module, {"weight": weight})


def without_cores(module: nn.Module) -> nn.Module:
    """What `with_cores` gave, as plain modules."""
    plain = lowered(module) if isinstance(module, Layer) else copy.deepcopy(module)
    if isinstance(plain, StandIn):
        plain.unseen = True
    return plain


def torchs_own(like: MultiHead, projections: Sequence[nn.Linear]) -> nn.MultiheadAttention:
    """torch's module with these dense projections q, k, v and out."""
    *inputs, out = projections
    module = nn.MultiheadAttention(
        like.embed_dim,
        like.num_heads,
        dropout=like.dropout,
        add_zero_attn=like.add_zero_attn,
        kdim=like.kdim,
        vdim=like.vdim,
        batch_first=like.batch_first,
        device="meta",
    )
    if Attention.stored(module, PACKED[0]) == PACKED[0]:
        for name, part in zip(PACKED, inputs, strict=True):
            setattr(module, name, part.weight)
    else:
        module.in_proj_weight = nn.Parameter(torch.cat([part.weight.detach() for part in inputs]))
    biases = [part.bias.detach() for part in inputs if part.bias is not None]
    module.register_parameter("in_proj_bias", nn.Parameter(torch.cat(biases)) if biases else None)
    module.out_proj.weight, module.out_proj.bias = out.weight, out.bias
    module.bias_k, module.bias_v = copied(like.bias_k), copied(like.bias_v)
    return module


def counted(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Tokens of one sample, and samples, of what attention was given."""
    if x.ndim == 2:
        return x.shape[0], 1
    return (x.shape[1], x.shape[0]) if module.batch_first else (x.shape[0], x.shape[1])


def products(module: nn.Module, query: Tensor, key: Tensor) -> int:
    """Multiply-adds of queries with keys and of weights with values, added keys included."""
    attention = cast(nn.MultiheadAttention, module)
    (queries, samples), (keys, _) = counted(module, query), counted(module, key)
    keys += (attention.bias_k is not None) + bool(attention.add_zero_attn)
    return 2 * samples * queries * keys * int(attention.embed_dim)
