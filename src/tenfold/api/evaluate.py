"""What networks hold, cost and score, in the form in which they will run."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tenfold.api.samples import first_inputs, one_sample, timed
from tenfold.measure import macs
from tenfold.measure.score import device_of, score
from tenfold.protocols import Data, to_device, within
from tenfold.report import Measurement, ScoreValue, compare
from tenfold.surgery import lower
from tenfold.tasks import Objective


def evaluate(model: nn.Module, data: Data | None = None, *, inputs: Any = None) -> Measurement:
    """What a network holds, costs and scores, in the form in which it will run.

    Args: data: its test split gives the score; inputs: to measure on, by default the data's.
    """
    inputs = first_inputs(data) if inputs is None and data is not None else inputs
    if inputs is not None:
        inputs = to_device(inputs, device_of(model))
        inputs = timed(model, inputs, macs(model, one_sample(model, inputs)).total)
    return compare({"model": model}, inputs, scores={"model": judged(model, data)})["model"]


def side_by_side(
    networks: Mapping[str, tuple[nn.Module, Data | None]], *, inputs: Any = None
) -> dict[str, Measurement]:
    """`evaluate` of several networks, each judged on its own data; all are timed in turn in one run.

    Args: inputs: to measure on, for all of them; by default those of the first data.
    """
    if inputs is None:
        inputs = next((first_inputs(data) for _, data in networks.values() if data is not None), None)
    if inputs is not None:
        first = next(model for model, _ in networks.values())
        inputs = to_device(inputs, device_of(first))
        with within(f"the {next(iter(networks))} network"):
            inputs = timed(first, inputs, macs(first, one_sample(first, inputs)).total)
    scores = {name: judged(model, data) for name, (model, data) in networks.items()}
    return compare({name: model for name, (model, _) in networks.items()}, inputs, scores=scores)


def judged(model: nn.Module, data: Data | None) -> ScoreValue | None:
    """The score on the test split, of the form in which the network will run."""
    if data is None:
        return None
    return ScoreValue.of(Objective.of(data).score, score(lower(model), data.test, data))
