"""The forward of `nn.MultiheadAttention` around any four projections."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenfold.layers.plain import Closed
from tenfold.layers.tensor_like import Rebuilt
from tenfold.protocols import TenfoldError

PROJECTIONS = ("q", "k", "v", "out")
Extra = nn.Parameter | None


class MultiHead(Closed, ABC):
    """Attention of several heads: arguments, results and dropout of `nn.MultiheadAttention`."""

    embed_dim: int
    kdim: int
    vdim: int
    num_heads: int
    head_dim: int
    dropout: float
    batch_first: bool
    add_zero_attn: bool
    bias_k: Tensor | None
    bias_v: Tensor | None
    __constants__: ClassVar = ["is_packed"]
    is_packed: bool  # whether q, k and v have inputs of one size, so that torch has their weights in one

    def take_over(self, module: "nn.MultiheadAttention | MultiHead") -> None:
        """Be like a module in all but its projections; its extra key and value are shared."""
        self.embed_dim, self.kdim, self.vdim = module.embed_dim, module.kdim, module.vdim
        self.num_heads, self.head_dim = module.num_heads, module.head_dim
        self.dropout, self.batch_first, self.add_zero_attn = module.dropout, module.batch_first, module.add_zero_attn
        self.bias_k, self.bias_v = cast(Extra, module.bias_k), cast(Extra, module.bias_v)
        self.is_packed = self.embed_dim == self.kdim == self.vdim

    @abstractmethod
    def project(self, name: str, x: Tensor) -> Tensor:
        """Apply one of the `PROJECTIONS` to the last dimension."""

    @abstractmethod
    def inputs(self) -> list[Tensor]:
        """The weights of q, k and v: tensors, or read as such."""

    @property  # not annotated, because TorchScript finds out by itself whether there is one
    def in_proj_weight(self):  # type: ignore[no-untyped-def]
        """The weights of q, k and v one below the other, as torch has them; None where their inputs differ in size."""
        if not self.is_packed:
            return None
        elif torch.jit.is_scripting():  # type: ignore[attr-defined]
            return torch.cat(self.inputs())
        else:
            return self.read_together()

    @torch.jit.unused
    def read_together(self) -> Tensor:
        """The weights of q, k and v as a `Rebuilt`."""
        inputs = self.inputs()
        trained = any(weight.requires_grad for weight in inputs)
        shape = 3 * self.embed_dim, self.embed_dim
        found = Rebuilt(shape, inputs[0].dtype, inputs[0].device, trained, lambda: torch.cat(inputs))
        found.unseen()
        return cast(Tensor, found)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results as those of `nn.MultiheadAttention`.

        Raises: TenfoldError for shapes that do not go together, for nested tensors, and for `is_causal` without a mask.
        """
        check(query, key, value, attn_mask, is_causal)
        at = 0 if self.batch_first else 1
        alone = query.dim() == 2
        if alone:
            query, key, value = query.unsqueeze(at), key.unsqueeze(at), value.unsqueeze(at)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        q, k, v = (
            self.split(self.project("q", query)),
            self.split(self.project("k", key)),
            self.split(self.project("v", value)),
        )
        hinted = is_causal and key_padding_mask is None and not need_weights  # then torch goes by the hint alone
        mask = None if hinted else self.mask(attn_mask, key_padding_mask, q, k)
        k, v = self.extended(k, self.bias_k), self.extended(v, self.bias_v)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            y, each = attended(q, k, v, mask, dropout)
            weights = each.mean(1) if average_attn_weights else each
        else:
            y = functional.scaled_dot_product_attention(q, k, v, mask, dropout, hinted)
        y = self.project("out", self.joined(y))
        if alone:
            y, weights = y.squeeze(at), None if weights is None else weights.squeeze(0)
        return y, weights

    def split(self, x: Tensor) -> Tensor:
        """(n, tokens, embed) or (tokens, n, embed), as `batch_first` says, to (n, heads, tokens, head)."""
        heads = x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim)
        return heads.permute([0, 2, 1, 3] if self.batch_first else [1, 2, 0, 3])

    def joined(self, x: Tensor) -> Tensor:
        """The way back."""
        return x.permute([0, 2, 1, 3] if self.batch_first else [2, 0, 1, 3]).flatten(2)

    def extended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Keys or values (n, heads, tokens, head) with what is added to them."""
        n, heads, _, head = x.shape
        parts = [x]
        if bias is not None:
            parts.append(bias.reshape(1, heads, 1, head).expand(n, -1, -1, -1))
        if self.add_zero_attn:
            parts.append(x.new_zeros(n, heads, 1, head))
        return torch.cat(parts, 2) if len(parts) > 1 else x

    def mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """What is added to the scores, broadcast to (n, heads, tokens, keys); None where that is nothing."""
        n, heads, tokens, keys = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
        parts: list[Tensor] = []
        if attn_mask is not None:
            each = additive("attn_mask", attn_mask, [[tokens, keys], [n * heads, tokens, keys]], q.dtype)
            parts.append(each.reshape(n, heads, tokens, keys) if each.dim() == 3 else each)
        if key_padding_mask is not None:
            parts.append(additive("key_padding_mask", key_padding_mask, [[n, keys]], q.dtype)[:, None, None])
        if len(parts) == 0:
            return None
        found = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        added = int(self.bias_k is not None) + int(self.add_zero_attn)  # keys
        return functional.pad(found, [0, added]) if added else found


def check(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool) -> None:
    """Raise for what does not go together."""
    if query.is_nested or key.is_nested or value.is_nested:
        raise TenfoldError("compressed attention takes no nested tensors; pad them, and give a key_padding_mask.")
    if query.dim() not in (2, 3) or key.dim() != query.dim() or key.shape[:-1] != value.shape[:-1]:
        given = f"{list(query.shape)}, {list(key.shape)}, {list(value.shape)}"
        raise TenfoldError(f"query, key and value of shapes {given} do not go together; give all with a batch or none.")
    if is_causal and attn_mask is None:
        raise TenfoldError("is_causal is a hint about attn_mask, and there is none; give the causal mask, too.")


def additive(name: str, mask: Tensor, shapes: list[list[int]], dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add: minus infinity where a bool mask is True.

    Raises: TenfoldError if it has none of these shapes, or is neither bool nor floating.
    """
    shape = list(mask.shape)
    fits = any([shape == each for each in shapes])  # noqa: C419  (TorchScript)
    if not fits or not (mask.dtype == torch.bool or mask.is_floating_point()):
        fitting = " or ".join([f"{each}" for each in shapes])
        raise TenfoldError(f"{name} is {shape} {mask.dtype}; bool or floating of {fitting} fits.")
    return mask if mask.is_floating_point() else torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """Values (n, heads, tokens, head) as the heads attend to them, and the weights (n, heads, tokens, keys)."""
    scores = q * q.shape[-1] ** -0.5 @ k.mT
    weights = functional.softmax(scores if mask is None else scores + mask, -1)
    weights = functional.dropout(weights, dropout) if dropout > 0 else weights
    return weights @ v, weights


