"""Devices by the names that people give."""

import torch

from tenfold.protocols import TenfoldError


def device_named(device: str | torch.device | None) -> torch.device | None:
    """A device by its name; one that is none, or None, stays as it is.

    Raises: TenfoldError for one that is not there.
    """
    if not isinstance(device, str):
        return device
    try:
        found = torch.device(device.lower())
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise TenfoldError(f"there is no device '{device}'; use cpu, cuda or cuda:1.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise TenfoldError(f"device '{device}' is not there: torch finds {count} CUDA devices; use cpu.")
    return found
