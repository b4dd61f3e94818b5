"""The blocks of a network: parts that are called once, one after the other, found as plain data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tenfold.inputs import Inputs, run_hooked, tensors_in
from tenfold.layers import OPAQUE, kind_of
from tenfold.protocols import TenfoldError, near_misses

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Block:
    """Modules of which each takes what the one before gave, and nothing else runs between them.

    Attributes:
        modules: their names, in the order of their calls; the first takes what the block is given.
    """

    modules: tuple[str, ...]

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.modules[0] or "model"

    def of(self, model: nn.Module) -> list[nn.Module]:
        """The modules in a network."""
        return [model.get_submodule(name) for name in self.modules]


def blocks_of(model: nn.Module, inputs: Inputs, named: Sequence[str] = ()) -> list[Block]:
    """The blocks of a network in the order of their calls.

    A block is one of several alike in a list (a residual block, an encoder layer), or a single layer outside such, with
    the batch norm that follows it. What is called more than once, or not at all, is in none.

    Args:
        inputs: a few samples, on which the calls are watched.
        named: modules that are a block each, whatever is inside or around them.
    Raises: TenfoldError for a name that the network does not have.
    """
    check_named(model, named)
    names = {module: name for name, module in units(model, named)}
    calls: list[tuple[nn.Module, Any, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        calls.append((module, (args, kwargs), result))

    run_hooked(model, inputs.value, [module.register_forward_hook(note, with_kwargs=True) for module in names])
    order = [module for module, _, _ in calls]
    found: list[list[str]] = []
    last: Any = None
    for module, given, result in calls:
        if order.count(module) > 1:
            last = None
            continue
        follows = isinstance(module, _BatchNorm) and last is not None and next(tensors_in(given), None) is last
        if follows:
            found[-1].append(names[module])
        else:
            found.append([names[module]])
        last = next(tensors_in(result), None)
    return [Block(tuple(each)) for each in found]


def check_named(model: nn.Module, named: Sequence[str]) -> None:
    """Raise a TenfoldError for names that are no module with parameters inside the network, and for one in another."""
    known = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    for name in named:
        if name not in known:
            raise TenfoldError(f"block '{name}' is no module of the network with parameters{near_misses(name, known)}")
        if around := [other for other in named if name.startswith(f"{other}.")]:
            raise TenfoldError(f"block '{name}' is inside block '{around[0]}'; name one of them.")


def units(model: nn.Module, named: Sequence[str] = ()) -> Iterator[tuple[str, nn.Module]]:
    """The modules that blocks are made of, by name."""
    yield from below("", model, named) if not is_leaf(model) else iter([("", model)])


def below(name: str, module: nn.Module, named: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """The units inside a module that is none itself."""
    for key, child in module.named_children():
        full = f"{name}.{key}" if name else key
        if not any(True for _ in child.parameters()):
            continue
        listed = isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS)
        whole = is_leaf(child) or listed or not holds_list(child)
        if full in named or (whole and not any(each.startswith(f"{full}.") for each in named)):
            yield full, child
        else:
            yield from below(full, child, named)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one layer."""
    return kind_of(module) is not None or isinstance(module, OPAQUE) or not compound(module)


def compound(module: nn.Module) -> bool:
    """Whether there are modules with parameters inside."""
    return any(True for child in module.children() for _ in child.parameters())


def holds_list(module: nn.Module) -> bool:
    """Whether a module is a container, or has one of several compound parts inside."""
    if isinstance(module, CONTAINERS):
        return True
    lists = [part for part in module.modules() if isinstance(part, CONTAINERS)]
    return any(sum(compound(child) and not is_leaf(child) for child in part.children()) > 1 for part in lists)
