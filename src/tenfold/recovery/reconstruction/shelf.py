"""Where activations are kept: in memory as far as a budget goes, beyond it in files."""

import mmap
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from tenfold.inputs import tensors_in
from tenfold.inputs.containers import mapped
from tenfold.protocols import TenfoldError

T = TypeVar("T")


class Shelf:
    """Keeps activations where they are while all that are alive fit a budget, and in mapped files beyond it.

    A mapped tensor is one with the same strides, so that nothing is computed otherwise; it lies on the host, and is
    handed out where it was. The files have no names: they are gone with the last tensor on them, or with the process.
    """

    def __init__(self, memory: int | None = None, folder: Path | None = None) -> None:
        """Args: memory in bytes, None without limit; the folder of the files, by default the system's for such."""
        self.memory, self.folder = memory, folder
        self.held: dict[StorageWeakRef, int] = {}  # bytes in memory
        self.homes: dict[StorageWeakRef, torch.device] = {}  # of what is in files

    def count(self, value: Any) -> None:
        """Count what is in memory anyway."""
        self.held |= {
            memory(each): each.untyped_storage().nbytes() for each in tensors_in(value) if is_activation(each)
        }

    def keep(self, value: Any) -> Any:
        """A value with all its activations kept.

        Raises: TenfoldError if the files cannot be written.
        """
        return value if self.memory is None else mapped(self.kept, value)

    def out(self, value: Any) -> Any:
        """A value to compute with, where it was before it was kept: a copy, for it may be written to in place."""
        return mapped(lambda leaf: self.copied(leaf) if isinstance(leaf, Tensor) else leaf, value)

    def home(self, tensor: Tensor) -> torch.device:
        """Where a tensor was before it was kept."""
        return self.homes.get(memory(tensor), tensor.device) if is_activation(tensor) else tensor.device

    def kept(self, leaf: Any) -> Any:
        """One tensor kept; anything else as it is."""
        if self.memory is None or not is_activation(leaf):
            return leaf
        own, size = memory(leaf), leaf.untyped_storage().nbytes()
        if own in self.held or own in self.homes:
            return leaf
        self.held, self.homes = alive(self.held), alive(self.homes)
        if sum(self.held.values()) + size <= self.memory:
            self.held[own] = size
            return leaf
        found = on_file(leaf, self.folder)
        self.homes[memory(found)] = leaf.device
        return found

    def copied(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor; itself where it has more numbers than memory, for torch writes to none such in place."""
        shared = tensor.layout is torch.strided and tensor.untyped_storage().nbytes() < tensor.nbytes
        return tensor.to(self.home(tensor), copy=not shared)


def is_activation(leaf: Any) -> bool:
    """Whether this is a tensor that layers compute with; masks and indices are small."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.layout is torch.strided


def memory(tensor: Tensor) -> StorageWeakRef:
    """Equal for tensors that have one memory; knows whether this is still there."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def alive(known: Mapping[StorageWeakRef, T]) -> dict[StorageWeakRef, T]:
    """What is known of memory that is still there."""
    return {each: value for each, value in known.items() if not each.expired()}  # type: ignore[no-untyped-call]


def on_file(tensor: Tensor, folder: Path | None) -> Tensor:
    """The same tensor on the host, on a file without a name.

    Raises: TenfoldError if it cannot be written.
    """
    numbers = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage()).cpu()
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(numbers.numpy().data)  # (a full disk is an error here, and a signal in mapped memory)
            file.flush()
            room = mmap.mmap(file.fileno(), 0)
    except OSError as error:
        raise TenfoldError(
            f"'{folder or tempfile.gettempdir()}' cannot take {len(numbers) / 1e6:.3g} MB of activations "
            f"({error.strerror}); allow more memory, or use fewer samples."
        ) from error
    whole = torch.frombuffer(room, dtype=tensor.dtype, count=len(numbers) // tensor.itemsize)
    return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
