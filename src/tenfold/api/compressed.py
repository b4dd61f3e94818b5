"""`Compressed`: what the verbs hand back; written as a folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from tenfold import storage
from tenfold.measure.forward import tensors_in
from tenfold.report import Report
from tenfold.storage import JSON, Document
from tenfold.surgery import Plan


@dataclass(frozen=True)
class Compressed:
    """A compressed network and what is to be known of it.

    Attributes:
        model: to be trained further or used; `tenfold.save` writes it with all the rest.
        words: the report in plain sentences.
        document: where the network came from.
    """

    model: nn.Module
    plan: Plan
    report: Report
    words: tuple[str, ...]
    document: Document


def save(compressed: Compressed, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write the folder that a colleague can load, read and run: all of it or nothing.

    Raises: TenfoldError for a folder that cannot be written.
    """
    report = json.loads(compressed.report.to_json())
    storage.save(
        folder, compressed.model, compressed.plan, compressed.document, report=report, words=compressed.words,
        overwrite=overwrite, keep_state=False,
    )  # fmt: skip


def documented(document: Document, inputs: Any) -> Document:
    """The document, with the shape of one sample where it did not have it: by name, or `x`."""
    if document.input is not None or inputs is None:
        return document
    found = list(tensors_in(inputs))
    numbered = ["x"] if len(found) == 1 else [f"x{k}" for k in range(len(found))]
    named = dict(zip(inputs if isinstance(inputs, Mapping) else numbered, found, strict=False))
    whole = {name: str(x.dtype).removeprefix("torch.") for name, x in named.items() if not x.dtype.is_floating_point}
    return replace(document, input={name: list(x.shape[1:]) for name, x in named.items()}, dtypes=whole)


def shapes(inputs: Any) -> list[list[int]]:
    """Of one sample, of every tensor in the inputs."""
    return [list(tensor.shape[1:]) for tensor in tensors_in(inputs)]


def plain(value: Any) -> JSON:
    """A setting as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
