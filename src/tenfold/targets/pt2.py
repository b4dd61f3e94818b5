"""`.pt2`: a program of torch.export, which torch loads and runs."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.export import ExportedProgram

from tenfold import runners
from tenfold.measure.runtimes import quiet_exporter
from tenfold.targets.base import Target


class PT2(Target):
    """What `torch.export.load` reads. Outputs keep their containers, and so names are not needed."""

    runner = Path(runners.__file__).with_name("pt2.py")

    def made(self, program: ExportedProgram, outputs: Sequence[str]) -> bytes:
        del outputs
        content = io.BytesIO()
        with quiet_exporter():
            torch.export.save(program, content)
        return content.getvalue()
