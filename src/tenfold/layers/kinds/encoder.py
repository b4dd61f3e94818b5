"""`nn.TransformerEncoderLayer` with the weights of its attention and of its linear layers as tensor networks."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight, Layer, lowered
from tenfold.layers.kinds.attention import Attention, counted, products, with_cores, without_cores
from tenfold.layers.multihead import MultiHead
from tenfold.layers.plain import Closed
from tenfold.network import Positions
from tenfold.protocols import TenfoldError

ATTENTION = "self_attn."
KEPT = ("dropout", "norm1", "norm2", "dropout1", "dropout2", "activation", "norm_first")  # what is taken as it is


class PlainEncoderLayer(Closed):
    """The forward of `nn.TransformerEncoderLayer` around any attention and linear modules."""

    if TYPE_CHECKING:  # TorchScript would take them for types of its own
        self_attn: MultiHead
        linear1: nn.Module
        linear2: nn.Module
        norm1: nn.Module
        norm2: nn.Module
        dropout: nn.Module
        dropout1: nn.Module
        dropout2: nn.Module
        activation: Callable[[Tensor], Tensor]
    norm_first: bool

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Arguments and result as those of `nn.TransformerEncoderLayer`; `nn.TransformerEncoder` may nest its input.

        Raises: TenfoldError for a nested tensor with a padding mask, or where the batch is not first.
        """
        if src.is_nested:
            return self.nested(src, src_mask, src_key_padding_mask, is_causal)
        return self.padded(src, src_mask, src_key_padding_mask, is_causal)

    def padded(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        """Both blocks on an input that is not nested."""
        if self.norm_first:
            x = x + self.attended(self.norm1(x), mask, padding, is_causal)
            return x + self.fed(self.norm2(x))
        x = self.norm1(x + self.attended(x, mask, padding, is_causal))
        y: Tensor = self.norm2(x + self.fed(x))
        return y

    def attended(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        """The attention block."""
        y, _ = self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)
        kept: Tensor = self.dropout1(y)
        return kept

    def fed(self, x: Tensor) -> Tensor:
        """The feed-forward block."""
        y: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return y

    def nested(self, src: Tensor, src_mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        """Pad, run, and take the padding away."""
        if padding is not None or not self.self_attn.batch_first:
            raise TenfoldError("nested tensors go with batch_first=True and without a src_key_padding_mask.")
        lengths = torch.tensor([len(sample) for sample in src.unbind()], device=src.device)
        x = src.to_padded_tensor(0.0)  # (n, tokens, features)
        beyond = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        y = self.padded(x, src_mask, beyond, is_causal)
        return torch._nested_tensor_from_mask(y, beyond.logical_not(), mask_check=False)


class EncoderLayer(PlainEncoderLayer, Layer):
    """An encoder layer whose weights are tensor networks or dense, each by itself; its attention is `Attention`."""

    replaces = (nn.TransformerEncoderLayer,)
    self_attn: Attention

    def __init__(self, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> None:
        """Args: the dense module, whose norms, dropouts and activation are taken over; its weights in cores."""
        super().__init__(module)
        dense = cast(nn.TransformerEncoderLayer, module)
        self.training = dense.training
        own = {name.removeprefix(ATTENTION): w for name, w in weights.items() if name.startswith(ATTENTION)}
        self.self_attn = Attention.from_dense(dense.self_attn, own)
        self.linear1 = with_cores(dense.linear1, weights.get("linear1.weight"))
        self.linear2 = with_cores(dense.linear2, weights.get("linear2.weight"))
        for name in KEPT:
            setattr(self, name, getattr(dense, name))

    # ---- a dense module and its weights
    @classmethod
    def refusal(cls, module: nn.Module) -> str | None:
        attention = module.self_attn
        if (
            type(attention) is not nn.MultiheadAttention
            or not type(module.linear1) is type(module.linear2) is nn.Linear
        ):
            return "its attention or its linear layers are not torch's own"
        return Attention.refusal(attention) or super().refusal(module)

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        dense = cast(nn.TransformerEncoderLayer, module)
        attention = {f"{ATTENTION}{name}": sizes for name, sizes in Attention.axes(dense.self_attn).items()}
        wide, narrow = dense.linear1.out_features, dense.linear1.in_features
        return {**attention, "linear1.weight": {"o": wide, "i": narrow}, "linear2.weight": {"o": narrow, "i": wide}}

    @classmethod
    def stored(cls, module: nn.Module, name: str) -> str:
        if not name.startswith(ATTENTION):
            return name
        attention = cast(nn.TransformerEncoderLayer, module).self_attn
        return ATTENTION + Attention.stored(attention, name.removeprefix(ATTENTION))

    @classmethod
    def dense_weight(cls, module: nn.Module, name: str) -> Tensor:
        if not name.startswith(ATTENTION):
            return super().dense_weight(module, name)
        attention = cast(nn.TransformerEncoderLayer, module).self_attn
        return Attention.dense_weight(attention, name.removeprefix(ATTENTION))

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        if not name.startswith(ATTENTION):
            return super().initial_deviation(module, name)
        attention = cast(nn.TransformerEncoderLayer, module).self_attn
        return Attention.initial_deviation(attention, name.removeprefix(ATTENTION))

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(module, weights)

    # ---- how its weights are applied
    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        tokens, samples = counted(cast(nn.TransformerEncoderLayer, module).self_attn, given[0])
        return {"tokens": (tokens, tokens)}, samples

    @classmethod
    def other_macs(cls, module: nn.Module, given: Sequence[Tensor], result: Tensor) -> int:
        """Of its attention's products."""
        return products(cast(nn.TransformerEncoderLayer, module).self_attn, given[0], given[0])

    @classmethod
    def apart(cls, module: nn.Module) -> tuple[nn.Module, Mapping[str, str]]:
        dense, plain = cast(nn.TransformerEncoderLayer, module), PlainEncoderLayer()
        attention, inner = Attention.apart(dense.self_attn)
        plain.self_attn = cast(MultiHead, attention)
        plain.linear1, plain.linear2 = copy.deepcopy(dense.linear1), copy.deepcopy(dense.linear2)
        for name in KEPT:
            setattr(plain, name, copy.deepcopy(getattr(dense, name)))
        names = {f"{ATTENTION}{name}": f"{ATTENTION}{child}" for name, child in inner.items()}
        return plain.train(dense.training), {**names, "linear1.weight": "linear1", "linear2.weight": "linear2"}

    # ---- the layer
    def lower(self) -> nn.Module:
        """torch's own where every weight is dense or rebuilt; else the same around chains of plain modules."""
        parts = [lowered(self.self_attn), without_cores(self.linear1), without_cores(self.linear2)]
        torchs = isinstance(parts[0], nn.MultiheadAttention) and all(isinstance(p, nn.Linear) for p in parts[1:])
        whole = self.torchs_own() if torchs else PlainEncoderLayer()
        whole.training = self.training
        for name, part in zip(("self_attn", "linear1", "linear2"), parts, strict=True):
            setattr(whole, name, part)
        for name in KEPT:
            setattr(whole, name, copy.deepcopy(getattr(self, name)))
        return whole

    def torchs_own(self) -> nn.Module:
        """torch's module, its parts without numbers."""
        attention, wide = self.self_attn, self.sizes["linear1.weight"]["o"]
        return nn.TransformerEncoderLayer(
            attention.embed_dim,
            attention.num_heads,
            wide,
            activation=self.activation,
            batch_first=attention.batch_first,
            device="meta",
        )
