"""Networks in the form in which they run."""

import logging
from typing import Any

from torch import nn

from tenfold import surgery
from tenfold.arguments import typed
from tenfold.inputs import inputs_for
from tenfold.measure import ratio, runtimes
from tenfold.measure.timing import CLEARLY
from tenfold.protocols import TenfoldError
from tenfold.surgery.plan import COMPILE, EAGER

log = logging.getLogger(__name__)


@typed
def lower(model: nn.Module, *, fold: bool = True, inputs: Any = None, compile: bool = False) -> nn.Module:
    """A copy in eval mode in which every compressed layer is plain torch modules with the same outputs.

    Args:
        fold: let batch norms that directly follow a convolution disappear into it. Where the order of modules cannot
            be traced, they stay, and the log says where.
        inputs: a batch; needed to compile.
        compile: by torch.compile with frozen weights, where that is clearly faster on the inputs here and gives the
            same outputs (to 1e-5); else as it is, and the log says why.
    Raises: TenfoldError where it is to be compiled without inputs, or cannot run on them.
    """
    plain = surgery.lower(model, fold=fold)
    if not compile:
        return plain
    if inputs is None:
        raise TenfoldError("compile=True is kept only where it is faster on your inputs; give a batch as inputs=.")
    given = inputs_for(plain, inputs)
    times, refused = runtimes.runtime_timings({"": plain}, given, (EAGER, COMPILE), repeats=9)
    if refused:
        log.warning("not compiled: %s", *refused.values())
        return plain
    gain = ratio(times["", EAGER], times["", COMPILE]).median
    if gain * CLEARLY < 1:
        log.info("not compiled: that is no faster on these inputs (%.2fx)", gain)
        return plain
    return runtimes.compiled(plain)
