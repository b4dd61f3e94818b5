"""Kinds of module that can be compressed. A new one is a file in `kinds` and a line in `BUILT_IN`; third parties use
the entry point group `tenfold.layers`."""

from functools import cache
from importlib.metadata import entry_points

from torch import nn

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.kinds.attention import Attention
from tenfold.layers.kinds.conv import Conv
from tenfold.layers.kinds.embedding import Embedding, EmbeddingBag
from tenfold.layers.kinds.encoder import EncoderLayer
from tenfold.layers.kinds.linear import Linear
from tenfold.layers.kinds.recurrent import Recurrent
from tenfold.layers.kinds.transposed import Transposed

BUILT_IN: dict[str, type[Layer]] = {
    "linear": Linear,
    "conv": Conv,
    "transposed": Transposed,
    "embedding": Embedding,
    "embedding_bag": EmbeddingBag,
    "attention": Attention,
    "encoder": EncoderLayer,
    "recurrent": Recurrent,
}

# torch's own modules that read the weights of their children without calling them: left whole where no kind takes
# them (subclasses)
OPAQUE: tuple[type[nn.Module], ...] = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@cache
def available() -> dict[str, type[Layer]]:
    """Every kind of layer by name, those of installed packages included."""
    return BUILT_IN | {entry.name: entry.load() for entry in entry_points(group="tenfold.layers")}


def kind_of(module: nn.Module) -> type[Layer] | None:
    """The kind of layer that can take a dense module's place, or that a compressed one is; None if there is none."""
    if isinstance(module, Layer):
        return type(module)
    for kind in available().values():
        if is_replaced(module, kind) and kind.takes(module):
            return kind
    return None


def is_replaced(module: nn.Module, kind: type[Layer]) -> bool:
    """Whether a module is of a type that the kind names; subclasses with a forward of their own are not."""
    own = type(module)
    return own in kind.replaces or f"{own.__module__}.{own.__qualname__}" in kind.replaces


def name_of(kind: type[Layer]) -> str:
    """The name under which a kind of layer is registered."""
    return next(name for name, known in available().items() if kind is known)


__all__ = [
    "BUILT_IN", "OPAQUE", "Attention", "Conv", "Embedding", "EmbeddingBag", "EncoderLayer", "FactoredWeight", "Layer",
    "Linear", "Recurrent", "Transposed", "available", "kind_of", "name_of",
]  # fmt: skip
