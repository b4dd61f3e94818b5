"""How images lie in memory from the first layer to the last: the layout of a network."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tenfold.layers.plain import CONVOLUTIONS
from tenfold.surgery.memory import beside, looking_into

Layout = Literal["contiguous", "channels_last"]
CONTIGUOUS, CHANNELS_LAST = get_args(Layout)
LAYOUTS = {CONTIGUOUS: {}, CHANNELS_LAST: {4: torch.channels_last, 5: torch.channels_last_3d}}


class Door:
    """What a network is given laid out as all between its layers is, once, before it goes in."""

    def __init__(self, layout: str) -> None:
        self.layout = layout

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """A forward pre-hook."""
        del module
        return tuple([self.turned(each) for each in args]), {key: self.turned(each) for key, each in kwargs.items()}

    def turned(self, value: Any) -> Any:
        """Images in the layout; anything else as it is, containers too, which a forward may write to."""
        if not isinstance(value, Tensor) or value.layout is not torch.strided or not value.is_floating_point():
            return value
        return laid(value, self.layout)


def laid(tensor: Tensor, layout: str) -> Tensor:
    """A tensor in a layout; one that has no channels is contiguous."""
    return tensor.contiguous(memory_format=LAYOUTS[layout].get(tensor.ndim, torch.contiguous_format))


def laid_out(model: nn.Module, layout: str | None) -> nn.Module:
    """The network, changed in place, with this layout from its first layer to its last.

    The weights of convolutions lie as the kernels want them, and a door turns the inputs. Results are the same up to
    rounding. None: as it is.
    """
    if layout is None:
        return model
    for module in model.modules():
        without_door(module)
    with_kernels(model, layout)
    if LAYOUTS[layout]:
        model.register_forward_pre_hook(Door(layout), with_kwargs=True)
    return model


def with_kernels(model: nn.Module, layout: str) -> nn.Module:
    """The network, changed in place, with its convolutions' weights in this layout: they turn what reaches them.

    What another tensor looks into stays where it is.
    """
    kept = beside(model)
    for weight in kernels(model):
        if not any(other is not weight for _, _, other in looking_into(weight, kept)):
            weight.data = laid(weight.data, layout)
    return model


def kernels(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of its convolutions that can lie in several ways."""
    for module in model.modules():
        weight = module._parameters.get("weight") if isinstance(module, CONVOLUTIONS) else None
        if weight is not None and is_map(weight):
            yield weight


def is_map(value: Any) -> bool:
    """Whether a value is of the dimensions that a layout turns."""
    return isinstance(value, Tensor) and value.ndim in LAYOUTS[CHANNELS_LAST]


def layout_of(model: nn.Module) -> str | None:
    """The layout that the door of a network turns its inputs to; None where it has no door."""
    return next((hook.layout for hook in model._forward_pre_hooks.values() if isinstance(hook, Door)), None)


def without_door(model: nn.Module) -> nn.Module:
    """The network, changed in place, as if it had no layout of its own; kernels stay as they lie."""
    for key in [key for key, hook in model._forward_pre_hooks.items() if isinstance(hook, Door)]:
        del model._forward_pre_hooks[key]
        model._forward_pre_hooks_with_kwargs.pop(key, None)
    return model
