"""Random draws that depend on a seed and a place, and leave the caller's random state alone."""

import random
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tenfold.protocols import TenfoldError


@contextmanager
def seeded(seed: int, place: str, device: torch.device) -> Iterator[None]:
    """Inside, torch draws what (seed, place) gives, on the CPU and on `device`; afterwards as if nothing was drawn."""
    number = zlib.crc32(f"{seed}/{place}".encode())
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(number)  # torch.manual_seed would reseed devices that are not forked
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)
        yield


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Whatever is done inside, the states of Python, NumPy and torch (CPU and `device`) are as before afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (accelerate sets the legacy state)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def at_epoch(batches: Iterable[Any], epoch: int) -> Iterable[Any]:
    """The same batches, told the epoch (from 0) if they have a method `set_epoch`, as samplers of torch do."""
    if callable(set_epoch := getattr(batches, "set_epoch", None)):
        set_epoch(epoch)
    return batches


def first(name: str, batches: Iterable[Any]) -> Any:
    """The first batch, None where there is none; what torch's loaders and ours count and draw by is left as it was.

    Raises: TenfoldError for an iterator, which would have lost it.
    """
    if isinstance(batches, Iterator):
        raise TenfoldError(
            f"data.{name} is a {type(batches).__name__}, which can be gone through only once; give a list or a loader."
        )
    holders = (batches, getattr(batches, "sampler", None))
    drawn = [g for holder in holders if isinstance(g := getattr(holder, "generator", None), torch.Generator)]
    states, epoch = [generator.get_state() for generator in drawn], getattr(batches, "epoch", None)
    try:
        return next(iter(batches), None)
    finally:
        for generator, state in zip(drawn, states, strict=True):
            generator.set_state(state)
        if epoch is not None:
            at_epoch(batches, epoch)
