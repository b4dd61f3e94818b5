"""What was typed, checked and made into values before any work."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from tenfold.api import Opened, given_only, is_dense, open_network, parse_inputs
from tenfold.cli.screen import be_silent, note
from tenfold.data import DATA_SETS, load_data
from tenfold.devices import device_named
from tenfold.inputs import Inputs
from tenfold.planning import Asked
from tenfold.processes import rank
from tenfold.protocols import BatchDim, Data, TenfoldError, near_misses
from tenfold.recovery import Machine, Precision, join_processes
from tenfold.storage import Document, alone, check_writable
from tenfold.tasks import task_named


@dataclass(frozen=True)
class Prepared:
    """A network, and what it is to be measured and judged on.

    Attributes:
        inputs: as asked for, or of the network's own shape; None where data gives them, or nothing does.
        calibration: batches of inputs from data of their own, where that was named.
    """

    opened: Opened
    document: Document
    data: Data | None
    inputs: Any
    calibration: Iterable[Any] | None = None


def prepare(
    model: str,
    *,
    weights: Path | None = None,
    data: str | None = None,
    task: str | None = None,
    shapes: Sequence[str] | None = None,
    batch_dim: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    batch_size: int = 128,
    seed: int = 0,
    trust_code: bool = False,
    wants_weights: bool = True,
    calibrate_data: str | None = None,
) -> Prepared:
    """The network and its data, or the sentence that says which of the two cannot be had.

    Args: task: instead of the data's own; wants_weights: warn where the weights are drawn at random.
    """
    if task is not None:
        task_named(task)
        if data is None:
            raise TenfoldError(f"--task {task} says what data is for; give --data, too.")
    batch = dimension(batch_dim)
    asked = parse_inputs(shapes, batch) if shapes else None
    given = {"mean": numbers("mean", mean), "std": numbers("std", std)}
    opened = open_network(model, weights=weights, trust_code=trust_code, seed=seed)
    if wants_weights and opened.drawn:
        note(f"warning: '{model}' has no trained weights, they are drawn at random; give --weights FILE.")
    normalised = normalisation(opened, given, data)
    shape = shape_of(asked) or opened.input_shape
    loaded = None
    how: dict[str, Any] = {**normalised, "batch_size": batch_size, "seed": seed, "input_shape": shape}
    calibration = None if calibrate_data is None else load_data(calibrate_data, **how).inputs
    if data is not None:
        loaded = load_data(data, **how)
        loaded = replace(loaded, task=task or loaded.task, batch=loaded.batch if batch is None else batch)
        if normalised and is_known(data):
            note("inputs: " + ", ".join(f"{key} {' '.join(f'{v:g}' for v in normalised[key])}" for key in normalised))
    if asked is None and loaded is None and opened.document.input:
        asked = parse_inputs(spelled(opened.document.input, opened.document.dtypes), batch)
    document = replace(opened.document, normalisation=normalised or None)
    return Prepared(opened, document, loaded, asked, calibration)


def shape_of(asked: Any) -> tuple[int, ...] | None:
    """The shape of one sample, where one tensor was asked for."""
    if isinstance(asked, torch.Tensor):
        return tuple(asked.shape[1:])
    return tuple(asked.shapes[0]) if isinstance(asked, Inputs) and len(asked.shapes) == 1 else None


def dimension(text: str | None) -> BatchDim:
    """What `--batch-dim` says."""
    if text is None:
        return None
    if text == "none":
        return "none"
    if not text.isdecimal():
        raise TenfoldError(f"--batch-dim '{text}' is no dimension; write 0, 1, .. or none.")
    return int(text)


def spelled(shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str]) -> list[str]:
    """Inputs as they are typed, `ids=128:int64`; a lone `x` has no name."""
    found = []
    for name, sizes in shapes.items():
        text = "x".join(map(str, sizes)) + (f":{dtypes[name]}" if name in dtypes else "")
        found.append(text if list(shapes) == ["x"] else f"{name}={text}")
    return found


def is_known(data: str) -> bool:
    """Whether this is a data set of ours, which normalises as it is told."""
    return data.partition(":")[0].lower() in DATA_SETS


def normalisation(
    opened: Opened, given: dict[str, tuple[float, ...] | None], data: str | None
) -> dict[str, tuple[float, ...]]:
    """Mean and std by channel: as typed, or the network's own, or the data set's; empty where nobody says."""
    own = opened.document.normalisation or {}
    entry = DATA_SETS[data.partition(":")[0].lower()] if data is not None and is_known(data) else None
    found = {}
    for key, value in given.items():
        values = value or own.get(key) or (getattr(entry, key) if entry else None)
        if values is not None:
            found[key] = tuple(values)
    if len(found) == 1:
        raise TenfoldError(f"--{next(iter(found))} alone does not normalise inputs; give --mean and --std.")
    for each in found.get("std", ()):
        if not 0 < each < math.inf:
            raise TenfoldError(f"--std {each:g}: inputs are divided by it; give numbers above 0.")
    if found and len(found["mean"]) != len(found["std"]):
        raise TenfoldError(
            f"--mean has {len(found['mean'])} channels and --std {len(found['std'])}; give a number a channel to both."
        )
    return found


def numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    """`0.5,0.5,0.5` as numbers."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise TenfoldError(f"--{name} '{text}' is no list of numbers; write 0.5,0.5,0.5.") from None