def copied(parameter: Tensor | None) -> nn.Parameter | None:
    """The same numbers in a parameter of their own."""
    return None if parameter is None else nn.Parameter(parameter.detach().clone())


class PlainAttention(MultiHead):
    """Attention whose projections are modules."""

    def __init__(self, like: MultiHead, projections: Sequence[nn.Module]) -> None:
        """Args: what it is like, with nothing shared; q, k, v and out."""
        super().__init__()
        self.take_over(like)
        self.bias_k, self.bias_v = copied(like.bias_k), copied(like.bias_v)
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = projections

    def project(self, name: str, x: Tensor) -> Tensor:
        y: Tensor = (
            self.q_proj(x) if name == "q"
            else self.k_proj(x) if name == "k"
            else self.v_proj(x) if name == "v"
            else self.out_proj(x)
        )  # fmt: skip
        return y

    def inputs(self) -> list[Tensor]:
        return [self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]  # type: ignore[list-item]

    @property  # not annotated, because TorchScript finds out by itself whether there is one
    def in_proj_bias(self):  # type: ignore[no-untyped-def]
        """The biases of q, k and v one below the other, as torch has them; None where there are none."""
        biases = (self.q_proj.bias, self.k_proj.bias, self.v_proj.bias)
        return None if biases[0] is None else torch.cat(biases)  # type: ignore[arg-type]
