"""Folders of pictures, a folder a class: DIR/train/CLASS/*.jpg, DIR/val and DIR/test likewise; read when asked for."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import exp, log, sqrt
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Generator, Tensor

from tenfold.data.batches import Batches, normalisation
from tenfold.data.files import folder_at
from tenfold.data.labelled import Wanted, fixed_order
from tenfold.protocols import Data, TenfoldError, near_misses

Box = tuple[float, float, float, float]  # left, upper, right, lower edge, in pixels
_ENDINGS = (".jpg", ".jpeg", ".png")
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Files:
    """Pictures by path; an index tensor selects some of them, unread."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> list[Path]:
        return [self.paths[k] for k in index.tolist()]


def centre_box(width: int, height: int, shape: Sequence[int], draw: Random) -> Box:
    """The middle of a picture in the proportions of `shape`: 7/8 of what fits, as 224 of 256.

    A picture that would have to be enlarged for that margin keeps less of one, and one of the very size, none.
    """
    _, h, w = shape
    scale = min(width / w, height / h)
    scale = max(scale * 7 / 8, min(scale, 1.0))
    left, upper = (width - scale * w) / 2, (height - scale * h) / 2
    return left, upper, left + scale * w, upper + scale * h


def random_box(width: int, height: int, shape: Sequence[int], draw: Random) -> Box:
    """8 to 100 % of a picture's area, its sides 3:4 to 4:3 (Szegedy et al., CVPR 2015, section 6)."""
    for _ in range(10):
        area, ratio = draw.uniform(0.08, 1.0) * width * height, exp(draw.uniform(log(3 / 4), log(4 / 3)))
        w, h = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = draw.randint(0, width - w), draw.randint(0, height - h)
            return left, upper, left + w, upper + h
    return centre_box(width, height, shape, draw)


@dataclass(frozen=True)
class Pictures:
    """Reads pictures on threads and resizes a box of each to one shape; usable as the `augment` of `Batches`.

    Attributes:
        shape: (channels, height, width), one channel or three.
        box: (width, height, shape, draw) -> the part of a picture to show.
        mirrored: whether to mirror half of them left to right.
    """

    shape: tuple[int, ...]
    box: Callable[[int, int, Sequence[int], Random], Box]
    mirrored: bool = False

    def __call__(self, paths: Sequence[Path], generator: Generator) -> Tensor:
        """Paths (n) -> uint8 (n, c, h, w). Raises: TenfoldError that names a picture that cannot be read."""
        seeds = torch.randint(2**62, (len(paths),), generator=generator).tolist()
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return torch.stack(list(threads.map(self._picture, paths, seeds)))

    def _picture(self, path: Path, seed: int) -> Tensor:
        from PIL import Image

        draw = Random(seed)
        channels, h, w = self.shape
        try:
            with Image.open(path) as picture:
                box = self.box(*picture.size, self.shape, draw)
                shown = picture.convert(_MODES[channels]).resize((w, h), Image.Resampling.BILINEAR, box=box)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise TenfoldError(f"picture '{path}' cannot be read: {error}.") from error
        pixels = torch.from_numpy(np.array(shown)).reshape(h, w, channels).permute(2, 0, 1)
        return pixels.flip(2) if self.mirrored and draw.random() < 0.5 else pixels


def imagefolder(folder: str, wanted: Wanted) -> Data:
    """Training pictures as random crops and mirrored, all others as their middle; val (or validation), test optional.

    Raises: TenfoldError if Pillow is not installed, if there is no training picture, or a class is not in train.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise TenfoldError("pictures are read with Pillow; pip install 'tenfold[images]'.") from error
    path = folder_at(folder)
    shape = wanted.input_shape or (3, 224, 224)
    if len(shape) != 3 or shape[0] not in _MODES:
        raise TenfoldError(f"pictures have 1 or 3 channels, height and width, but the network takes {shape}.")
    normalisation(wanted.mean, wanted.std, shape[0])  # checked now, not at the first batch
    classes = sorted(entry.name for entry in folder_at(str(path / "train")).iterdir() if entry.is_dir())
    batches = partial(Batches, mean=wanted.mean, std=wanted.std, batch_size=wanted.batch_size)
    plain = partial(batches, augment=Pictures(shape, centre_box))
    files, labels = _labelled(path / "train", classes)
    if not files:
        raise TenfoldError(f"there are no pictures ({', '.join(_ENDINGS)}) in '{path / 'train'}'/CLASS.")
    validation = next((path / name for name in ("val", "validation") if (path / name).is_dir()), path / "val")
    crops = Pictures(shape, random_box, mirrored=True)
    return Data(
        train=batches(files, labels, augment=crops, shuffle=True, seed=wanted.seed),
        inputs=plain(files, None, order=fixed_order(len(files))),
        validation=plain(*_labelled(validation, classes)),
        test=plain(*_labelled(path / "test", classes)),
    )


def _labelled(folder: Path, classes: Sequence[str]) -> tuple[Files, Tensor]:
    """The pictures of a part, class by class, and their labels, int64 (n,); none if the folder is absent."""
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    paths: list[Path] = []
    labels: list[int] = []
    for entry in found:
        if entry.name not in classes:
            raise TenfoldError(f"'{entry}' is no class of the training part{near_misses(entry.name, classes)}")
        pictures = sorted(path for path in entry.iterdir() if path.suffix.lower() in _ENDINGS)
        paths += pictures
        labels += [classes.index(entry.name)] * len(pictures)
    return Files(tuple(paths)), torch.tensor(labels, dtype=torch.long)