def layers_of(given: Sequence[str] | None) -> dict[str, str]:
    """`PATTERN=FORMAT[:RANKS]`, split at the last `=` outside brackets."""
    found = {}
    for text in given or ():
        depth, at = 0, -1
        for k in reversed(range(len(text))):
            depth += {")": 1, "(": -1}.get(text[k], 0)
            if text[k] == "=" and depth == 0:
                at = k
                break
        if at < 1 or not text[at + 1 :]:
            raise TenfoldError(f"--layer '{text}' is not PATTERN=FORMAT; write 'fc=svd:16' or 'layer1.*=dense'.")
        found[text[:at]] = text[at + 1 :]
    return found


def asked_for(layer: Sequence[str] | None, **given: Any) -> Asked:
    """The options of `tenfold.plan` that were given."""
    return given_only({**given, "layers": layers_of(layer)})


def machine(device: str | None, threads: int | None) -> torch.device | None:
    """Set torch's threads, and the device by its name; meet the processes that torchrun started, of which one speaks.

    Raises: TenfoldError for one that is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    found = device_named(device)
    join_processes(found)
    if rank() > 0:
        be_silent()
    return found


def trained_by(
    mixed_precision: str, accumulate: int, average: float, shard: bool, checkpoint_minutes: float
) -> Machine:
    """How a training runs, as it was typed.

    Raises: TenfoldError for a precision that there is not.
    """
    known = get_args(Precision)
    if mixed_precision not in known:
        raise TenfoldError(f"there is no precision '{mixed_precision}'{near_misses(mixed_precision, known)}")
    precision = cast(Precision, mixed_precision)
    return Machine(
        mixed_precision=precision, accumulate=accumulate, average=average, shard=shard,
        checkpoint_minutes=checkpoint_minutes,
    )  # fmt: skip


def check_out(out: Path, overwrite: bool) -> None:
    """Make sure, before anything is read, that a folder can be written in the end, and that no other run is at it.

    Raises: TenfoldError for a folder that cannot be written, or that another run is writing.
    """
    check_writable(out, overwrite)
    with alone(out):
        pass


def dense_only(opened: Opened, model: str) -> None:
    """Raise for a folder of a compressed network where a dense one is wanted."""
    if opened.plan is not None and not is_dense(opened.plan):
        raise TenfoldError(
            f"'{model}' is compressed already; give the dense network that it was made from, or train it on with "
            f"tenfold recover {model}."
        )
