"""Files of a data set, gzipped or not."""

import gzip
import zlib
from pathlib import Path

from tenfold.protocols import TenfoldError, within


def folder_at(folder: str) -> Path:
    """The folder of that name. Raises: TenfoldError if it is none."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise TenfoldError(f"there is no folder {folder!r}.")
    return path


def content(folder: Path, name: str) -> tuple[Path, bytearray]:
    """The path of `name` or `name.gz` in a folder, and what it holds, unpacked.

    Raises: TenfoldError if there is neither, or if a gzipped file is damaged or cut off.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise TenfoldError(f"folder '{folder}' has neither {name} nor {name}.gz.")
    packed = path.read_bytes()
    if not packed.startswith(b"\x1f\x8b"):
        return path, bytearray(packed)
    with within(str(path)):
        try:
            return path, bytearray(gzip.decompress(packed))
        except (OSError, EOFError, zlib.error) as error:
            raise TenfoldError(f"a gzipped file that is damaged or cut off ({error}); fetch it again.") from error
