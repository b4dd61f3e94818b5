"""The tensors of a network: each once under its first owner's name, and back into their places."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tenfold.layers.coded import Coding, codings, decoded, encoded
from tenfold.protocols import TenfoldError, within
from tenfold.surgery.memory import beside, views
from tenfold.surgery.references import redirected
from tenfold.surgery.stored import narrowed

STORABLE = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
    torch.bool, torch.complex64,
}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """Where a network holds a tensor."""

    module: nn.Module
    key: str
    tensor: Tensor

    @property
    def is_parameter(self) -> bool:
        """A parameter, or else a buffer."""
        return self.key in self.module._parameters


@dataclass(frozen=True)
class Packed:
    """The tensors of a network as they are stored; the fields are those of `Manifest`."""

    tensors: dict[str, Tensor]
    tied: dict[str, str]
    strides: dict[str, list[int]]
    remade: dict[str, str]
    widened: dict[str, str]


def slots(model: nn.Module, *, persistent: bool = True) -> dict[str, Slot]:
    """Every place of a tensor by name, in the order of `state_dict`; a shared module's under each of its names.

    `persistent=False`: the buffers that a state dict leaves out.
    """
    return {name: slot for name, slot, stored in every_slot(model) if stored is persistent}


def every_slot(model: nn.Module) -> Iterator[tuple[str, Slot, bool]]:
    """Name, place, and whether a state dict has it; `torch.compile` leaves no trace in the names."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                name = (f"{prefix}.{key}" if prefix else key).replace("_orig_mod.", "")
                yield name, Slot(module, key, tensor), key not in module._non_persistent_buffers_set


def packed(model: nn.Module, dtype: str | None = None) -> Packed:
    """What is stored of a network.

    Args: dtype: in which floating numbers are stored, as in a plan; None: in their own.
    Raises: TenfoldError that names a state that is no tensor, or a tensor that safetensors, or the dtype, does not
        take.
    """
    own = slots(model)
    check_storable(model)
    owner: dict[object, str] = {}
    storages: set[int] = set()
    remade = {name: dtype_name(slot.tensor) for name, slot in slots(model, persistent=False).items()}
    found = Packed({}, {}, {}, remade, {})
    for name, slot in own.items():
        check(name, slot.tensor)
        first = owner.setdefault(identity(slot), name)
        if first != name:
            found.tied[name] = first
            continue
        tensor = slot.tensor.detach()
        if is_permuted(tensor):
            found.strides[name] = list(tensor.stride())
        numbers = tensor.cpu().resolve_conj().resolve_neg().contiguous()
        pointer = numbers.untyped_storage().data_ptr()
        found.tensors[name] = numbers.clone() if pointer in storages else numbers  # views of one storage come apart
        storages.add(pointer)
    tensors = encoded(found.tensors, codings(model))
    stored = {name: narrowed(name, tensor, dtype) for name, tensor in tensors.items()}
    other = [name for name, tensor in stored.items() if tensor.dtype != found.tensors[name].dtype]
    return replace(found, tensors=stored, widened={name: dtype_name(found.tensors[name]) for name in other})


def check_storable(model: nn.Module) -> None:
    """Check, before long work, that all states of a network can be stored.

    Raises: TenfoldError that names a state which is no tensor of its own.
    """
    own = slots(model)
    for key in model.state_dict(keep_vars=True):
        if key.replace("_orig_mod.", "") not in own:
            raise TenfoldError(
                f"'{key}' is neither a parameter nor a buffer (extra state, or a module that packs its own), and "
                f"cannot be stored; keep it in a registered buffer."
            )


def check(name: str, tensor: Tensor) -> None:
    """Raise for what has no numbers yet, or none that safetensors takes."""
    if is_lazy(tensor) or tensor.is_meta:
        raise TenfoldError(f"'{name}' has no numbers yet; run the network on an input, or give it weights, first.")
    if tensor.layout != torch.strided or tensor.dtype not in STORABLE:
        kind = str(tensor.layout if tensor.layout != torch.strided else tensor.dtype).removeprefix("torch.")
        raise TenfoldError(f"'{name}' is {kind}, which safetensors does not take; make it a plain dense tensor.")


def identity(slot: Slot) -> object:
    """Equal for two places of one tensor."""
    tensor = slot.tensor
    if tensor.data_ptr() == 0:
        return id(tensor)
    return slot.is_parameter, tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def is_permuted(tensor: Tensor) -> bool:
    """Whether the numbers fill their memory without gaps in another order than row by row (`channels_last`)."""
    by_rows = torch.empty(tensor.shape, device="meta").stride()
    return tensor.stride() != by_rows and fills(tensor.shape, tensor.stride())


