"""What a network is given: containers, samples, the batch; and a forward that leaves the network as it was."""

from tenfold.inputs.containers import tensors_in, to_device
from tenfold.inputs.finding import between, inputs_for
from tenfold.inputs.forward import arguments, call, described, device_of, evaluating, exchanged, run, run_hooked
from tenfold.inputs.gathered import chunks_of, first_samples
from tenfold.inputs.inputs import ENTRIES, Inputs
from tenfold.inputs.states import unchanged
from tenfold.inputs.written_over import as_given, on_copies

__all__ = [
    "ENTRIES", "Inputs", "arguments", "as_given", "between", "call", "chunks_of", "described", "device_of",
    "evaluating", "exchanged", "first_samples", "inputs_for", "on_copies", "run", "run_hooked", "tensors_in",
    "to_device", "unchanged",
]  # fmt: skip
