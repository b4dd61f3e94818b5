"""Where a network comes from, one file a kind of source: the zoo, packages of models, a function."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tenfold.models.sources.base import Source
from tenfold.models.sources.function import function
from tenfold.models.sources.hf import hf
from tenfold.models.sources.timm import timm
from tenfold.models.sources.torchvision import torchvision
from tenfold.models.zoo import ZOO, zoo_model

__all__ = ["SOURCES", "Source", "again", "resolve"]

SOURCES: Mapping[str, Callable[[str], Source]] = {"timm": timm, "torchvision": torchvision, "hf": hf}


def resolve(spec: str) -> Source:
    """What a model specification names; a file or module runs, the network is not built yet.

    Args:
        spec: a name of the zoo (in any case), `timm:NAME`, `torchvision:NAME`, `hf:FOLDER`, `path/to/file.py:function`
            or `package.module:function`; the function takes no arguments and gives an nn.Module.
    Raises: TenfoldError if there is no such name, file, module or function, if the file or module raises, or if a
        package is not installed.
    """
    kind, colon, _ = spec.partition(":")
    if spec.lower() in ZOO or (colon and kind in SOURCES):
        return known(spec)
    return function(spec, [*ZOO, *SOURCES])


def known(spec: str) -> Source:
    """The same for names that run no code of anyone's own: the zoo's, and those of packages of models."""
    kind, colon, name = spec.partition(":")
    if colon and kind in SOURCES:
        return SOURCES[kind](name)
    entry = zoo_model(spec)
    return Source("zoo", spec.lower(), entry.build, None, False, entry.mean, entry.std, entry.input_shape)


def again(kind: str, name: str, code: Path | None) -> Source:
    """The source of this kind and name, whose file now stands elsewhere.

    Raises: TenfoldError, as `resolve` does.
    """
    if kind == "zoo":
        return known(name if code is None else f"{name.partition(':')[0]}:{code}")
    return resolve(name if code is None else f"{code}:{name.rpartition(':')[2]}")
