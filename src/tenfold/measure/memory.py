"""Peak memory of one forward: parameters, and the tensors that are alive at once."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tenfold.inputs import Inputs, device_of, evaluating, inputs_for, run, tensors_in
from tenfold.measure.counts import parameter_bytes
from tenfold.measure.forward import hooked


def peak_memory_bytes(model: nn.Module, inputs: Any) -> int:
    """Bytes of the parameters, and of the largest sum of tensors that are alive at once in one forward.

    The inputs are among those tensors, parameters and buffers are not; views count once, with the storage that they
    look into. What a kernel takes and gives back within one operation is not seen on a CPU; on a GPU the peak is
    the allocator's own.

    Raises: TenfoldError if the network cannot run on the inputs.
    """
    device, given = device_of(model), inputs_for(model, inputs)
    if device is not None and device.type == "cuda":
        return parameter_bytes(model) + allocated_peak(model, given.value, device)
    return parameter_bytes(model) + live_bytes(model, given.value)[0]


def allocated_peak(model: nn.Module, inputs: Any, device: torch.device) -> int:
    """Bytes of the inputs, which are there, and what one forward adds to the GPU's allocations at its peak."""
    with evaluating(model):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run(model, inputs)
        torch.cuda.synchronize(device)
        added = torch.cuda.max_memory_allocated(device) - before
    return added + sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_in(inputs)}.values()
    )


def live_bytes(model: nn.Module, inputs: Any, within: Iterable[nn.Module] = ()) -> tuple[int, dict[nn.Module, int]]:
    """The largest sum of live tensors in one forward, and the largest while each of the modules `within` runs.

    Args: inputs: as the network takes them, on its device.
    """
    live = Live([*model.parameters(), *model.buffers()], tensors_in(inputs))
    with evaluating(model), hooked(within, live.enter, lambda module, given, result: live.leave(module)), live:
        run(model, inputs)
    return live.peak, live.peaks


def activation_bytes(model: nn.Module, inputs: Inputs) -> tuple[int, int]:
    """Bytes of all tensors that one forward brings to life, no fewer than a backward needs; and of the largest."""
    live = Live([*model.parameters(), *model.buffers()], ())
    with evaluating(model), live:
        run(model, inputs.value)
    return live.made, live.largest


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations bring to life, until the last tensor that looks into one is gone."""

    def __init__(self, ignored: Iterable[Tensor], given: Iterable[Tensor]) -> None:
        """Args: tensors that never count; tensors that are alive from the start."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.ignored = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in ignored)}
        self.storages: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.now = self.peak = self.made = self.largest = 0
        self.running: list[nn.Module] = []
        self.peaks: dict[nn.Module, int] = {}
        for tensor in given:
            self.see(tensor)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor):
                self.see(value)
        return result

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted; one that was resized, at its new size."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self.ignored:
            return
        known = self.storages.get(key)
        if known is not None and known[1] == size:
            return
        self.storages[key] = (known[0] if known else weakref.ref(storage, partial(self.forget, key)), size)
        new = size - (known[1] if known else 0)
        self.now += new
        self.made += max(new, 0)
        self.largest = max(self.largest, size)
        self.peak = max(self.peak, self.now)
        for module in self.running:
            self.peaks[module] = max(self.peaks[module], self.now)

    def forget(self, key: int, _: object) -> None:
        """A storage is gone."""
        self.now -= self.storages.pop(key)[1]

    def enter(self, module: nn.Module) -> None:
        """A module begins to run."""
        self.running.append(module)
        self.peaks[module] = max(self.peaks.get(module, 0), self.now)

    def leave(self, module: nn.Module) -> None:
        """A module has run."""
        self.running.remove(module)
