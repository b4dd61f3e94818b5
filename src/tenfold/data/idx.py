"""MNIST and the sets that share its files: four IDX files in a folder (http://yann.lecun.com/exdb/mnist)."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tenfold.data.augmentation import Augment
from tenfold.data.files import content, folder_at
from tenfold.data.labelled import Labelled, Wanted, data_of
from tenfold.protocols import Data, TenfoldError, within


@dataclass(frozen=True)
class IdxFolder:
    """A loader for a folder of IDX files; the last 5,000 training images are the validation part."""

    augment: Augment

    def __call__(self, folder: str, wanted: Wanted) -> Data:
        path = folder_at(folder)
        train, validation = _labelled(path, "train").without_last(5000)
        return data_of(train, validation, _labelled(path, "t10k"), wanted, augment=self.augment)


def read_idx(folder: Path, name: str, axes: int) -> Tensor:
    """The bytes of an IDX file `name` or `name.gz`, as a uint8 tensor with that many axes.

    Raises: TenfoldError that names the file if it is absent, of another kind, damaged or cut off.
    """
    path, data = content(folder, name)
    with within(str(path)):
        magic = bytes((0, 0, 8, axes))  # two zeros, the type (unsigned byte), the number of axes
        if data[:4] != magic:
            raise TenfoldError(f"starts with {data[:4].hex()!r}, but an IDX file of this kind with {magic.hex()!r}.")
        start = 4 + 4 * axes
        shape = [int.from_bytes(data[k : k + 4], "big") for k in range(4, start, 4)]
        if len(data) != start + math.prod(shape) or not all(shape):
            promised = f"{' x '.join(map(str, shape))} bytes"
            raise TenfoldError(f"promises {promised}, but holds {max(len(data) - start, 0)}; fetch it again.")
        return torch.frombuffer(data, dtype=torch.uint8, offset=start).reshape(shape)


def _labelled(folder: Path, part: str) -> Labelled:
    images = read_idx(folder, f"{part}-images-idx3-ubyte", 3)  # (n, h, w)
    labels = read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise TenfoldError(f"folder '{folder}' has {len(images)} {part} images, but {len(labels)} labels.")
    return Labelled(images[:, None], labels.long())
