"""A folder replaced as a whole: it is written beside its place and renamed into it.

Beside `out` there may stand `.out.1a2b3c4d.partial`, a folder that is being written, and `.out.1a2b3c4d.old`, the
whole folder that is being replaced. Between the two renames `out` is not there and the old folder is; readers take
that one. What a run that was killed left behind is settled by the next that writes.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError

from tenfold.documents import yaml_values
from tenfold.protocols import TenfoldError
from tenfold.storage.document import OWN, STATE, marked, model_json

LOCKS = find_spec("fcntl") is not None  # not on Windows
if LOCKS:
    import fcntl

PARTIAL, OLD = ".partial", ".old"


def is_folder(path: str | Path) -> bool:
    """Whether tenfold wrote this folder."""
    return marked(model_json(standing(Path(path)))) is not None


def check_writable(folder: str | Path, overwrite: bool = False) -> None:
    """Check, before long work, that its result can be saved.

    Raises: TenfoldError for a folder that exists (without `overwrite`) or that tenfold did not write (always), for
        a file, a mount point, and where nothing may be written.
    """
    place = resolved(folder)
    found = standing(place)
    if found.is_dir() and is_folder(found):
        if not overwrite:
            raise TenfoldError(f"'{folder}' exists; --overwrite replaces it (overwrite=True), or name another folder.")
    elif found.is_dir() and any(entry.name != STATE for entry in found.iterdir()):
        raise TenfoldError(
            f"'{folder}' holds files and was not written by tenfold, so it is never replaced; name another folder."
        )
    if place.is_mount():
        raise TenfoldError(f"'{folder}' is a mount point and cannot be replaced; name a folder in it.")
    above = next(path for path in place.parents if path.exists())
    for path in (found, above):
        if path.exists() and not path.is_dir():
            raise TenfoldError(f"'{path}' is a file; name a folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise TenfoldError(f"no permission to write in '{above}', where '{folder}' would be; name another folder.")


def resolved(folder: str | Path) -> Path:
    """The place itself: what a link leads to is replaced, not the link."""
    return Path(folder).expanduser().resolve()


def standing(folder: Path) -> Path:
    """The folder, or the old one where a run was stopped between the two renames."""
    place = resolved(folder)
    return folder if place.exists() else next(iter(siblings(place, OLD)), folder)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` at the end of the block.

    Whatever is not tenfold's in the old folder, and `state/`, comes along. An error or a kill at any point leaves the
    old folder, or the new one, whole.
    Raises: TenfoldError where the file system refuses.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        settle(folder)
        partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{PARTIAL}")
        partial.mkdir()
        try:
            with held(partial):
                yield partial
                swap(partial, folder)
        finally:
            settle(folder, own=partial)
    except OSError as error:
        raise TenfoldError(f"'{folder}' cannot be written: {error.strerror or error}.") from error


def swap(partial: Path, folder: Path) -> None:
    """Put everything on the disk, then put the new folder in the old one's place."""
    if folder.exists():
        shutil.copymode(folder, partial)
    for path in (*partial.rglob("*"), partial):
        sync(path)
    if folder.exists():
        os.rename(folder, partial.with_suffix(OLD))
    os.rename(partial, folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk; Windows opens no folders."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def settle(folder: Path, own: Path | None = None) -> None:
    """Finish or undo what runs that are no more began beside the folder; if cut short, the next call goes on.

    Args: own: what this run wrote, and has done with.
    """
    for old in siblings(folder, OLD):
        if is_held(old.with_suffix(PARTIAL), own):
            continue
        if not folder.exists():
            os.rename(old, folder)
            continue
        for entry in sorted(old.iterdir()):
            if entry.name not in OWN and not (folder / entry.name).exists():
                os.rename(entry, folder / entry.name)
        os.rename(old, old.with_suffix(PARTIAL))  # what is called old is always whole
    for partial in siblings(folder, PARTIAL):
        if not is_held(partial, own):
            shutil.rmtree(partial, ignore_errors=True)


def siblings(folder: Path, kind: str) -> list[Path]:
    """What stands beside a folder in its name."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}{re.escape(kind)}")
    return (
        sorted(path for path in folder.parent.iterdir() if name.fullmatch(path.name)) if folder.parent.is_dir() else []
    )


@contextmanager
def held(partial: Path) -> Iterator[None]:
    """Show other runs that this one is alive: the lock ends with the process; without locks, leftovers stay."""
    if not LOCKS:
        yield
        return
    opened = os.open(partial, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def is_held(partial: Path, own: Path | None = None) -> bool:
    """Whether a living run other than this one writes this folder, or nobody can say."""
    if partial == own:
        return False
    if not LOCKS:
        return partial.exists()
    try:
        opened = os.open(partial, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(opened)
    return False


def write_text(path: Path, text: str, marks: Collection[str]) -> None:
    """Write a single document, all of it or nothing; its folder is made.

    Args: marks: the keys by which documents of this kind are known; a file without them is not ours and never replaced.
    Raises: TenfoldError if it cannot be written.
    """
    check_ours(path, marks)
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a single file, all of it or nothing; its folder is made.

    Raises: TenfoldError if it cannot be written.
    """
    with placing(path, content):
        pass


@contextmanager
def placing(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside `path`, which takes its place at the end of the block; an error in it leaves all as it was.

    Raises: TenfoldError if it cannot be written.
    """
    with writing(path) as partial:
        partial.write_bytes(content)
        yield partial


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """The name of a file beside `path`, to be written in the block, which takes its place at the end; likewise.

    Raises: TenfoldError if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:  # the latter is what a full disk comes to there
        raise TenfoldError(f"'{path}' cannot be written ({getattr(error, 'strerror', None) or error}).") from error
    finally:
        with suppress(OSError):  # the first error is the one to be told
            partial.unlink(missing_ok=True)


def check_replaceable(path: str | Path, overwrite: bool, *, example: str, ours: Callable[[Path], None]) -> None:
    """Raise where a single file cannot be written, or where one stands that is not to be replaced.

    Args: example: a name for it; ours: raises where a file stands that is not ours to replace.
    """
    place = Path(path)
    if place.is_dir():
        raise TenfoldError(f"'{path}' is a folder; name a file, such as {place / example}.")
    ours(place)
    if place.exists() and not overwrite:
        raise TenfoldError(f"'{path}' exists; --overwrite replaces it, or name another file with --out.")
    above = next(folder for folder in place.resolve().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise TenfoldError(f"'{path}' cannot be written in '{above}'; name another place with --out.")


def check_ours(path: Path, marks: Collection[str]) -> None:
    """Raise where a file stands that is not ours to replace.

    That is one without a mapping, in JSON or YAML, that has these keys; and one of a compressed network's folder, which
    would not load without it.
    """
    if path.name in OWN and is_folder(path.parent):
        raise TenfoldError(f"'{path}' belongs to the network in its folder and is never replaced; name another file.")
    if path.exists() and not set(marks) <= keys(path):
        raise TenfoldError(f"'{path}' was not written by tenfold, so it is never replaced; name another file.")


def keys(path: Path) -> set[str]:
    """The keys of the mapping in a JSON or YAML file; none for any other file, an empty one included."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if text.startswith("{") else yaml_values(text)
    except (OSError, ValueError, RecursionError):
        return set()
    return {str(key) for key in found} if isinstance(found, dict) else set()
