"""Images with labels in memory, and the four parts of a `Data` made of them."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor

from tenfold.data.augmentation import Augment
from tenfold.data.batches import Batches
from tenfold.protocols import Data, TenfoldError


@dataclass(frozen=True)
class Wanted:
    """How the caller wants batches.

    Attributes:
        mean, std: one number a channel, for pixels from 0 to 1.
        batch_size: images in a batch.
        seed: of the order and augmentation of training batches.
        input_shape: (channels, height, width) of one image, or None for what the data set has.
        device: where images in memory are kept and batches are made.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int = 128
    seed: int = 0
    input_shape: tuple[int, ...] | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (a device does not change)


@dataclass(frozen=True)
class Labelled:
    """Images, uint8 (n, c, h, w), and their labels, int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __getitem__(self, part: slice | Tensor) -> "Labelled":
        return replace(self, images=self.images[part], labels=self.labels[part])

    def on(self, device: torch.device) -> "Labelled":
        """The same on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))

    def without_last(self, most: int) -> "tuple[Labelled, Labelled]":
        """All but the last images, and the last: `most` of them, though never more than a tenth."""
        kept = len(self.labels) - min(most, len(self.labels) // 10)
        return self[:kept], self[kept:]


def fixed_order(count: int) -> Tensor:
    """One shuffled order of `count` things that no seed changes, so that "the first 1,000" are always the same."""
    return torch.randperm(count, generator=Generator().manual_seed(0))


def data_of(
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    wanted: Wanted,
    *,
    augment: Augment,
    white: float = 255.0,
) -> Data:
    """The four parts of a `Data`. Raises: TenfoldError if the images are of another shape than is wanted."""
    shape = tuple(train.images.shape[1:])
    if wanted.input_shape not in (None, shape):
        asked = " x ".join(map(str, wanted.input_shape or ()))
        raise TenfoldError(f"the images are {' x '.join(map(str, shape))}, but the network takes {asked}.")
    train, validation, test = (part.on(wanted.device) for part in (train, validation, test))
    batches = partial(Batches, mean=wanted.mean, std=wanted.std, batch_size=wanted.batch_size, white=white)
    return Data(
        train=batches(train.images, train.labels, augment=augment, shuffle=True, seed=wanted.seed),
        inputs=batches(train.images, None, order=fixed_order(len(train.labels))),
        validation=batches(validation.images, validation.labels),
        test=batches(test.images, test.labels),
    )
