"""The modules of a network watched and timed while it runs."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import exchanged, tensors_in

Before = Callable[[nn.Module], None]
After = Callable[[nn.Module, list[Tensor], Tensor], None]


def synchronize() -> None:
    """Wait for a GPU that this process uses; nothing otherwise."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


@contextmanager
def hooked(modules: Iterable[nn.Module], before: Before, after: After) -> Iterator[None]:
    """Call `before(module)` and `after(module, tensors given, first tensor that came back)` around every forward.

    These are modules that take and give tensors, as every kind of layer and every recurrence does. Their forwards are
    wrapped: for hooks, torch's encoder layers would leave the fast path that is to be measured.
    """

    def wrapped(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            before(module)
            output = forward(*args, **kwargs)
            after(module, list(tensors_in((args, kwargs))), next(tensors_in(output)))
            return output

        return watched

    with exchanged({module: wrapped(module, module.forward) for module in modules}):
        yield


@contextmanager
def timed(modules: Iterable[nn.Module], spent: dict[nn.Module, float]) -> Iterator[None]:
    """Add the seconds of every call of these modules to `spent`."""
    started: dict[nn.Module, float] = {}

    def before(module: nn.Module) -> None:
        synchronize()
        started[module] = time.perf_counter()

    def after(module: nn.Module, given: list[Tensor], result: Tensor) -> None:
        synchronize()
        spent[module] = spent.get(module, 0.0) + time.perf_counter() - started.pop(module)

    with hooked(modules, before, after):
        yield