def fills(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether numbers that lie so fill their memory, each in a place of its own."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def dtype_name(tensor: Tensor) -> str:
    """`bfloat16`."""
    return str(tensor.dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """`torch.bfloat16` by its name.

    Raises: TenfoldError for a name that is none of a dtype that can be stored.
    """
    found = next((dtype for dtype in STORABLE if str(dtype) == f"torch.{name}"), None)
    if found is None:
        raise TenfoldError(f"{name!r:.60} is no dtype of tensors that can be stored.")
    return found


def fill(
    model: nn.Module,
    path: Path,
    tied: Mapping[str, str],
    strides: Mapping[str, Sequence[int]],
    remade: Mapping[str, str],
    widened: Mapping[str, str],
) -> None:
    """Put the tensors of a file into their places, in the dtypes that they were saved from, and tie what was tied.

    Args: widened: these dtypes, where the file has narrower ones, or codes.

    Raises: TenfoldError that names what is missing, left over or of another shape.
    """
    own, kept, known = slots(model), beside(model), codings(model)
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            check_fit(own, tied, stored | {name: known[name].shape for name in widened if name in known})
            made: dict[tuple[str, bool], Tensor] = {}
            swaps: dict[Tensor, Tensor] = {}
            for name, slot in own.items():
                source = tied.get(name, name), slot.is_parameter
                if source not in made:
                    with within(f"'{source[0]}'"):
                        numbers = aligned(numbers_in(file, source[0], known, widened), strides.get(source[0]))
                        check_numbers(slot.tensor, numbers)
                    made[source] = in_place_of(slot, numbers.to(slot.tensor.device))
                swaps |= views(slot.tensor, made[source], kept) | {slot.tensor: made[source]}
                setattr(slot.module, slot.key, made[source])
    except SafetensorError as error:
        raise TenfoldError(f"'{path}' is no safetensors file: {error}.") from error
    redirected(model, swaps)
    for name, slot in slots(model, persistent=False).items():
        if remade.get(name, dtype_name(slot.tensor)) != dtype_name(slot.tensor):
            setattr(slot.module, slot.key, slot.tensor.to(dtype_named(remade[name])))


def numbers_in(file: Any, name: str, known: Mapping[str, Coding], widened: Mapping[str, str]) -> Tensor:
    """A tensor of an open file in the dtype that it was saved from, decoded where it is in few bits there."""
    tensor: Tensor = file.get_tensor(name)
    dtype = dtype_named(widened.get(name, dtype_name(tensor)))
    return (
        decoded(tensor, file.get_tensor(known[name].scales).to(dtype), known[name])
        if name in known
        else tensor.to(dtype)
    )


def aligned(numbers: Tensor, strides: Sequence[int] | None) -> Tensor:
    """A copy in memory of torch's own, laid out as it was: kernels round differently on a file mapped unaligned."""
    if strides is None:
        return numbers.clone(memory_format=torch.contiguous_format)
    fit = len(strides) == numbers.ndim and all(0 <= each < 2**62 for each in strides)
    if not fit or not fills(numbers.shape, strides):
        raise TenfoldError(f"{times(numbers.shape)} numbers cannot lie in steps of {times(strides)}.")
    return torch.empty_strided(tuple(numbers.shape), tuple(strides), dtype=numbers.dtype).copy_(numbers)


def check_numbers(place: Tensor, numbers: Tensor) -> None:
    """Raise for whole numbers in the place of others: any precision may be stored of one kind of numbers."""
    if (place.is_floating_point(), place.is_complex()) != (numbers.is_floating_point(), numbers.is_complex()):
        raise TenfoldError(f"it is {dtype_name(place)} there and {dtype_name(numbers)} in the file.")


def in_place_of(slot: Slot, numbers: Tensor) -> Tensor:
    """What goes into a place: a parameter, trainable if the one there was, or a buffer."""
    if not slot.is_parameter:
        return numbers
    trainable = slot.tensor.requires_grad and (numbers.is_floating_point() or numbers.is_complex())
    return nn.Parameter(numbers, requires_grad=trainable)


def check_fit(own: Mapping[str, Slot], tied: Mapping[str, str], stored: Mapping[str, tuple[int, ...]]) -> None:
    """Raise, in one sentence, where a network's places and the stored tensors differ."""
    shapes = dict(stored) | {name: stored[first] for name, first in tied.items() if first in stored}
    lacking = [name for name in own if name not in shapes]
    extra = [name for name in shapes if name not in own]
    other = [
        f"'{name}' is {times(slot.tensor.shape)} there and {times(shapes[name])} in the file"
        for name, slot in own.items()
        if name in shapes and tuple(slot.tensor.shape) != shapes[name]
    ]
    parts = [f"the file has no {several(lacking)}"] if lacking else []
    parts += [f"the network has no {several(extra)}"] if extra else []
    parts += [f"{other[0]}{more(other, 1)}"] if other else []
    if parts:
        raise TenfoldError(f"{'; '.join(parts)}.")


def several(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(f"'{name}'" for name in names[:3]) + more(names, 3)


def more(names: Sequence[str], shown: int) -> str:
    """How many are not shown."""
    return f" (and {len(names) - shown} more)" if len(names) > shown else ""


def times(shape: Sequence[int]) -> str:
    """`16 x 6 x 5 x 5`."""
    return " x ".join(map(str, shape)) or "one number"
