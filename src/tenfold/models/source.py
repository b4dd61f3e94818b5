"""Where a network comes from: the zoo, a function in a file, or a function in a package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from tenfold.models.zoo import ZOO
from tenfold.named import NamedFunction, named_function
from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class Source:
    """A network's architecture by name, not built yet.

    Attributes:
        kind: "zoo", "file" (`path/to/file.py:function`) or "package" (`package.module:function`).
        name: the zoo's name, or file or module and function, joined by a colon.
        function: builds a fresh network. Raises: TenfoldError if it raises, or gives something else.
        mean, std, input_shape: as in `ZooModel`; None where the network is not of the zoo.
    """

    kind: Literal["zoo", "file", "package"]
    name: str
    function: Callable[[], nn.Module]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _Build:
    """A named function that must give a network."""

    named: NamedFunction

    def __call__(self) -> nn.Module:
        model = self.named()
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise TenfoldError(f"{self.named.spec!r} gave a value of type {kind}, not a torch.nn.Module.")
        return model


def resolve(spec: str) -> Source:
    """What a model specification names; a file or module runs, the network is not built yet.

    Args:
        spec: a name of the zoo (in any case), `path/to/file.py:function` or `package.module:function`;
            the function takes no arguments and gives an nn.Module.
    Raises: TenfoldError if there is no such name, file, module or function, or if the file or module raises.
    """
    name = spec.lower()
    if name in ZOO:
        entry = ZOO[name]
        return Source("zoo", name, entry.build, entry.mean, entry.std, entry.input_shape)
    named = named_function(spec, noun="a network of the zoo", known=ZOO)
    return Source(named.kind, named.spec, _Build(named))
