"""`Measurement`: what was measured on one network; networks side by side, in the form in which they will run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from tenfold import measure
from tenfold.inputs import Inputs, inputs_for
from tenfold.measure import MsPerBatch, OutputError, Speedup
from tenfold.protocols import Score, within
from tenfold.surgery import lower
from tenfold.surgery.copying import copied
from tenfold.surgery.layout import CONTIGUOUS, layout_of


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
        file_bytes: of the safetensors file with that form's state; payload_bytes: of all numbers in it, buffers, codes
            and scales included, without the file's list of names.
        macs: multiply-adds of one sample, of the lowered form; so are memory and time.
        peak_memory_bytes: parameters and the largest sum of live tensors in one forward.
        ms_per_batch: milliseconds of one forward.
        deployed_params: parameters of the lowered form.
        lowering_failed: why there is no lowered form that runs, so that the folder's own was measured in its place.
        outputs: by name, how far each output went from the dense network's on the same inputs; empty for that network
            itself, and where the two were not compared.
        elsewhere: the same on other inputs, where those of `outputs` were calibrated on.
        speedup: how many times as long the dense network takes, in the layout in which it is fastest; None likewise.
        layout: in which it was timed; None where nothing was.
    """

    params: int
    file_bytes: int | None
    macs: int | None
    peak_memory_bytes: int | None
    ms_per_batch: MsPerBatch | None
    score: ScoreValue | None
    deployed_params: int
    lowering_failed: str | None = None
    outputs: Mapping[str, OutputError] = field(default_factory=dict, hash=False)
    speedup: Speedup | None = None
    elsewhere: Mapping[str, OutputError] = field(default_factory=dict, hash=False)
    layout: str | None = None
    payload_bytes: int | None = None

    @property
    def furthest(self) -> tuple[str, OutputError] | None:
        """The output that went furthest, with its name; None where nothing was compared."""
        return furthest(self.outputs)


def furthest(errors: Mapping[str, OutputError]) -> tuple[str, OutputError] | None:
    """The output that went furthest, with its name; None of none."""
    return max(errors.items(), key=lambda item: item[1].relative_error or 0.0, default=None)


class Cost(NamedTuple):
    """Of a network as it will run; None without inputs."""

    macs: int | None
    peak_memory_bytes: int | None


def compare(
    networks: Mapping[str, nn.Module],
    inputs: Any = None,
    *,
    scores: Mapping[str, ScoreValue | None] | None = None,
    reference: str | None = None,
    others: Inputs | None = None,
    classes: bool = True,
    repeats: int = 20,
    warmup: int = 3,
) -> dict[str, Measurement]:
    """Measure networks side by side: each lowered first (where that can be), then all timed in turn in one run.

    Args:
        networks: by name, in the folder's form (compressed layers or dense modules); none is changed.
        inputs: what `tenfold.inputs.inputs_for` takes, their batch as the first network sees it; without them MACs,
            memory and time are None.
        scores: by the same names, as values.
        reference: the name of the network that the others are compared with, in outputs and time; it is timed in the
            layout in which it is fastest, the others in the one that they have.
        others: inputs on which outputs are compared once more.
        classes: whether the largest entry of an output may be that of a class.
        repeats: timed rounds; warmup: rounds before them.
    Raises: TenfoldError, naming the network, if one cannot run on the inputs.
    """
    given = None if inputs is None else inputs_for(next(iter(networks.values())), inputs)
    each = {name: as_it_runs(name, network, given) for name, network in networks.items()}
    lowered = {name: form for name, (form, _, _) in each.items()}
    layouts = {name: layout_of(network) or CONTIGUOUS for name, network in networks.items()}
    if given is not None and reference is not None:
        lowered[reference], layouts[reference] = measure.in_fastest_layout(lowered[reference], given)
    times = {} if given is None else measure.forward_timings(lowered, given, repeats=repeats, warmup=warmup)
    errors = {} if given is None or reference is None else output_errors(lowered, given, reference, classes=classes)
    elsewhere = (
        {} if others is None or reference is None else output_errors(lowered, others, reference, classes=classes)
    )
    return {
        name: Measurement(
            params=measure.params(network),
            file_bytes=measure.state_bytes(network),
            macs=each[name][1].macs,
            peak_memory_bytes=each[name][1].peak_memory_bytes,
            ms_per_batch=None if given is None else MsPerBatch.of(times[name], given.size),
            score=(scores or {}).get(name),
            deployed_params=measure.params(lowered[name]),
            lowering_failed=each[name][2],
            outputs=errors.get(name, {}),
            speedup=Speedup.of(times[name], times[reference]) if name in errors and reference is not None else None,
            elsewhere=elsewhere.get(name, {}),
            layout=layouts[name] if name in times else None,
            payload_bytes=measure.payload_bytes(network),
        )
        for name, network in networks.items()
    }


def as_it_runs(name: str, network: nn.Module, inputs: Inputs | None) -> tuple[nn.Module, Cost, str | None]:
    """A network lowered, and its cost; where that fails, the network as it is, and why."""
    try:
        plain = lower(network)
        return plain, cost(name, plain, inputs), None
    except Exception as error:  # noqa: BLE001  (a forward may raise anything, and a trained network is at stake)
        kept = copied(network).eval()
        return kept, cost(name, kept, inputs), str(error)


def runnable(network: nn.Module, inputs: Inputs) -> nn.Module:
    """A network in the form in which it is timed."""
    return as_it_runs("compressed", network, inputs)[0]


def cost(name: str, network: nn.Module, inputs: Inputs | None) -> Cost:
    """Multiply-adds and peak memory of a network as it will run."""
    if inputs is None:
        return Cost(None, None)
    with within(f"the {name} network"):
        return Cost(measure.macs(network, inputs).total, measure.peak_memory_bytes(network, inputs))


def output_errors(
    networks: Mapping[str, nn.Module], inputs: Inputs, reference: str, *, classes: bool
) -> dict[str, dict[str, OutputError]]:
    """How far the outputs of every other network went from those of the reference."""
    given = measure.outputs(networks[reference], inputs.value)
    return {
        name: measure.output_errors(given, measure.outputs(network, inputs.value), classes=classes)
        for name, network in networks.items()
        if name != reference
    }
