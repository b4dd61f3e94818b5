"""Activations that write over their input: a map less to fetch memory for."""

import operator
from collections.abc import Mapping

import torch
from torch import fx, nn

from tenfold.layers.plain import CONVOLUTIONS
from tenfold.surgery.tracing import NORMS, called, given, is_plain, traced

ACTIVATIONS = (nn.ReLU, nn.ReLU6)  # their gradients need the output alone
FRESH = (*CONVOLUTIONS, *NORMS, nn.Linear)  # theirs do not need it
SUMS = (operator.add, torch.add)


def activate_in_place(model: nn.Module) -> None:
    """Let every activation, in place, write over what a layer or a sum puts out, where it alone reads that.

    A network that cannot be traced as a whole, or that may be called with fewer inputs, stays as it is: what has not
    been seen may read it, or call the same activation.
    """
    if not any(type(module) in ACTIVATIONS for module in model.modules()):
        return
    graph = traced(model)
    if graph is None or any(node.args for node in graph.nodes if node.op == "placeholder"):  # defaults
        return
    modules = called(model, graph)
    kept = {module for node, module in modules.items() if not is_fresh(given(node), modules)}
    for module in set(modules.values()) - kept:
        if isinstance(module, ACTIVATIONS) and is_plain(module, ACTIVATIONS):
            module.inplace = True


def is_fresh(value: object, modules: Mapping[fx.Node, nn.Module]) -> bool:
    """Whether a value was made by a layer or a sum and is read once."""
    if not isinstance(value, fx.Node) or len(value.users) != 1:
        return False
    if value.op == "call_function":
        return value.target in SUMS
    made_by = modules.get(value)
    if type(made_by) is nn.Identity:  # a folded batch norm
        return is_fresh(given(value), modules)
    return made_by is not None and is_plain(made_by, FRESH)
