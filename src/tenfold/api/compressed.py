"""`Compressed`: what the verbs hand back; written as a folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tenfold import storage
from tenfold.api.evaluate import evaluate
from tenfold.arguments import typed
from tenfold.inputs import Inputs
from tenfold.inputs.containers import held
from tenfold.processes import rank
from tenfold.protocols import Data
from tenfold.recovery.checkpoint import remove
from tenfold.report import Report, sentences
from tenfold.report.html import compressed_page
from tenfold.storage import JSON, Document
from tenfold.surgery import Plan, stored


@dataclass(frozen=True)
class Compressed:
    """A compressed network and what is to be known of it.

    Attributes:
        model: to be trained further or used; `tenfold.save` writes it with all the rest.
        words: the report in plain sentences.
        document: where the network came from.
        state: the folder of checkpoints that it was trained with, which `tenfold.save` deletes.
    """

    model: nn.Module
    plan: Plan
    report: Report
    words: tuple[str, ...]
    document: Document
    state: Path | None = None

    def measured(self, data: Data | None = None, *, inputs: Any = None) -> "Compressed":
        """The same with a report of the network as it is now, after a training of your own; arguments of `evaluate`.

        Where the plan says in what type numbers are stored, they are rounded to it first, in the network itself.
        """
        stored(self.model, self.plan.dtype)
        report = replace(self.report, recovered=evaluate(self.model, data, inputs=inputs))
        return replace(self, report=report, words=tuple(sentences(report)))


@typed
def save(compressed: Compressed, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write the folder that a colleague can load, read and run: all of it or nothing.

    Only then are the checkpoints deleted by which the training could go on. Of several processes the first writes.

    Raises: TenfoldError for a folder that cannot be written.
    """
    if rank() > 0:
        return
    report = json.loads(compressed.report.to_json())
    name, versions = compressed.document.origin.name, storage.versions()
    storage.save(
        folder, compressed.model, compressed.plan, compressed.document, report=report,
        report_html=compressed_page(name, compressed.report, compressed.words, versions), words=compressed.words,
        recipe=compressed.report.settings.get("recipe"), overwrite=overwrite,
    )  # fmt: skip
    if compressed.state is not None:
        remove(compressed.state)


def documented(document: Document, inputs: Inputs | None) -> Document:
    """The document, with the shape of one sample where it did not have it: by name, or `x`.

    Inputs that shapes alone do not tell (nested, lists, a batch elsewhere than in front) are left out.
    """
    if document.input is not None or inputs is None or set(inputs.dims) != {0}:
        return document
    found = {"x": inputs.value} if isinstance(inputs.value, Tensor) else dict(held(inputs.value) or {})
    if not all(isinstance(tensor, Tensor) for tensor in found.values()):
        return document
    named = {key if isinstance(key, str) else f"x{key}": tensor for key, tensor in found.items()}
    if len(named) == 1 and not isinstance(inputs.value, Mapping):
        named = {"x": next(iter(named.values()))}
    whole = {name: str(x.dtype).removeprefix("torch.") for name, x in named.items() if not x.dtype.is_floating_point}
    return replace(document, input={name: list(x.shape[1:]) for name, x in named.items()}, dtypes=whole)


def sampled(inputs: Inputs | None) -> dict[str, JSON]:
    """Settings of a report: the shapes of one sample, and what one is where that is no matter of course."""
    if inputs is None:
        return {"inputs": []}
    return {"inputs": plain(inputs.shapes), **({"sampling": inputs.note} if inputs.note else {})}


def plain(value: Any) -> JSON:
    """A setting as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
