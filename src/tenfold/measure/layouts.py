"""The layout in which a network runs fastest, by the clock."""

from typing import Any

from torch import nn

from tenfold.measure.timing import forward_timings
from tenfold.surgery import copied, laid_out
from tenfold.surgery.layout import CONTIGUOUS, LAYOUTS, WINDOWS

CLEARLY = 0.95  # of the time as it is: less is faster, and not the noise of the clock


def in_fastest_layout(model: nn.Module, inputs: Any, *, repeats: int = 7) -> tuple[nn.Module, str]:
    """A network as it will run, in the layout in which it runs fastest on these inputs; and that layout.

    Args: model: lowered, and changed in no way.
    Raises: TenfoldError if it cannot run on the inputs.
    """
    if not any(isinstance(module, WINDOWS) for module in model.modules()):
        return model, CONTIGUOUS
    forms = {layout: laid_out(copied(model), layout) for layout in LAYOUTS}
    times = forward_timings(forms, inputs, repeats=repeats, warmup=2)
    best = min(forms, key=lambda layout: times[layout].median)
    best = best if times[best].median < CLEARLY * times[CONTIGUOUS].median else CONTIGUOUS
    return forms[best], best
