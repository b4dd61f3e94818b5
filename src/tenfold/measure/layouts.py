"""The layout in which a network runs fastest, by the clock."""

import logging
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tenfold.inputs import Inputs, evaluating, inputs_for, run
from tenfold.inputs.containers import leaves
from tenfold.measure.timing import CLEARLY, forward_timings
from tenfold.protocols import TenfoldError
from tenfold.surgery import copied, laid_out
from tenfold.surgery.layout import CONTIGUOUS, LAYOUTS, is_map, kernels

LOOKS = (torch.Tensor.view, torch.Tensor.view_as, torch.Tensor.as_strided, torch.as_strided, torch.Tensor.stride,
         torch.Tensor.data_ptr, torch.Tensor.numpy, torch.Tensor.untyped_storage)  # fmt: skip
log = logging.getLogger(__name__)


def in_fastest_layout(model: nn.Module, inputs: Any, *, repeats: int = 7) -> tuple[nn.Module, str]:
    """A network as it will run, in the layout in which it runs fastest on these inputs; and that layout.

    Another layout than `contiguous` is only for networks that never ask how their maps lie (`asks`).

    Args: model: lowered, and changed in no way.
    Raises: TenfoldError if it cannot run on the inputs.
    """
    given = inputs_for(model, inputs)
    if not any(True for _ in kernels(model)) or asks(model, given):
        return model, CONTIGUOUS
    forms = {layout: laid_out(copied(model), layout) for layout in LAYOUTS if runs(model, layout, given)}
    times = forward_timings(forms, given, repeats=repeats, warmup=2)
    best = min(forms, key=lambda layout: times[layout].median)
    best = best if times[best].median < CLEARLY * times[CONTIGUOUS].median else CONTIGUOUS
    return forms[best], best


def runs(model: nn.Module, layout: str, inputs: Inputs) -> bool:
    """Whether a network runs in a layout; as it comes, it must.

    Raises: TenfoldError if it does not even run as it comes.
    """
    form = laid_out(copied(model), layout)
    try:
        with evaluating(form):
            run(form, inputs.value)
    except TenfoldError as error:
        if layout == CONTIGUOUS:
            raise
        log.info("not in %s: %s", layout, error)
        return False
    return True


def asks(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a network asks how a map lies (`.view` on one), writes into one that it is given, or may do so unseen.

    Raises: TenfoldError if it cannot run on the inputs.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return True
    given = [leaf for leaf in leaves(inputs.value) if is_map(leaf)]
    before = [leaf._version for leaf in given]
    with evaluating(model), Looking() as looking:
        run(model, inputs.value)
    return looking.asked or before != [leaf._version for leaf in given]


class Looking(TorchFunctionMode):
    """Notes whether a call depends on how a map lies in memory."""

    asked = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        retyped = any(isinstance(each, torch.dtype) for each in args[1:])  # which changes no shape
        if func in LOOKS and is_map(args[0]) and not retyped:
            self.asked = True
        return func(*args, **(kwargs or {}))
