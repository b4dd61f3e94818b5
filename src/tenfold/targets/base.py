"""`Target`: a kind of file that a network is shipped as."""

import runpy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from torch.export import ExportedProgram

from tenfold.protocols import TenfoldError

Forward = Callable[[Sequence[Any]], list[Any]]  # arrays in, arrays out


class Target(ABC):
    """A kind of file that runs without tenfold; subclasses are final.

    Law: what the runner makes of a file gives the outputs of the captured network, in order.

    Attributes:
        packages: that must be there, of the extra `tenfold[export]`.
        runner: a Python file whose `opened(file, threads)` gives the forward of a file, arrays in and arrays out; it
            imports nothing of tenfold.
    """

    packages: ClassVar[Sequence[str]] = ()
    runner: ClassVar[Path]

    @abstractmethod
    def made(self, program: ExportedProgram, outputs: Sequence[str]) -> bytes:
        """The content of the file.

        Args: outputs: names for what the program gives, in order.
        Raises: TenfoldError for what such a file cannot hold.
        """

    def check_installed(self) -> None:
        """Raise where a package is missing."""
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise TenfoldError(
                f"this export needs {' and '.join(missing)}, which is not installed; pip install 'tenfold[export]'."
            )

    def opened(self, file: Path, threads: int) -> Forward:
        """The forward of a file, in this process."""
        forward: Forward = runpy.run_path(str(self.runner))["opened"](str(file), threads)
        return forward
