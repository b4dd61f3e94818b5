"""References to modules and parameters that a network keeps outside its tree: found, and led to other modules.

`self.order = [self.a, self.b]`, a dict, a bound method, a partial, a closure, an object of the user's own: an exchange
in the tree alone leaves these with the old module, and the forward runs that one.
"""

import functools
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from typing import Any

import numpy as np
from torch import Tensor, nn

TREE = ("_modules", "_parameters", "_buffers")  # where torch keeps a module's parts
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType)  # refer to nothing
Replace = Callable[[Any], Any]  # what stands for a module, tensor or function: itself, or another


def redirected(model: nn.Module, swaps: Mapping[Any, Any]) -> None:
    """Lead, in place, every reference outside the tree of a network from some modules, or tensors, to others.

    A bound method becomes the method of that name of the other module.
    """
    walk = Walk(tree(model), lambda value: value if isinstance(value, np.ndarray) else swaps.get(value, value))
    for module in model.modules():
        walk.attributes(module)


def outside(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """(module, attribute, what) for every module, tensor, array and function that is referred to outside the tree."""
    inside = tree(model)
    for name, module in model.named_modules():
        for key in [key for key in vars(module) if key not in TREE]:
            noted = Noted()
            Walk(inside, noted).value(vars(module)[key])
            for value in noted.found:
                yield name, key, value


def referred(function: types.FunctionType) -> list[Any]:
    """Every module, tensor, array and function that a function's closure and defaults lead to."""
    noted = Noted()
    Walk(frozenset(), noted).value(function)
    return noted.found


def tree(model: nn.Module) -> frozenset[int]:
    """The identities of a network's modules."""
    return frozenset(id(module) for module in model.modules())


class Noted:
    """Notes what it is asked for, and replaces nothing."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self.found.append(value)
        return value


class Walk:
    """What refers to modules and parameters, visited once each; containers keep their identity where they can."""

    def __init__(self, tree: frozenset[int], replace: Replace) -> None:
        """Args: tree: identities of the modules whose parts are not visited; what stands for each value."""
        self.tree, self.replace = tree, replace
        self.seen: set[int] = set()

    def attributes(self, owner: Any) -> None:
        """All attributes of an object; of a module of the tree, those outside the tree."""
        held, inside = vars(owner), TREE if id(owner) in self.tree else ()
        for key in [key for key in held if key not in inside]:
            new = self.value(held[key])
            if new is not held[key]:
                held[key] = new

    def value(self, value: Any) -> Any:
        """What stands for a value once all that it refers to was replaced; the value itself where that is nothing."""
        if isinstance(value, nn.Module | Tensor | types.FunctionType):
            new = self.replace(value)
            if new is not value or id(value) in self.tree | self.seen or isinstance(value, Tensor):
                return new
            self.seen.add(id(value))
            if isinstance(value, types.FunctionType):
                return self.function(value)
            self.attributes(value)  # of a module that is registered nowhere, and so its parts
            return value
        if isinstance(value, np.ndarray):
            return self.replace(value)
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, types.MethodType):
            return self.method(value)
        if isinstance(value, functools.partial):
            return self.partial(value)
        if isinstance(value, weakref.ref):
            target = value()
            new = self.value(target)
            return value if new is target else weakref.ref(new)
        if isinstance(value, tuple | frozenset):
            return self.frozen(value)
        if id(value) in self.seen:
            return value
        self.seen.add(id(value))
        self.inside(value)
        return value

    def inside(self, value: Any) -> None:
        """The parts of a container, or of an object, replaced in place."""
        if isinstance(value, MutableSequence | deque):
            for at, part in enumerate(value):
                new = self.value(part)
                if new is not part:
                    value[at] = new
        elif isinstance(value, MutableMapping):
            self.mapping(value)
        elif isinstance(value, MutableSet):
            for part in list(value):
                new = self.value(part)
                if new is not part:
                    value.remove(part)
                    value.add(new)
        elif hasattr(value, "__dict__") and not type(value).__module__.startswith("torch."):
            self.attributes(value)

    def mapping(self, value: MutableMapping[Any, Any]) -> None:
        """Keys and values of a mapping, in their order."""
        pairs = [(key, self.value(key), part, self.value(part)) for key, part in value.items()]
        if any(new is not key for key, new, _, _ in pairs):
            value.clear()
            value.update({key: part for _, key, _, part in pairs})
        else:
            value.update({key: new for key, _, part, new in pairs if new is not part})

    def method(self, value: types.MethodType) -> Any:
        """A bound method, of the object that stands for its own."""
        owner = self.value(value.__self__)
        return value if owner is value.__self__ else getattr(owner, value.__name__)

    def partial(self, value: "functools.partial[Any]") -> Any:
        """A function with arguments."""
        function, args, named = self.value(value.func), self.value(value.args), dict(value.keywords)
        self.mapping(named)
        same = function is value.func and args is value.args and named == dict(value.keywords)
        return value if same else functools.partial(function, *args, **named)

    def frozen(self, value: Any) -> Any:
        """A tuple, named or not, or a frozen set."""
        parts = [self.value(part) for part in value]
        if all(new is part for new, part in zip(parts, value, strict=True)):
            return value
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)

    def function(self, value: types.FunctionType) -> Any:
        """A function with other modules in its closure; a new one, for the old may serve the network's original."""
        cells = value.__closure__ or ()
        try:
            held = [cell.cell_contents for cell in cells]
        except ValueError:  # a name that is not bound yet
            return value
        parts, defaults = [self.value(part) for part in held], self.value(value.__defaults__)
        if defaults is value.__defaults__ and all(new is part for new, part in zip(parts, held, strict=True)):
            return value
        closure = tuple(types.CellType(part) for part in parts)
        made = types.FunctionType(value.__code__, value.__globals__, value.__name__, defaults, closure)
        made.__kwdefaults__, made.__qualname__ = value.__kwdefaults__, value.__qualname__
        made.__dict__.update(vars(value))
        return made
