"""Batches of images that are kept as bytes, on whatever device, and normalised on the way out."""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from tenfold.protocols import TenfoldError


class Selectable(Protocol):
    """What an index tensor selects from: a tensor of images, or a list of files not read yet."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Any: ...


def normalisation(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation as tensors (channels, 1, 1).

    Raises: TenfoldError unless there is one number a channel, all finite, and every std above zero.
    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise TenfoldError(f"{name} {tuple(values)} must have one number a channel; the images have {channels}.")
        if not all(math.isfinite(value) for value in values):
            raise TenfoldError(f"{name} {tuple(values)} is not finite.")
    if min(std) <= 0:
        raise TenfoldError(f"std {tuple(std)} must be above 0 in every channel.")
    return torch.tensor(mean).reshape(-1, 1, 1), torch.tensor(std).reshape(-1, 1, 1)


class Batches:
    """Batches `(images, labels)`, or images alone, that can be iterated again and again.

    Images come out as float32 (n, c, h, w), `(byte / white - mean) / std`; labels as int64 (n,). The order and the
    augmentation of a pass depend on `seed` and `epoch` only; each pass begun advances `epoch` by one, and setting it
    (`set_epoch`) resumes a run where it stopped. Batches come out where the images are, the same on every device.

    Args:
        images: uint8 (n, c, h, w), or whatever an index tensor selects from, if `augment` makes images of that.
        labels: int64 (n,), where the images are, or None for images alone.
        mean, std: one number a channel, for pixels from 0 to 1.
        batch_size: images in a batch; the last one may be smaller.
        augment: (what was selected, generator) -> uint8 (n, c, h, w).
        shuffle: another order each pass.
        order: positions to go through, int64; all of them, first to last, if None.
        white: the byte that stands for 1.
        seed: of order and augmentation; the global random state is never used.
    Raises: TenfoldError for a batch size below 1, or a mean or std that does not suit.
    """

    def __init__(
        self,
        images: Selectable,
        labels: Tensor | None,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        augment: Callable[[Any, Generator], Tensor] | None = None,
        shuffle: bool = False,
        order: Tensor | None = None,
        white: float = 255.0,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise TenfoldError(f"no batches of {batch_size} images; use 1 or more.")
        channels = images.shape[1] if isinstance(images, Tensor) else len(mean)
        self.device = images.device if isinstance(images, Tensor) else torch.device("cpu")
        self.mean, self.std = (x.to(self.device) for x in normalisation(mean, std, channels))  # (c, 1, 1) each
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.augment = augment
        self.shuffle = shuffle
        self.order = torch.arange(len(images)) if order is None else order
        self.white = white
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """The number of batches in a pass."""
        return math.ceil(len(self.order) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Begin the next pass as this epoch, from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._epoch_batches(epoch)

    def _epoch_batches(self, epoch: int) -> Iterator[Any]:
        generator = Generator().manual_seed(zlib.crc32(f"{self.seed}/{epoch}".encode()))
        order = self.order
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=generator)]
        order = order.to(self.device)
        for start in range(0, len(order), self.batch_size):
            index = order[start : start + self.batch_size]
            images = self._normalised(index, generator)
            yield images if self.labels is None else (images, self.labels[index])

    def _normalised(self, index: Tensor, generator: Generator) -> Tensor:
        images = self.images[index]
        if self.augment is not None:
            images = self.augment(images, generator)
        normalised: Tensor = (images.float() / self.white - self.mean) / self.std
        return normalised
