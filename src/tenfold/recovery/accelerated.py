"""What accelerate decides: on which device a training runs, over which processes, and how they hold the network."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tenfold.layers import Layer
from tenfold.processes import several
from tenfold.protocols import TenfoldError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin


def join_processes(device: torch.device | None = None) -> None:
    """Meet the processes that `torchrun` started beside this one, if it did; `tenfold.processes` knows them then.

    Args: device: that the training was asked to run on.
    """
    if _launched():
        from accelerate import PartialState

        PartialState(cpu=_on_cpu(device))


def training_device(device: torch.device | str | None = None) -> torch.device:
    """Where a training runs: on the device that it was asked to, or else the one that accelerate finds.

    Of several processes each has the device of its number.
    """
    from accelerate import PartialState

    asked = None if device is None else torch.device(device)
    if asked is not None and not _launched():
        return asked
    found: torch.device = PartialState(cpu=_on_cpu(asked)).device
    return found


def check_shard(shard: bool) -> None:
    """Raise a TenfoldError where a network is to be shared out, and there is but one process."""
    if shard and not several():
        raise TenfoldError("one process has nobody to share a network with; start several with torchrun, or leave it.")


def accelerator_for(device: torch.device, mixed_precision: str, accumulate: int, shard: bool) -> "Accelerator":
    """Accelerate, which moves nothing by itself; a batch and its schedule are one step, over however many processes.

    Raises: TenfoldError for a precision or a way to hold the network that accelerate, or this process, cannot have.
    """
    from accelerate import Accelerator, PartialState
    from accelerate.utils import DataLoaderConfiguration, DistributedType

    joined = PartialState(cpu=_on_cpu(device))
    if not shard and joined.distributed_type == DistributedType.FSDP:
        raise TenfoldError("this process has shared a network out, which accelerate then does to all; start another.")
    plugin = _sharing() if shard else None
    if shard:  # accelerate 1.15 heeds the plugin for GPUs alone, and would replicate on CPUs without a word
        joined.distributed_type = DistributedType.FSDP
    try:
        accelerator = Accelerator(
            cpu=_on_cpu(device), device_placement=False, mixed_precision=mixed_precision, fsdp_plugin=plugin,
            gradient_accumulation_steps=accumulate, dataloader_config=DataLoaderConfiguration(split_batches=True),
        )  # fmt: skip
    except ValueError as error:  # a second precision in one process, or one that the device lacks
        raise TenfoldError(f"accelerate refuses mixed_precision={mixed_precision!r} here: {error}") from error
    if plugin is not None:
        accelerator.state.fsdp_plugin = plugin
    if mixed_precision != "no" and accelerator.device.type != device.type:
        raise TenfoldError(
            f"mixed_precision={mixed_precision!r} is for {accelerator.device.type} in this process, not for {device}; "
            "use 'no', or the device that accelerate finds."
        )
    return accelerator


def same_everywhere(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Give these tensors the first process's numbers, in place; all processes must call it."""
    from accelerate.utils import broadcast

    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(broadcast(tensor.detach().to(device, copy=True)))


def gather_into(model: nn.Module, shared: nn.Module) -> None:
    """Give a network the numbers of its copy, of which each process holds a part; all processes must call it."""
    with torch.no_grad():
        parts = (*shared.parameters(), *shared.buffers())
        for own, part in zip((*model.parameters(), *model.buffers()), parts, strict=True):
            own.copy_(whole(part))


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a part, in one piece; all processes must call it."""
    if not several():
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def repeated(model: nn.Module) -> list[str]:
    """Classes of which a list of the network holds several, each made of further modules: its blocks."""
    kinds: Counter[type[nn.Module]] = Counter()
    for owner in model.modules():
        if isinstance(owner, nn.ModuleList | nn.Sequential):
            kinds.update(type(each) for each in owner if _is_block(each))
    return [kind.__name__ for kind, count in kinds.items() if count > 1]


def _is_block(module: nn.Module) -> bool:
    """Whether it is called, and calls others."""
    called = type(module).forward is not nn.Module.forward
    return called and not isinstance(module, Layer) and any(True for _ in module.children())


def _sharing() -> "FullyShardedDataParallelPlugin":
    from accelerate.utils import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")


def _launched() -> bool:
    """Whether `torchrun` started this process, and others beside it."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _on_cpu(device: torch.device | None) -> bool:
    """Whether several processes are to run on CPUs, which accelerate has to be told."""
    return _launched() and (not torch.cuda.is_available() or (device is not None and device.type == "cpu"))
