"""`Measurement`: what was measured on one network; networks side by side, in the form in which they will run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from tenfold import measure
from tenfold.inputs import Inputs, inputs_for
from tenfold.measure import MsPerBatch
from tenfold.protocols import Score, within
from tenfold.surgery import lower


@dataclass(frozen=True)
class ScoreValue:
    """What a network scored, by the user's own measure."""

    name: str
    value: float
    higher_is_better: bool

    @property
    def shown(self) -> str:
        """The value with two decimals; with three digits where it is below 1."""
        return f"{self.value:.2f}" if abs(self.value) >= 1 else f"{self.value:.3g}"

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
    """

    params: int
    file_bytes: int | None
    macs: int | None
    peak_memory_bytes: int | None
    ms_per_batch: MsPerBatch | None
    score: ScoreValue | None
    deployed_params: int


def compare(
    networks: Mapping[str, nn.Module],
    inputs: Any = None,
    *,
    scores: Mapping[str, ScoreValue | None] | None = None,
    repeats: int = 20,
    warmup: int = 3,
) -> dict[str, Measurement]:
    """Measure networks side by side: each lowered first, then all timed in turn in one run.

    Args:
        networks: by name, in the folder's form (compressed layers or dense modules); none is changed.
        inputs: what `tenfold.inputs.inputs_for` takes, their batch as the first network sees it; without them MACs,
            memory and time are None.
        scores: by the same names, as values.
        repeats: timed rounds; warmup: rounds before them.
    Raises: TenfoldError, naming the network, if one cannot run on the inputs.
    """
    lowered = {name: lower(network) for name, network in networks.items()}
    given = None if inputs is None else inputs_for(next(iter(lowered.values())), inputs)
    costs = {name: cost(name, network, given) for name, network in lowered.items()}
    times = {} if given is None else measure.ms_per_batch(lowered, given, repeats=repeats, warmup=warmup)
    return {
        name: Measurement(
            params=measure.params(network),
            file_bytes=measure.state_bytes(network),
            macs=costs[name][0],
            peak_memory_bytes=costs[name][1],
            ms_per_batch=times.get(name),
            score=(scores or {}).get(name),
            deployed_params=measure.params(lowered[name]),
        )
        for name, network in networks.items()
    }


def cost(name: str, network: nn.Module, inputs: Inputs | None) -> tuple[int | None, int | None]:
    """Multiply-adds and peak memory of a network as it will run."""
    if inputs is None:
        return None, None
    with within(f"the {name} network"):
        return measure.macs(network, inputs).total, measure.peak_memory_bytes(network, inputs)
