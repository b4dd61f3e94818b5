"""What a network is given: containers, samples, the batch; and a forward that leaves the network as it was."""

from tenfold.inputs.containers import tensors_in, to_device
from tenfold.inputs.finding import inputs_for
from tenfold.inputs.forward import call, described, device_of, evaluating, run
from tenfold.inputs.gathered import chunks_of, first_samples
from tenfold.inputs.inputs import ENTRIES, Inputs
from tenfold.inputs.states import unchanged

__all__ = [
    "ENTRIES", "Inputs", "call", "chunks_of", "described", "device_of", "evaluating", "first_samples", "inputs_for",
    "run", "tensors_in", "to_device", "unchanged",
]  # fmt: skip
