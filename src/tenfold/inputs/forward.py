"""One forward of a network as it is measured: in eval mode, without gradients, everything left as it was."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tenfold.inputs.containers import tensors_in
from tenfold.inputs.states import unchanged
from tenfold.protocols import TenfoldError

# what torch and the networks written in it raise on inputs that do not suit them
FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on its inputs: a list or tuple of positional, a mapping of keyword arguments, or one argument.

    A named tuple (a packed sequence is one) is one argument.
    """
    args, kwargs = arguments(inputs)
    return model(*args, **kwargs)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, as `call` gives them to a model."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list) and not hasattr(inputs, "_fields"):
        return tuple(inputs), {}
    return (inputs,), {}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the network and the random generators are as they were in the end."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with unchanged(model), torch.no_grad(), torch.random.fork_rng(devices=devices):
        model.eval()
        yield


def run_hooked(model: nn.Module, inputs: Any, hooks: Iterable[RemovableHandle]) -> None:
    """One measured forward with hooks that are in place; they are removed in the end."""
    handles = list(hooks)
    try:
        with evaluating(model):
            run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def exchanged(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules with other forwards; afterwards with their own."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            vars(module)["forward"] = forward
        yield
    finally:
        for module, before in own.items():
            vars(module).pop("forward", None)
            vars(module).update({} if before is None else {"forward": before})


def run(model: nn.Module, inputs: Any) -> Any:
    """The network's output; `inputs` as `call` takes them.

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


def device_of(model: nn.Module) -> torch.device | None:
    """Where the first parameter lives; None for a network without parameters."""
    return next((parameter.device for parameter in model.parameters()), None)
