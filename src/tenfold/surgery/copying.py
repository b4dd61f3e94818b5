"""A copy of a network that has nothing in common with it."""

import copy
import types
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from tenfold.protocols import TenfoldError
from tenfold.surgery.memory import beside, looking_into, views
from tenfold.surgery.references import outside, redirected, referred

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, where it was compiled or wrapped to run on several devices."""
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif "_orig_mod" in model._modules:  # torch.compile's
            model = model.get_submodule("_orig_mod")
        else:
            return model


def copied(model: nn.Module, without: Iterable[nn.Parameter] = ()) -> nn.Module:
    """A copy of a network, unwrapped; what Python's own copying leaves with the original is copied, too.

    That is functions whose closure or defaults lead to the network or to tensors, weak references, and that a tensor
    looks into a parameter. An activation that a module keeps (a tensor with a history, which torch refuses to copy) is
    kept without its history.

    Args: without: parameters whose numbers the copy does not need: there they have a shape and take no memory.
    Raises: TenfoldError for a network that holds what cannot be copied (an open file, a lock).
    """
    model = unwrapped(model)
    kept = [value for _, _, value in outside(model)]
    kept += [buffer for module in model.modules() for buffer in module._buffers.values()]
    activations = [value for value in kept if isinstance(value, Tensor) and not value.is_leaf]
    memo: dict[int, Any] = {id(parameter): hollow(parameter) for parameter in without}
    memo |= {id(value): value.detach().clone() for value in activations}
    own = set(model.modules())
    functions = [v for v in kept if isinstance(v, types.FunctionType) and leads_to(v, own)]
    memo |= {id(function): twin(function) for function in functions}
    memo |= looks(model)
    try:
        result = copy.deepcopy(model, memo)
        for function in functions:
            fill(memo[id(function)], function, memo)
    except TypeError as error:
        raise TenfoldError(f"{type(model).__name__} cannot be copied: {error}; take that out of it.") from error
    redirected(result, {module: memo[id(module)] for module in own if id(module) in memo})  # (weak references)
    return result


def hollow(parameter: nn.Parameter) -> nn.Parameter:
    """One of the same shape whose numbers are all one zero."""
    return nn.Parameter(parameter.detach().new_zeros(()).expand(parameter.shape), parameter.requires_grad)


def looks(model: nn.Module) -> dict[int, Tensor]:
    """By identity, copies of the parameters that other tensors look into, and of these."""
    kept, found = beside(model), dict[int, Tensor]()
    for parameter in model.parameters():
        if any(tensor is not parameter for _, _, tensor in looking_into(parameter, kept)):
            found[id(parameter)] = copy.deepcopy(parameter)
            found |= {id(tensor): view for tensor, view in views(parameter, found[id(parameter)], kept).items()}
    return found


def leads_to(function: types.FunctionType, modules: set[nn.Module]) -> bool:
    """Whether a function holds one of these modules, or a tensor, which may be a parameter or look into one."""
    return any(isinstance(value, Tensor) or value in modules for value in referred(function))


def twin(function: types.FunctionType) -> types.FunctionType:
    """The same function with a closure and defaults of its own, still empty."""
    closure = tuple(types.CellType() for _ in function.__closure__ or ())
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
    made.__qualname__, made.__doc__ = function.__qualname__, function.__doc__
    return made


def fill(made: types.FunctionType, function: types.FunctionType, memo: dict[int, Any]) -> None:
    """Give a twin copies of what the function holds."""
    for new, old in zip(made.__closure__ or (), function.__closure__ or (), strict=True):
        new.cell_contents = copy.deepcopy(old.cell_contents, memo)
    made.__defaults__ = copy.deepcopy(function.__defaults__, memo)
    made.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
