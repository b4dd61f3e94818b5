"""Sums over the processes of `torch.distributed`, each of which saw a part of the inputs."""

from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from tenfold.processes import gathered, several
from tenfold.statistics.sums import Sums

Key = TypeVar("Key", bound=Hashable)


def summed_over_processes(sums: Mapping[Key, Sums]) -> dict[Key, Any]:
    """Sums by any name, added up over all processes, each of which may lack some; all processes must call it."""
    if not several():
        return dict(sums)
    shapes = {key: (type(own), [getattr(own, part.name).shape for part in fields(own)]) for key, own in sums.items()}
    known = {key: each for one in gathered(shapes) for key, each in one.items()}  # in one order everywhere
    found = {}
    for key, (kind, each) in known.items():
        own = sums[key] if key in sums else kind(*(torch.zeros(shape, dtype=torch.float64) for shape in each))
        found[key] = kind(*(summed(getattr(own, part.name)) for part in fields(kind)))
    return found


def summed(part: Tensor) -> Tensor:
    """A tensor added up over all processes, on the device where these exchange tensors."""
    device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    total = part.to(device, copy=True)
    distributed.all_reduce(total)
    return total.cpu()
