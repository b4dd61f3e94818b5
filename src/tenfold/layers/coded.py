"""Cores of few bits as a file has them: codes end to end in bytes, scales in 16 bits. Pure functions of state dicts."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight
from tenfold.protocols import TenfoldError
from tenfold.quantization import Scheme, pack, unpack
from tenfold.quantization.scheme import STORED


@dataclass(frozen=True)
class Coding:
    """How a core lies in few bits: its scheme and shape, and the name of its scales."""

    scheme: Scheme
    shape: tuple[int, ...]
    scales: str


def codings(model: nn.Module) -> dict[str, Coding]:
    """Every core with few bits by its name in the state dict; a shared one under each of its names."""
    found = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, FactoredWeight):
            start = f"{prefix}.".removeprefix(".").replace("_orig_mod.", "")
            for k, scheme in enumerate(module.schemes):
                if scheme is not None:
                    shape = tuple(module.cores[k].shape)
                    found[f"{start}cores.{k}"] = Coding(scheme, shape, f"{start}scales.{k}")
    return found


def scales_in(model: nn.Module) -> set[int]:
    """The identities of all scales: parameters that say how others lie."""
    weights = (module for module in model.modules() if isinstance(module, FactoredWeight))
    return {id(scale) for weight in weights for scale in weight.each_scale if scale is not None}


def encoded(tensors: Mapping[str, Tensor], known: Mapping[str, Coding]) -> dict[str, Tensor]:
    """Tensors with codes in the place of cores that have few bits, and their scales in 16 bits."""
    result = dict(tensors)
    for name, coding in known.items():
        if name in tensors:
            scales = tensors[coding.scales].detach()
            result[name] = pack(coding.scheme.codes(tensors[name].detach(), scales), coding.scheme.bits)
            result[coding.scales] = scales.cpu().to(STORED)
    return result


def decoded(packed: Tensor, scales: Tensor, coding: Coding) -> Tensor:
    """The core of codes, in the dtype of the scales.

    Raises: TenfoldError for another number of bytes, or of scales.
    """
    scheme, shape = coding.scheme, coding.shape
    groups = scheme.groups(shape)
    wanted = scheme.stored_bytes(shape) - groups * scheme.scales * STORED.itemsize
    if tuple(packed.shape) != (wanted,) or tuple(scales.shape) != (groups, scheme.scales):
        raise TenfoldError(
            f"{packed.numel()} bytes of codes and {scales.numel()} scales are not those of {scheme.bits} bits in a "
            f"core of {' x '.join(map(str, shape))}."
        )
    return scheme.numbers(unpack(packed, scheme.bits, shape), scales)
