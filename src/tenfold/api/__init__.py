"""The verbs, and what they open and hand on."""

from tenfold.api.compress import Compressed, compress, evaluate, first_inputs, load, recover, save
from tenfold.api.opened import Opened, open_network, origin_of
from tenfold.api.profiles import planned, profiled
from tenfold.api.samples import parse_inputs

__all__ = [
    "Compressed", "Opened", "compress", "evaluate", "first_inputs", "load", "open_network", "origin_of",
    "parse_inputs", "planned", "profiled", "recover", "save",
]  # fmt: skip
