"""`Source`: a network's architecture by name."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from tenfold.named import foreign
from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class Source:
    """A network's architecture by name, not built yet.

    Attributes:
        kind: `zoo` where a name alone tells it, `file` and `package` where code does that anyone may have written.
        name: by which `resolve` finds it again; of a file's function, without the folder.
        function: builds a fresh network. Raises: TenfoldError if it raises, or gives something else.
        code: the file that tells the architecture, where there is one: it goes along with the network.
        trained: whether the weights are trained ones; None where that is the code's own affair.
        mean, std, input_shape: as in `ZooModel`; None where nobody says.
    """

    kind: Literal["zoo", "file", "package"]
    name: str
    function: Callable[[], nn.Module]
    code: Path | None = None
    trained: bool | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_shape: tuple[int, ...] | None = None


def imported(package: str, extra: str) -> Any:
    """An optional package.

    Raises: TenfoldError that names the extra it comes with, or what it raised.
    """
    with foreign(f"importing {package}"):  # of a torch that it was not built for, it raises anything
        try:
            return importlib.import_module(package)
        except ImportError as error:
            raise TenfoldError(f"{package} cannot be imported ({error}); pip install 'tenfold[{extra}]'.") from error


def check_name(package: str, name: str) -> None:
    """Raise a TenfoldError for what can be no name of a package's, before the package is asked for."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise TenfoldError(f"'{package}:{name}' is no network of {package}; write {package}:resnet18.")


def built(spec: str, build: Callable[[], nn.Module]) -> nn.Module:
    """What a package builds.

    Raises: TenfoldError that says what it raised.
    """
    with foreign(repr(spec)):
        return build()
