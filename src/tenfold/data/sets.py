"""Data sets by name, and data named by a function."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch

from tenfold.data.augmentation import Shift, flip
from tenfold.data.cifar10 import cifar10
from tenfold.data.digits import digits
from tenfold.data.idx import IdxFolder
from tenfold.data.imagefolder import imagefolder
from tenfold.data.labelled import Wanted
from tenfold.devices import device_named
from tenfold.named import named_function
from tenfold.protocols import Data, TenfoldError, within

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataSet:
    """A data set that has a name.

    Attributes:
        load: (folder, wanted) -> Data; the folder is empty where none was given.
        mean, std: what its images are normalised with where the network does not say.
        spelling: how it is asked for.
    """

    load: Callable[[str, Wanted], Data]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    spelling: str


DATA_SETS: dict[str, DataSet] = {
    "digits": DataSet(digits, (0.3053,), (0.3760,), "digits"),
    "mnist": DataSet(IdxFolder(Shift(2)), (0.1307,), (0.3081,), "mnist:DIR"),
    "fashion-mnist": DataSet(IdxFolder(flip), (0.2860,), (0.3530,), "fashion-mnist:DIR"),
    "cifar10": DataSet(cifar10, _IMAGENET_MEAN, _IMAGENET_STD, "cifar10:DIR"),
    "imagefolder": DataSet(imagefolder, _IMAGENET_MEAN, _IMAGENET_STD, "imagefolder:DIR"),
}


def load_data(
    spec: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int = 128,
    seed: int = 0,
    input_shape: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Data:
    """The data that a specification names.

    Args:
        spec: `digits`, `mnist:DIR`, `fashion-mnist:DIR`, `cifar10:DIR`, `imagefolder:DIR`, or a function without
            arguments, `path/to/file.py:function` or `package.module:function`, that gives a `Data`.
        mean, std: one number a channel, for pixels from 0 to 1, as the network wants; the data set's own if None.
        batch_size: images in a batch.
        seed: of the order and augmentation of training batches; no split and no other order depends on it.
        input_shape: (channels, height, width) that the network takes; pictures of a folder are brought to it.
        device: where images are kept, as bytes, and batches are made; pictures of a folder stay on the CPU.
            A function normalises, shuffles and batches as it likes: for it these arguments are not used.
    Raises: TenfoldError if there is no such data, or if a file of it is absent, damaged or does not suit.
    """
    name, _, folder = spec.partition(":")
    if name.lower() not in DATA_SETS:
        named = named_function(spec, noun="a data set", known=[entry.spelling for entry in DATA_SETS.values()])
        return as_data(named(), named.spec)
    entry = DATA_SETS[name.lower()]
    if entry.spelling.endswith(":DIR") and not folder:
        raise TenfoldError(f"{spec!r} does not say where the files lie; write {entry.spelling}.")
    wanted = Wanted(
        mean=entry.mean if mean is None else tuple(mean),
        std=entry.std if std is None else tuple(std),
        batch_size=batch_size,
        seed=seed,
        input_shape=None if input_shape is None else tuple(input_shape),
        device=device_named(device) or torch.device("cpu"),
    )
    with within(f"data {name.lower()!r}"):
        return entry.load(folder, wanted)


def as_data(value: Any, where: str) -> Data:
    """A `Data` with the attributes of any object that has them; loss, score and feed may be left to their defaults.

    Args:
        value: what a function gave.
        where: the function's name, for errors.
    Raises: TenfoldError that names what is missing, or a part that could be iterated only once.
    """
    missing = [field.name for field in fields(Data) if field.default is MISSING and not hasattr(value, field.name)]
    if missing:
        kind = type(value).__name__
        raise TenfoldError(f"{where!r} gave a value of type {kind}, which has no {', '.join(missing)}; give a Data.")
    data = Data(**{field.name: getattr(value, field.name) for field in fields(Data) if hasattr(value, field.name)})
    for part in ("train", "inputs", "validation", "test"):
        if not hasattr(getattr(data, part), "__iter__") or isinstance(getattr(data, part), Iterator):
            kind = type(getattr(data, part)).__name__
            raise TenfoldError(f"{where!r} gave {part} as a {kind}, which cannot be iterated again and again.")
    return data
