"""`Measurement`: what was measured on one network; networks side by side, in the form in which they will run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tenfold import measure
from tenfold.measure import MsPerBatch, OutputError, Speedup
from tenfold.measure.forward import batch_size
from tenfold.protocols import Score, within
from tenfold.surgery import lower


@dataclass(frozen=True)
class ScoreValue:
    """What a network scored, by the user's own measure."""

    name: str
    value: float
    higher_is_better: bool

    @staticmethod
    def of(score: Score, value: float | None) -> "ScoreValue | None":
        """The value of a score; None where there was nothing to judge by."""
        return None if value is None else ScoreValue(score.name, value, score.higher_is_better)


@dataclass(frozen=True)
class Measurement:
    """What was measured on one network; None: not known (no inputs, no labelled data, not stored).

    Attributes:
        params: every parameter of the folder's form once, no buffers.
        file_bytes: of the safetensors file with that form's state.
        macs: multiply-adds of one sample, of the lowered form; so are memory and time.
        peak_memory_bytes: parameters and the largest sum of live tensors in one forward.
        ms_per_batch: milliseconds of one forward.
        deployed_params: parameters of the lowered form.
        outputs: by name, how far each output went from the dense network's on the same inputs; empty for that network
            itself, and where the two were not compared.
        speedup: how many times as long the dense network takes; None likewise.
    """

    params: int
    file_bytes: int | None
    macs: int | None
    peak_memory_bytes: int | None
    ms_per_batch: MsPerBatch | None
    score: ScoreValue | None
    deployed_params: int
    outputs: Mapping[str, OutputError] = field(default_factory=dict, hash=False)
    speedup: Speedup | None = None

    @property
    def furthest(self) -> tuple[str, OutputError] | None:
        """The output that went furthest, with its name; None where nothing was compared."""
        return max(self.outputs.items(), key=lambda item: item[1].relative_error or 0.0, default=None)


def compare(
    networks: Mapping[str, nn.Module],
    inputs: Any = None,
    *,
    scores: Mapping[str, ScoreValue | None] | None = None,
    reference: str | None = None,
    repeats: int = 20,
    warmup: int = 3,
) -> dict[str, Measurement]:
    """Measure networks side by side: each lowered first, then all timed in turn in one run.

    Args:
        networks: by name, in the folder's form (compressed layers or dense modules); none is changed.
        inputs: what `tenfold.protocols.call` takes; without them MACs, memory and time are None.
        scores: by the same names, as values.
        reference: the name of the network that the others are compared with, in outputs and time.
        repeats: timed rounds; warmup: rounds before them.
    Raises: TenfoldError, naming the network, if one cannot run on the inputs.
    """
    lowered = {name: lower(network) for name, network in networks.items()}
    costs = {name: cost(name, network, inputs) for name, network in lowered.items()}
    times = {} if inputs is None else measure.forward_timings(lowered, inputs, repeats=repeats, warmup=warmup)
    errors = {} if inputs is None or reference is None else output_errors(lowered, inputs, reference)
    return {
        name: Measurement(
            params=measure.params(network),
            file_bytes=measure.state_bytes(network),
            macs=costs[name][0],
            peak_memory_bytes=costs[name][1],
            ms_per_batch=None if inputs is None else MsPerBatch.of(times[name], batch_size(inputs)),
            score=(scores or {}).get(name),
            deployed_params=measure.params(lowered[name]),
            outputs=errors.get(name, {}),
            speedup=Speedup.of(times[name], times[reference]) if name in errors and reference is not None else None,
        )
        for name, network in networks.items()
    }


def cost(name: str, network: nn.Module, inputs: Any) -> tuple[int | None, int | None]:
    """Multiply-adds and peak memory of a network as it will run."""
    if inputs is None:
        return None, None
    with within(f"the {name} network"):
        return measure.macs(network, inputs).total, measure.peak_memory_bytes(network, inputs)


def output_errors(networks: Mapping[str, nn.Module], inputs: Any, reference: str) -> dict[str, dict[str, OutputError]]:
    """How far the outputs of every other network went from those of the reference."""
    given = measure.outputs(networks[reference], inputs)
    return {
        name: measure.output_errors(given, measure.outputs(network, inputs))
        for name, network in networks.items()
        if name != reference
    }
