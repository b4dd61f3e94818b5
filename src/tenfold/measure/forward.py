"""One forward of a network as it is measured: in eval mode, without gradients, everything left as it was."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.protocols import TenfoldError, call

# what torch and the networks written in it raise on inputs that do not suit them
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError)
Before = Callable[[nn.Module], None]
After = Callable[[nn.Module, list[Tensor], Tensor], None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; training flags and the states of the random generators come back in the end."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def run(model: nn.Module, inputs: Any) -> Any:
    """The network's output.

    Raises: TenfoldError, one sentence with the exception and the shapes of the inputs, if it cannot run on them.
    """
    try:
        return call(model, inputs)
    except TenfoldError:
        raise
    except FAILURES as error:
        message = " ".join(str(error).split())[:300].rstrip(".")
        raise TenfoldError(
            f"{type(model).__name__} cannot run on inputs of {described(inputs)}: {type(error).__name__}: {message}; "
            "give inputs as its forward takes them (a tensor, a tuple of them, or a dict by name)."
        ) from error


def described(inputs: Any) -> str:
    """`shape 1x3x224x224 float32` for each tensor of the inputs."""
    shapes = [f"shape {'x'.join(map(str, t.shape)) or '()'} {str(t.dtype)[6:]}" for t in tensors_in(inputs)]
    return ", ".join(shapes) or f"type {type(inputs).__name__}"


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in lists, tuples and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(part)


def batch_size(inputs: Any) -> int:
    """Samples in the inputs: the first dimension of the first tensor."""
    first = next(tensors_in(inputs), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1


def device_of(model: nn.Module) -> torch.device | None:
    """Where the first parameter lives; None for a network without parameters."""
    return next((parameter.device for parameter in model.parameters()), None)


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

    own = {module: vars(module).get("forward") for module in modules}
    try:
        for module in own:
            vars(module)["forward"] = wrapped(module, module.forward)
        yield
    finally:
        for module, forward in own.items():
            vars(module).pop("forward", None)
            vars(module).update({} if forward is None else {"forward": forward})


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
