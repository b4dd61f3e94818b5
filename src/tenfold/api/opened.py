"""A network by name: of the zoo, of a function, or a folder that tenfold wrote."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tenfold import storage
from tenfold.arguments import typed
from tenfold.models import again, load_weights, resolve
from tenfold.protocols import TenfoldError
from tenfold.recovery.randomness import seeded
from tenfold.storage import Document, Origin
from tenfold.surgery import Plan


@dataclass(frozen=True)
class Opened:
    """A network and what is known of it.

    Attributes:
        document: where it came from, its input normalisation and the shape of one sample.
        plan: how it was compressed, if it is a folder.
        drawn: whether its weights were drawn at random, as far as is known.
    """

    model: nn.Module
    document: Document
    plan: Plan | None = None
    drawn: bool = False

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample, where there is one input and it is known."""
        shapes = list((self.document.input or {}).values())
        return tuple(shapes[0]) if len(shapes) == 1 else None

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Of the inputs, by channel."""
        return None if self.document.normalisation is None else tuple(self.document.normalisation["mean"])

    @property
    def std(self) -> tuple[float, ...] | None:
        """Of the inputs, by channel."""
        return None if self.document.normalisation is None else tuple(self.document.normalisation["std"])


def open_network(spec: str, *, weights: str | Path | None = None, trust_code: bool = False, seed: int = 0) -> Opened:
    """A network in eval mode.

    Args:
        spec: what `tenfold.models.resolve` takes, or a folder that tenfold wrote.
        weights: a safetensors or torch file for a dense network; without one its weights are drawn from `seed`.
        trust_code: whether a folder may run the code that it names.
    Raises: TenfoldError for a name, file or folder that does not work, in one sentence.
    """
    if storage.is_folder(spec):
        if weights is not None:
            raise TenfoldError(f"'{spec}' is a folder with weights of its own; leave --weights out.")
        model = load(spec, trust_code=trust_code)
        return Opened(model, storage.read_document(spec), storage.read_plan(spec))
    if Path(spec).is_dir():
        raise TenfoldError(f"'{spec}' is a folder, but not one that tenfold wrote (it has no model.json of ours).")
    source = resolve(spec)
    if source.trained and weights is not None:
        raise TenfoldError(f"'{spec}' has weights of its own; leave --weights out.")
    with seeded(seed, "weights", torch.device("cpu")):
        model = source.function()
    if weights is not None:
        load_weights(model, weights)
    normalisation = None if source.mean is None else {"mean": source.mean, "std": source.std or ()}
    shape = None if source.input_shape is None else {"x": source.input_shape}
    document = Document(Origin(source.kind, source.name, source.code), normalisation, shape)
    return Opened(model.eval(), document, drawn=source.trained is False and weights is None)


@typed
def load(folder: str | Path, *, model: nn.Module | None = None, trust_code: bool = False) -> nn.Module:
    """The network of a folder, in eval mode.

    Args:
        model: the dense architecture, in any state; without it the folder says where it comes from.
        trust_code: whether to run the code that the folder names.
    Raises: TenfoldError that names the file that is missing, altered or not ours, or says that code must be allowed.
    """
    return storage.load(folder, build=build, model=model, trust_code=trust_code)


def build(origin: Origin, folder: Path) -> nn.Module:
    """The dense architecture that a folder names; only code of the kind that it names is run."""
    return again(origin.kind, origin.name, origin.code).function()


def origin_of(model: nn.Module) -> Origin:
    """What a folder says of a network that was made in Python."""
    return Origin("given", type(model).__name__)


def dense_of(folder: str, opened: Opened) -> nn.Module | None:
    """The dense network behind a compressed folder, to be measured: its weights are any; None for a dense network."""
    if opened.plan is None or all(row.is_dense for row in opened.plan.rows.values()):
        return None
    with torch.random.fork_rng(devices=[]):
        return build(opened.document.origin, Path(folder)).eval()
