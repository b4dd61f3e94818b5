"""One run at a time: a lock file that a second run finds held, and that ends with the process which holds it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tenfold.processes import rank
from tenfold.protocols import TenfoldError

HOLDER = "process "  # how the text of our lock files begins


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only run that writes a folder, as long as the block lasts.

    The lock file stands beside the folder, which is replaced as a whole. Its lock is the system's, so that a run that
    was killed holds nothing.
    Raises: TenfoldError if another run holds it, or if nothing can be written there.
    """
    place = folder.expanduser().resolve()
    with holding(place.with_name(f".{place.name}.lock"), folder):
        yield


@contextmanager
def holding(file: Path, guarded: Path) -> Iterator[None]:
    """Hold a lock file as long as the block lasts; afterwards it is gone, and so are the folders made for it.

    Of the processes of one run the first holds it for all.
    """
    if rank() > 0:
        yield
        return
    made = [parent for parent in file.parents if not parent.exists()]
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TenfoldError(
            f"another run ({holder(file)}) is writing '{guarded}'; wait until it has ended, or name another folder."
        ) from error
    except OSError as error:
        raise TenfoldError(f"'{guarded}' cannot be locked: {error.strerror or error}; name another folder.") from error
    try:
        sign(file)
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()
        for parent in made:
            with suppress(OSError):  # not empty: the run has written there
                parent.rmdir()


def sign(file: Path) -> None:
    """Say in a held lock file who holds it; where the system has no locks, filelock has said it already."""
    with suppress(OSError):  # a full disk: the lock is held unsigned, too
        said = file.read_text(encoding="utf-8", errors="replace")
        if not said or said.startswith(HOLDER):
            file.write_text(f"{HOLDER}{os.getpid()} on {socket.gethostname()}", encoding="utf-8")


def holder(file: Path) -> str:
    """Who holds a lock file, as far as it is known."""
    with suppress(OSError, UnicodeDecodeError):
        return " ".join(file.read_text(encoding="utf-8").split()) or "of this machine"
    return "of another user"
