"""Kinds of module that can be compressed. A new one is a file in `kinds` and a line in `BUILT_IN`; third parties use
the entry point group `tenfold.layers`."""

from functools import cache
from importlib.metadata import entry_points

from torch import nn
from torch.nn.utils import parametrize

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.kinds.attention import Attention
from tenfold.layers.kinds.cell import Cell
from tenfold.layers.kinds.conv import Conv
from tenfold.layers.kinds.embedding import Embedding, EmbeddingBag
from tenfold.layers.kinds.encoder import EncoderLayer
from tenfold.layers.kinds.experts import Experts
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
    "cell": Cell,
    "experts": Experts,
}

# torch's own modules that read the weights of their children without calling them: left whole where no kind takes
# them (subclasses)
OPAQUE: tuple[type[nn.Module], ...] = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


# what a subclass may have of its own and still be the same layer: what every class has, and what no forward reads
IDLE = {*vars(type("Empty", (), {})), "__init__", "__repr__", "__constants__", "__annotations__"}
IDLE |= {"reset_parameters", "extra_repr"}


@cache
def available() -> dict[str, type[Layer]]:
    """Every kind of layer by name, those of installed packages included."""
    return BUILT_IN | {entry.name: entry.load() for entry in entry_points(group="tenfold.layers")}


def kind_of(module: nn.Module) -> type[Layer] | None:
    """The kind of layer that can take a dense module's place, or that a compressed one is; None if there is none."""
    if isinstance(module, Layer):
        return type(module)
    kind = next((kind for kind in available().values() if is_replaced(module, kind)), None)
    return None if kind is None or kind.refusal(module) is not None else kind


def refusal(module: nn.Module) -> str:
    """Why no kind of layer takes a dense module's place, in words."""
    for kind in available().values():
        if is_replaced(module, kind):
            return kind.refusal(module) or ""
    for kind in available().values():
        for base in kind.replaces:
            if isinstance(base, type) and isinstance(module, base):
                return f"{plain_type(module).__name__} is a {base.__name__} with its own {own_members(module, base)}"
    return f"no kind of layer takes the weights of {plain_type(module).__name__}"


def is_replaced(module: nn.Module, kind: type[Layer]) -> bool:
    """Whether the kind recognises a module, or names its type, or one of which it is a subclass that runs alike."""
    own = plain_type(module)
    if kind.recognises(module):
        return True
    if f"{own.__module__}.{own.__qualname__}" in kind.replaces:
        return True
    bases = [base for base in kind.replaces if isinstance(base, type) and issubclass(own, base)]
    return any(not own_members(module, base) for base in bases)


def plain_type(module: nn.Module) -> type[nn.Module]:
    """The class of a module, without what torch derives for its parametrisations."""
    own = type(module)
    return own.__bases__[0] if parametrize.is_parametrized(module) else own


def own_members(module: nn.Module, base: type[nn.Module]) -> str:
    """What the class of a module changes of the base, or adds for others to use, in words; empty if that is nothing."""
    own = plain_type(module)
    classes = own.__mro__[: own.__mro__.index(base)]
    found = [name for part in classes for name in vars(part) if name not in IDLE]
    return ", ".join(dict.fromkeys(name for name in found if hasattr(base, name) or not name.startswith("_")))


def name_of(kind: type[Layer]) -> str:
    """The name under which a kind of layer is registered."""
    return next(name for name, known in available().items() if kind is known)


__all__ = [
    "BUILT_IN", "OPAQUE", "Attention", "Cell", "Conv", "Embedding", "EmbeddingBag", "EncoderLayer", "Experts",
    "FactoredWeight", "Layer", "Linear", "Recurrent", "Transposed", "available", "kind_of", "name_of", "plain_type",
    "refusal",
]  # fmt: skip
