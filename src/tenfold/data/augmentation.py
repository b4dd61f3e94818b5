"""Random changes to a whole batch of byte images that leave their labels true.

What is drawn is drawn on the CPU and applied where the images are: a seed gives the same images on every device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

Augment = Callable[[Tensor, Generator], Tensor]
"""Byte images (n, c, h, w) and a generator -> byte images of the same shape."""


def moved(drawn: Tensor, device: torch.device) -> Tensor:
    """A few numbers on another device, which is not waited for."""
    return drawn.to(device, non_blocking=True)


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Every image mirrored left to right with probability one half; (n, c, h, w) -> (n, c, h, w)."""
    mirrored = moved(torch.rand(len(images), generator=generator) < 0.5, images.device)  # (n,)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True)
class Shift:
    """Every image moved by up to `pixels` along both axes, zeros moving in: a random crop of the padded image."""

    pixels: int

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        n, _, h, w = images.shape
        padded = functional.pad(images, [self.pixels] * 4)
        windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (n, c, 2 pixels + 1, 2 pixels + 1, h, w), a view
        top, left = moved(torch.randint(2 * self.pixels + 1, (2, n), generator=generator), images.device)
        return windows[torch.arange(n, device=images.device), :, top, left]


@dataclass(frozen=True)
class Chain:
    """Augmentations one after the other."""

    parts: tuple[Augment, ...]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        for part in self.parts:
            images = part(images, generator)
        return images
