"""Functions named by a string: `path/to/file.py:function` or `package.module:function`."""

import importlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from tenfold.neighbours import FromSource, forget_edited, importable
from tenfold.protocols import TenfoldError, near_misses

SPELLING = "path/to/file.py:function or package.module:function"


@dataclass(frozen=True)
class NamedFunction:
    """A function without arguments that a string named.

    Attributes:
        kind: where it lies: a file of its own, or a module that can be imported.
        place: the file's path or the module's dotted name, as given.
        name: the function's name there.
        function: the function itself; call the `NamedFunction` instead, which speaks in TenfoldErrors.
    """

    kind: Literal["file", "package"]
    place: str
    name: str
    function: Callable[[], Any]

    @property
    def spec(self) -> str:
        return f"{self.place}:{self.name}"

    def __call__(self) -> Any:
        """What the function gives. Raises: TenfoldError that names what the function raised."""
        beside = importable(Path(self.place).expanduser().resolve()) if self.kind == "file" else nullcontext()
        with beside, foreign(repr(self.spec)):
            return self.function()


def named_function(spec: str, *, noun: str, known: Iterable[str]) -> NamedFunction:
    """The function that a string names; its file or module runs, the function does not yet.

    Args:
        spec: `path/to/file.py:function` or `package.module:function`.
        noun: what else the string could have meant, with its article: "a zoo network".
        known: the names of those, for near misses.
    Raises: TenfoldError if nothing can be found under that name, or if the file or module raises.
    """
    place, _, name = spec.rpartition(":")
    if spec.endswith(".py"):
        raise TenfoldError(f"{spec!r} names a file, but no function in it; write {spec}:function.")
    dotted = all(part.isidentifier() for part in place.split("."))
    if not name.isidentifier() or not (dotted or place.endswith(".py")):
        meant = near_misses(spec.partition(":")[0], known)
        raise TenfoldError(f"{spec!r} is neither {noun} nor a function ({SPELLING}){meant}")
    if place.endswith(".py"):
        return NamedFunction("file", place, name, _member(_file_module(place), name, f"file {place!r}"))
    module = _package_module(place, noun, known)
    return NamedFunction("package", place, name, _member(module, name, f"module {place!r}"))


@contextmanager
def foreign(doing: str) -> Iterator[None]:
    """Run a user's code inside: whatever it raises becomes one TenfoldError sentence that starts with `doing`."""
    try:
        yield
    except TenfoldError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        said = " ".join(str(error).split()).removesuffix(".")
        raise TenfoldError(f"{doing} raised {type(error).__name__}{f': {said}' if said else ''}.") from error


def _file_module(place: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise TenfoldError(f"there is no file {place!r}; write {SPELLING}.")
    # the same text at the same place is the same module, so that its classes can be pickled
    name = f"tenfold_file_{path.stem}_{zlib.crc32(str(path).encode() + path.read_bytes()):08x}"
    if not forget_edited(path.parent) and name in sys.modules:
        return sys.modules[name]
    described = spec_from_file_location(name, path, loader=FromSource(name, str(path), file=path))
    assert described is not None
    assert described.loader is not None
    module = module_from_spec(described)
    sys.modules[name] = module
    try:
        with importable(path), foreign(f"running file {place!r}"):
            described.loader.exec_module(module)
    except TenfoldError:
        del sys.modules[name]
        raise
    return module


def _package_module(place: str, noun: str, known: Iterable[str]) -> ModuleType:
    with foreign(f"importing module {place!r}"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not f"{place}.".startswith(f"{error.name}."):  # something that it imports is missing
                raise
            meant = near_misses(place, known)
            raise TenfoldError(f"{place!r} is neither {noun} nor a module that can be imported{meant}") from error


def _member(module: ModuleType, name: str, where: str) -> Callable[[], Any]:
    """The callable of a module. Raises: TenfoldError with near misses if it has none of that name."""
    members = vars(module)
    if name not in members:
        functions = [key for key, value in members.items() if callable(value) and not key.startswith("_")]
        functions.sort(key=lambda key: getattr(members[key], "__module__", None) != module.__name__)  # its own first
        raise TenfoldError(f"{where} has no function {name!r}{near_misses(name, functions)}")
    function: Callable[[], Any] = members[name]
    if not callable(function):
        raise TenfoldError(f"{name!r} in {where} is of type {type(function).__name__}, not a function.")
    return function
