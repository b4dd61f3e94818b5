"""What hangs on a module: hooks, taken along to the one that takes its place; or the reason why it must stay."""

import dis
import inspect
from collections.abc import Iterator
from functools import cache

from torch import nn
from torch.nn.utils import parametrize

from tenfold.layers import Layer, plain_type
from tenfold.layers.base import made_by
from tenfold.layers.computed import hooks

RUNNING = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
STORED = ("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


def obstacle(module: nn.Module, kind: type[Layer]) -> str | None:
    """Why a module must stay because of what hangs on this very instance, in words; None if all can be taken along."""
    held = vars(module)
    if "forward" in held:
        offload = "_hf_hook" in held
        return "its forward was replaced on the instance" + (" by a hook that moves weights" if offload else "")
    if any(held.get(name) for name in STORED) and not (any(hooks(module)) or parametrize.is_parametrized(module)):
        return "it has hooks on its state dict, which know the dense weight"
    for name, part in module.named_modules():
        if part is not module and ("forward" in vars(part) or any(vars(part).get(hook) for hook in RUNNING)):
            return f"its '{name}' has hooks, and is not called by itself"
    if taken := [name for name in attributes(module) if name in assigned(kind) or made_by(kind, name)]:
        return f"it was given an attribute '{taken[0]}', a name that a compressed layer needs for itself"
    if own := [name for name, _ in module.named_buffers(recurse=False) if not is_mask(module, name)]:
        return f"it was given a buffer '{own[0]}', which the kind of layer does not know"
    known = {*assigned(type(module)), "parametrizations"}
    if own := [name for name, _ in module.named_children() if name not in known]:
        return f"it was given a module '{own[0]}', which the kind of layer does not know"
    return None


def carry_over(old: nn.Module, new: nn.Module) -> None:
    """Give a module the hooks that hang on the one whose place it takes, in place.

    Attributes come by `hand_on`, when a layer is made and when it is lowered.
    """
    computing = {id(hook) for hook in hooks(old)}
    for name in RUNNING:
        own = vars(new)[name]
        own.update({key: hook for key, hook in vars(old)[name].items() if id(hook) not in computing})
    if vars(old)["_is_full_backward_hook"] is not None:
        new._is_full_backward_hook = old._is_full_backward_hook


def attributes(module: nn.Module) -> Iterator[str]:
    """Attributes that somebody put on a module: those that no method of its class assigns."""
    known = {*vars(nn.Module()), *assigned(plain_type(module)), "weight"}  # torch's hooks keep a weight there
    return (name for name in vars(module) if name not in known and not name.startswith("_"))


def is_mask(module: nn.Module, name: str) -> bool:
    """Whether a buffer belongs to a weight that the module computes."""
    return any(name.startswith(f"{getattr(hook, '_tensor_name', None) or hook.name}_") for hook in hooks(module))


def assigned(kind: type) -> set[str]:
    """The names that the methods of a class, and of those above it, assign to attributes."""
    return {name for part in kind.__mro__ for name in stored_by(part)}


@cache
def stored_by(part: type) -> frozenset[str]:
    """The names that a class's own methods assign to attributes."""
    found: set[str] = set()
    for member in vars(part).values():
        function = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else None
        if inspect.isfunction(function):
            steps = dis.get_instructions(function)
            found.update(str(step.argval) for step in steps if step.opname == "STORE_ATTR")
    return frozenset(found)
