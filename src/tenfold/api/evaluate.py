"""What networks hold, cost and score, in the form in which they will run."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tenfold.api.samples import given_inputs, timed
from tenfold.arguments import typed
from tenfold.inputs import Inputs
from tenfold.measure import in_fastest_layout, macs
from tenfold.measure.score import score
from tenfold.protocols import Data, TenfoldError, Watch, within
from tenfold.report import Measurement, RuntimeTimes, ScoreValue, compare, in_runtime
from tenfold.surgery import Plan, laid_out, lower
from tenfold.surgery.layout import layout_of
from tenfold.surgery.plan import EAGER
from tenfold.tasks import Objective


@typed
def evaluate(model: nn.Module, data: Data | None = None, *, inputs: Any = None, watch: Watch = iter) -> Measurement:
    """What a network holds, costs and scores, in the form in which it will run.

    Args:
        data: its test split gives the score.
        inputs: to measure on, by default the data's.
        watch: is handed the iterator of batches that are judged and hands it on, to draw a bar.
    """
    batch = timed_inputs(model, data, inputs)
    return compare({"model": model}, batch, scores={"model": judged(model, data, watch)})["model"]


def side_by_side(
    networks: Mapping[str, tuple[nn.Module, Data | None]], *, inputs: Any = None, watch: Watch = iter
) -> dict[str, Measurement]:
    """`evaluate` of several networks, each judged on its own data; all are timed in turn in one run.

    Args:
        inputs: to measure on, for all of them; by default those of the first data.
        watch: as in `evaluate`.
    """
    first = next(model for model, _ in networks.values())
    with within(f"the {next(iter(networks))} network"):
        batch = timed_inputs(first, next((data for _, data in networks.values() if data is not None), None), inputs)
    scores = {name: judged(model, data, watch) for name, (model, data) in networks.items()}
    return compare({name: model for name, (model, _) in networks.items()}, batch, scores=scores)


def in_runtimes(networks: Mapping[str, tuple[nn.Module, Data | None]], *, inputs: Any = None) -> RuntimeTimes:
    """How long networks take eager, compiled and in onnxruntime, all timed in turn in one run; in their layouts.

    Raises: TenfoldError without inputs, or if a network cannot run on them.
    """
    first = next(model for model, _ in networks.values())
    data = next((data for _, data in networks.values() if data is not None), None)
    batch = timed_inputs(first, data, inputs)
    if batch is None:
        raise TenfoldError("runtimes are timed on inputs; give --input 3x224x224, or --data.")
    lowered = {name: lower(model) for name, (model, _) in networks.items()}
    dense = {name for name, (model, _) in networks.items() if layout_of(model) is None}
    forms = {name: in_fastest_layout(each, batch)[0] if name in dense else each for name, each in lowered.items()}
    return RuntimeTimes.of(forms, batch)


def promised(dense: nn.Module, small: nn.Module, plan: Plan, batch: Inputs | None) -> list[str]:
    """Both networks in the runtime that a plan was made for, in a sentence; none where that is how reports time."""
    if batch is None or plan.runtime in (None, EAGER):
        return []
    return [in_runtime(laid_out(lower(dense), plan.layout), lower(small), batch, str(plan.runtime))]


def timed_inputs(model: nn.Module, data: Data | None, inputs: Any) -> Inputs | None:
    """A batch to measure on, not too large to be timed."""
    given = given_inputs(model, data, inputs)
    return None if given is None else timed(given, macs(model, given.samples(1)).total)


def judged(model: nn.Module, data: Data | None, watch: Watch = iter) -> ScoreValue | None:
    """The score on the test split, of the form in which the network will run."""
    if data is None:
        return None
    return ScoreValue.of(Objective.of(data).score, score(lower(model), data.test, data, watch=watch))
