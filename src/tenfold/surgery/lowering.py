"""A whole network as plain modules, batch norms folded, activations in place."""

import logging
from collections import Counter
from typing import cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tenfold.layers import Layer
from tenfold.layers.base import lowered
from tenfold.layers.plain import CONVOLUTIONS, TRANSPOSED
from tenfold.surgery.carry_out import swapped
from tenfold.surgery.copying import copied
from tenfold.surgery.in_place import activate_in_place
from tenfold.surgery.layout import layout_of, with_kernels, without_door
from tenfold.surgery.tracing import NORMS, called, given, is_plain, traced

log = logging.getLogger(__name__)


def lower(model: nn.Module, *, fold: bool = True) -> nn.Module:
    """A copy in eval mode in which every compressed layer is plain torch modules with the same outputs.

    Activations write over their input where nothing else reads it.

    Args:
        fold: let batch norms that directly follow a convolution disappear into it. Where the
            order of modules cannot be traced, they stay, and the log says where.
    """
    result = copied(model).eval()
    layouts = [layout for module in result.modules() if (layout := layout_of(module)) is not None]
    for module in result.modules():
        without_door(module)
    result = swapped(result, {module: lowered(module) for module in result.modules() if isinstance(module, Layer)})
    if fold:
        fold_batch_norms(result)
    activate_in_place(result)
    return with_kernels(result, layouts[0]) if layouts else result


def fold_batch_norms(model: nn.Module) -> None:
    """Fold, in place, every batch norm that is the only reader of a convolution's output."""
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    graph = traced(model)
    if graph is None:
        log.info("%s cannot be traced as a whole; its parts are tried one by one", type(model).__name__)
        for child in model.children():
            fold_batch_norms(child)
        return
    for convolution, norm in pairs(model, graph):
        first = cast(nn.Conv2d, model.get_submodule(convolution))
        second = cast(nn.BatchNorm2d, model.get_submodule(norm))
        model.set_submodule(convolution, fuse_conv_bn_eval(first, second, transpose=isinstance(first, TRANSPOSED)))
        model.set_submodule(norm, nn.Identity())


def pairs(model: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """(convolution, batch norm) where the second alone reads the first, and each is called once.

    Linear layers are left out: whether their last dimension is the batch norm's depends on the input.
    """
    module = called(model, graph)
    calls = Counter(id(part) for part in module.values())
    found = []
    for node, norm in module.items():
        before = given(node)
        if not isinstance(before, fx.Node) or not is_plain(norm, NORMS) or norm.running_mean is None:
            continue
        first = module.get(before)
        if first is None or not is_plain(first, CONVOLUTIONS) or is_grouped_transposed(first):
            continue
        if len(before.users) == 1 and calls[id(first)] == calls[id(norm)] == 1:
            found.append((str(before.target), str(node.target)))
    return found


def is_grouped_transposed(module: nn.Module) -> bool:
    """Whether the output channels of a convolution are no axis of its weight, so that torch cannot scale them."""
    return isinstance(module, TRANSPOSED) and module.groups > 1
