"""What a network writes over after a layer was given it: gradients need it as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tenfold.inputs.containers import tensors_in
from tenfold.inputs.forward import run_hooked


@contextmanager
def as_given(model: nn.Module, inputs: Any) -> Iterator[None]:
    """A network whose layers learn from what they were given, also where it is written over later.

    Args: inputs: of one forward, which shows what is.
    """
    hooks = [m.register_forward_pre_hook(on_copies, with_kwargs=True) for m in written_over(model, inputs)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def written_over(model: nn.Module, inputs: Any) -> list[nn.Module]:
    """The innermost modules with parameters that were given something which changes after them."""
    seen: list[tuple[str, Tensor, int]] = []

    def watched(name: str, module: nn.Module) -> RemovableHandle:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
            seen.extend((name, tensor, tensor._version) for tensor in tensors_in([*args, *kwargs.values()]))

        return module.register_forward_hook(after, with_kwargs=True)

    holders = [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters())]
    run_hooked(model, inputs, [watched(*each) for each in holders])
    found = {name for name, tensor, version in seen if tensor._version != version}
    innermost = [name for name in found if not any(other.startswith(f"{name}.") for other in found)]
    return [model.get_submodule(name) for name in sorted(innermost)]


def on_copies(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """A hook: what a module is given, copied."""
    del module
    copies = [each.clone() if isinstance(each, Tensor) else each for each in args]
    return tuple(copies), {name: each.clone() if isinstance(each, Tensor) else each for name, each in kwargs.items()}
