"""`Inputs`: what a network is given, and where in it samples are counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tenfold.inputs.containers import leaves, mapped, to_device
from tenfold.inputs.forward import described
from tenfold.protocols import TenfoldError

ENTRIES = -1  # the place of the batch in a list whose entries are the samples

Part = Tensor | list[Tensor]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network is given, and where in it samples are counted.

    Attributes:
        value: what `tenfold.inputs.call` takes, in whatever containers.
        dims: for each part in order (a tensor, or a list of nothing but tensors) the dimension that counts samples,
            `ENTRIES` where the entries of a list are the samples, None for what all samples share.
        fixed: whether the network takes this number of samples and no other.
    Raises: TenfoldError where dims and parts are not equally many, or parts have not equally many samples.
    """

    value: Any
    dims: tuple[int | None, ...]
    fixed: bool = False

    def __post_init__(self) -> None:
        parts = parts_of(self.value)
        if len(self.dims) != len(parts):
            raise TenfoldError(
                f"the inputs ({self.described}) have {len(parts)} parts and batch dimensions for {len(self.dims)}; "
                "give one for each, None for what all samples share."
            )
        sizes = {size(part, dim) for part, dim in zip(parts, self.dims, strict=True) if dim is not None}
        if len(sizes) > 1 or None in sizes:
            raise TenfoldError(
                f"the inputs ({self.described}) have no common number of samples along dimensions "
                f"{', '.join(map(str, self.dims))}; give None for what all samples share."
            )

    @property
    def each(self) -> list[tuple[Part, int | None]]:
        """Every part with its batch dimension."""
        return list(zip(parts_of(self.value), self.dims, strict=True))

    @property
    def size(self) -> int:
        """Samples; 1 where no part counts any: the whole is one sample then."""
        return next((size(part, dim) or 0 for part, dim in self.each if dim is not None), 1)

    @property
    def is_cut(self) -> bool:
        """Whether fewer or more samples can be made of them."""
        return not self.fixed and any(dim is not None for dim in self.dims)

    @property
    def described(self) -> str:
        """`shape 1x3x224x224 float32` for each tensor."""
        return described(self.value)

    @property
    def shapes(self) -> list[list[int]]:
        """The shape of one sample, for each part; of a list whose entries are samples, that of the first."""
        found = []
        for part, dim in self.each:
            tensors = [part] if isinstance(part, Tensor) else part[:1] if dim == ENTRIES else part
            found += [[n for k, n in enumerate(tensor.shape) if k != dim] for tensor in tensors]
        return found

    @property
    def note(self) -> str:
        """What a reader of numbers `a sample` is to know; empty where samples are cut and counted as usual."""
        if all(dim is None for dim in self.dims):
            return "No batch is known in the inputs, so all of them count as one sample."
        if self.fixed:
            many = f"{self.size} sample{'s' if self.size > 1 else ''}"
            return f"The network takes {many} at a time and no other number, so it is measured on these."
        return ""

    def samples(self, count: int) -> "Inputs":
        """The first samples; all of them where they cannot be cut."""
        return self.at(range(min(count, self.size))) if self.is_cut else self

    def repeated(self, count: int) -> "Inputs":
        """So many samples, begun anew where there are fewer.

        Raises: TenfoldError where no other number of samples can be made.
        """
        if not self.is_cut and count != self.size:
            why = self.note.partition(", so ")[0]
            raise TenfoldError(
                f"no batch of {count} can be made of inputs of {self.described}: {why[:1].lower()}{why[1:]}."
            )
        return self.at([k % self.size for k in range(count)])

    def at(self, indices: Sequence[int]) -> "Inputs":
        """The samples at these places."""
        return self.with_parts([taken(part, dim, indices) for part, dim in self.each])

    def with_parts(self, parts: Sequence[Part]) -> "Inputs":
        """The same containers around other parts."""
        each = iter(parts)
        return replace(self, value=mapped(lambda leaf: next(each) if is_part(leaf) else leaf, self.value, is_part))

    def to(self, device: torch.device | str) -> "Inputs":
        """On a device."""
        return replace(self, value=to_device(self.value, device))


def is_part(value: Any) -> bool:
    """Whether this is a tensor, or a list of nothing but tensors."""
    return isinstance(value, Tensor) or (
        isinstance(value, list) and len(value) > 0 and all(isinstance(each, Tensor) for each in value)
    )


def parts_of(value: Any) -> list[Part]:
    """The tensors and the lists of tensors, in order."""
    return [leaf for leaf in leaves(value, is_part) if is_part(leaf)]


def size(part: Part, dim: int) -> int | None:
    """Samples of a part along a dimension; None if it has none there, or its tensors do not agree."""
    if not isinstance(part, Tensor):
        sizes = {size(tensor, dim) for tensor in part}
        return len(part) if dim == ENTRIES else sizes.pop() if len(sizes) == 1 else None
    return part.shape[dim] if 0 <= dim < part.ndim else None


def taken(part: Part, dim: int | None, indices: Sequence[int]) -> Part:
    """The samples of a part at these places."""
    if dim is None:
        return part
    if isinstance(part, Tensor):
        return part.index_select(dim, torch.tensor(list(indices), device=part.device))
    if dim == ENTRIES:
        return [part[k] for k in indices]
    return [tensor.index_select(dim, torch.tensor(list(indices), device=tensor.device)) for tensor in part]
