"""The modules beside a file: found, imported, and kept apart from those of other files.

A file that a user names imports its neighbours as if it had been run by itself. Two files may have neighbours of one
name, so each folder has modules of its own: while code of the folder runs an import, they are those in `sys.modules`.
"""

import ast
import builtins
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tenfold.protocols import TenfoldError

_own: dict[Path, dict[str, ModuleType]] = {}  # folder -> its modules by name
_loaded: dict[Path, set[Path]] = {}  # a named file -> neighbours that were first imported while it ran
_texts: dict[str, int] = {}  # path -> checksum of the text that runs
_added: set[str] = set()  # entries of sys.path that named files added


def neighbours(file: Path) -> tuple[Path, ...]:
    """The files in the folder of a file, and in folders below, that it imports, and that those import.

    Raises: TenfoldError for an import of what is neither there nor installed: it would not be found elsewhere.
    """
    file = file.resolve()
    found: set[Path] = set()
    waiting = [file, *_loaded.get(file, ())]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in imported(path, file.parent):
            parts = name.split(".")
            beside = [place for k in range(len(parts)) if (place := place_of(parts[: k + 1], file.parent))]
            waiting += beside
            if not beside:
                check_installed(parts[0], path)
    return tuple(sorted(found - {file}))


def imported(path: Path, folder: Path) -> set[str]:
    """The dotted names that a file's import statements may load, relative ones as seen from the folder."""
    package = path.relative_to(folder).parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def place_of(parts: Sequence[str], folder: Path) -> Path | None:
    """The file of a module in a folder, if it is there."""
    base = folder.joinpath(*parts)
    return next((place for place in (base / "__init__.py", base.with_name(f"{base.name}.py")) if place.is_file()), None)


def check_installed(name: str, importer: Path) -> None:
    """Raise where a module that was imported would not be found without the folders of this run."""
    module = sys.modules.get(name)
    where = None if module is None else origin_of(module)
    if where is None or name in sys.stdlib_module_names:
        return
    main = getattr(sys.modules["__main__"], "__file__", None)
    passing = {Path.cwd(), *map(Path, _added), *([Path(main).resolve().parent] if main else [])}
    before = list(sys.path)
    sys.path[:] = [entry for entry in before if entry and Path(entry).resolve() not in passing]
    try:
        known = any(finder.find_spec(name, None) is not None for finder in sys.meta_path)
    finally:
        sys.path[:] = before
    if not known:
        raise TenfoldError(
            f"'{importer}' imports '{name}' from '{where}', which is neither beside it nor installed, and would not be "
            f"found elsewhere; put '{name}' into the folder of the network's file, or install it."
        )


def origin_of(module: ModuleType) -> Path | None:
    """The file of a module, or its folder where it has no file; None for one that has neither."""
    path = getattr(module, "__path__", ())
    places = [getattr(module, "__file__", None), *(path if isinstance(path, Iterable) else ())]
    return next((Path(place).resolve() for place in places if isinstance(place, str)), None)


@contextmanager
def importable(file: Path) -> Iterator[None]:
    """Let a file import its neighbours, as if it had been run by itself; afterwards those of others are back."""
    folder = file.parent
    own, finder, path = _own.setdefault(folder, {}), _Beside(file), list(sys.path)
    aside = {name: module for name, module in named_as_in(folder).items() if is_anothers(name, module, folder)}
    for name in aside:
        del sys.modules[name]
    sys.modules.update(own)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        _added.update(set(sys.path) - set(path))
        own.clear()
        own.update({name: module for name, module in named_as_in(folder).items() if lies_in(folder, name, module)})
        files = {name: place_of(name.split("."), folder) for name in own if name not in before}
        _loaded.setdefault(file, set()).update(filter(None, files.values()))
        for name in [name for name in own if name.partition(".")[0] in aside]:
            own[name].__name__ = f"tenfold_{zlib.crc32(str(folder).encode()):08x}_{name}"  # torch.compile goes by it
            sys.modules[own[name].__name__] = sys.modules.pop(name)
        sys.modules.update(aside)


def named_as_in(folder: Path) -> dict[str, ModuleType]:
    """The modules, of whatever place, with the name of something that lies in a folder."""
    names = {path.stem for path in folder.iterdir()}
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}


def is_anothers(name: str, module: ModuleType, folder: Path) -> bool:
    """Whether a module belongs to another folder of ours."""
    return any(own.get(name) is module for other, own in _own.items() if other != folder)


def lies_in(folder: Path, name: str, module: ModuleType) -> bool:
    """Whether a module is the one that an import of this name finds in a folder."""
    base = folder.joinpath(*name.split("."))
    return origin_of(module) in (base / "__init__.py", base.with_name(f"{base.name}.py"), base)


def forget_edited(folder: Path) -> bool:
    """Drop a folder's modules if one of their files was edited since; whether that was so."""
    own = _own.get(folder, {})
    places = [origin_of(module) for module in own.values()]
    if all(place is None or place.is_dir() or _texts.get(str(place)) == checksum(place) for place in places):
        return False
    for name, module in own.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
    own.clear()
    return True


def checksum(place: Path) -> int | None:
    """Of a file's text; None where there is none."""
    return zlib.crc32(place.read_bytes()) if place.is_file() else None


class FromSource(SourceFileLoader):
    """Reads no bytecode and leaves none: nothing is written beside the file, and every edit is seen.

    Import statements of the module find its neighbours whenever they run, in a forward pass, too.
    """

    def __init__(self, name: str, path: str, *, file: Path) -> None:
        super().__init__(name, path)
        self.file = file

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_data(self.path)
        _texts[self.path] = zlib.crc32(text)
        return self.source_to_code(text, self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": partial(_import, self.file)}
        super().exec_module(module)


class _Beside(MetaPathFinder):
    """Finds the neighbours of a file by their sources."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source: Any = (partial(FromSource, file=self.file), [".py"])  # a class, for the standard library's types
        for place in [str(self.file.parent)] if path is None else path:
            if Path(place).resolve().is_relative_to(self.file.parent):
                found = FileFinder(place, source, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec(fullname)
                if found is not None and found.loader is not None:  # a bare folder may hide an installed package
                    return found
        return None


def _import(
    file: Path,
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> ModuleType:
    """`__import__` as a module beside the file has it."""
    top = file.parent / name.partition(".")[0]
    if level == 0 and not top.exists() and not top.with_name(f"{top.name}.py").exists():
        return builtins.__import__(name, globals, locals, fromlist, level)
    with importable(file):
        return builtins.__import__(name, globals, locals, fromlist, level)
