"""The order in which a network calls its modules."""

import logging

from torch import fx, nn

log = logging.getLogger(__name__)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Tracer(fx.Tracer):
    """Every module without children is a leaf, torch's or not."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not list(m.children()) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.Graph | None:
    """The order in which a network calls its modules; None where its forward depends on values."""
    try:
        return Tracer().trace(model)
    except Exception as error:  # noqa: BLE001  (a forward may raise anything on a proxy)
        log.info("%s: %s", type(model).__name__, error)
        return None


def called(model: nn.Module, graph: fx.Graph) -> dict[fx.Node, nn.Module]:
    """The modules of a graph, by the node that calls them."""
    return {node: model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"}


def given(node: fx.Node) -> object:
    """What a module is called with first; None where it is named."""
    return node.args[0] if node.args else None


def is_plain(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether a module is torch's own: no subclass with another forward, no hooks, no weight computed from others."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) in kinds and not hooked and (not list(module.parameters()) or "weight" in module._parameters)
