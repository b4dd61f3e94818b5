"""What any network holds and costs, dense, compressed or lowered: counts, memory, time, and the `Profile`."""

from tenfold.measure.calls import calls, check_calls
from tenfold.measure.counts import Macs, WeightMacs, macs, parameter_bytes, params, state_bytes
from tenfold.measure.memory import peak_memory_bytes
from tenfold.measure.outputs import OutputError, output_errors, outputs, relative_error
from tenfold.measure.profile import LayerProfile, Profile, inspect, weights_hash
from tenfold.measure.timing import MsPerBatch, Ratio, Timing, ms_per_batch, paired, ratio

__all__ = [
    "LayerProfile", "Macs", "MsPerBatch", "OutputError", "Profile", "Ratio", "Timing", "WeightMacs", "calls",
    "check_calls", "inspect", "macs", "ms_per_batch", "output_errors", "outputs", "paired", "parameter_bytes",
    "params", "peak_memory_bytes", "ratio", "relative_error", "state_bytes", "weights_hash",
]  # fmt: skip
