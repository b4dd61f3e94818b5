"""A function in a file or a package: `path/to/file.py:function`, `package.module:function`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tenfold.models.sources.base import Source
from tenfold.named import NamedFunction, named_function
from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class Build:
    """A named function that must give a network."""

    named: NamedFunction

    def __call__(self) -> nn.Module:
        model = self.named()
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise TenfoldError(f"{self.named.spec!r} gave a value of type {kind}, not a torch.nn.Module.")
        return model


def function(spec: str, known: Iterable[str]) -> Source:
    """The source that a string names; `known`: what else it could have meant."""
    named = named_function(spec, noun="a network of the zoo", known=known)
    if named.kind == "package":
        return Source("package", named.spec, Build(named))
    code = Path(named.place).expanduser().resolve()
    return Source("file", f"{code.name}:{named.name}", Build(named), code)
