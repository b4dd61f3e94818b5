"""What any network holds and costs, dense, compressed or lowered: counts, memory, time, and the `Profile`."""

from tenfold.measure.calls import calls, check_calls
from tenfold.measure.clock import Clock
from tenfold.measure.counts import Macs, WeightMacs, macs, parameter_bytes, params, payload_bytes, state_bytes
from tenfold.measure.layouts import in_fastest_layout
from tenfold.measure.memory import peak_memory_bytes
from tenfold.measure.outputs import OutputError, output_errors, outputs, relative_error
from tenfold.measure.part import is_inside, modules_of, part
from tenfold.measure.profile import LayerProfile, Profile, inspect, weights_hash
from tenfold.measure.timing import MsPerBatch, Ratio, Speedup, Timing, forward_timings, paired, ratio

__all__ = [
    "Clock", "LayerProfile", "Macs", "MsPerBatch", "OutputError", "Profile", "Ratio", "Speedup", "Timing", "WeightMacs",
    "calls", "check_calls", "forward_timings", "in_fastest_layout", "inspect", "is_inside", "macs", "modules_of",
    "output_errors", "outputs", "paired", "parameter_bytes", "params", "part", "payload_bytes",
    "peak_memory_bytes", "ratio",
    "relative_error", "state_bytes", "weights_hash",
]  # fmt: skip
