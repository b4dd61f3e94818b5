"""Training from the start: a network in cores, or the dense one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from tenfold.api.border import check_asked, check_one, given_only, sha256
from tenfold.api.compressed import Compressed, documented, plain, sampled
from tenfold.api.evaluate import judged, promised
from tenfold.api.opened import origin_of
from tenfold.api.plan import clock_of, kept_clock, plan_from
from tenfold.api.predicted import predicted
from tenfold.api.recover import Training, recovered, tried, whose
from tenfold.api.samples import given_inputs, timed
from tenfold.arguments import typed
from tenfold.devices import device_named
from tenfold.inputs import Inputs
from tenfold.measure import Clock, Profile, calls, check_calls, inspect
from tenfold.planning import BUDGETS, Asked
from tenfold.planning import plan as found_plan
from tenfold.processes import agreed
from tenfold.protocols import Data, TenfoldError, Watch
from tenfold.recovery import Machine, check_state, rehearse
from tenfold.report import CoursePoint, Report, compare, layer_rows, runnable, sentences
from tenfold.storage import JSON, Document
from tenfold.surgery import Init, Plan, Row, check_init, copied, fresh, sites, stored, unwrapped
from tenfold.tasks import Objective

RECIPE: dict[str, Any] = {"optimizer": "adam", "warmup": 0.1, "weight_decay": 0.0}


@typed
def train(
    model: nn.Module,
    data: Data,
    *,
    inputs: Any = None,
    plan: Plan | str | Path | None = None,
    init: Init = "dense",
    epochs: int = 10,
    lr: float = 0.01,
    seed: int = 0,
    device: str | torch.device | None = None,
    machine: Machine | None = None,
    state: str | Path | None = None,
    document: Document | None = None,
    settings: Mapping[str, JSON] | None = None,
    watch: Watch = iter,
    **asked: Unpack[Asked],
) -> Compressed:
    """Give a network new weights in cores and train it; without a format or a plan, train the dense network.

    The argument is untouched. Adam, the rate rising to `lr` in the first tenth of the steps and falling to nothing;
    gradients clipped at a norm of 5. Under a budget all layers have one share of their ranks: the error of a random
    weight says nothing of what its layer needs.

    Args:
        model: the dense network as its training begins.
        data: `train` to learn from, `test` to judge by.
        inputs: to measure on; by default the data's.
        plan: a plan, or a plan file, instead of a format with a budget or ranks.
        init: how cores are drawn, as in `tenfold.fresh`.
        epochs: passes over `data.train`.
        device, machine, state, settings, watch: as in `tenfold.compress`.
        asked: format, budgets, ranks and the other arguments of `tenfold.plan`.
    Returns: the trained network and a report without a score of the dense one, which was not trained.
    Raises: TenfoldError, one sentence.
    """
    model = unwrapped(model)
    wanted = given_only(asked)
    check(plan, wanted, init, epochs, lr)
    Objective.of(data)  # refuses an unknown task or score before any work
    device = device_named(device)
    check_state(None if state is None else Path(state), "train")
    read = None if plan is None else plan_from(plan)
    if wanted:
        check_asked(model, wanted)
    dense = copied(model).eval()
    dense = dense if device is None else dense.to(device)
    given = given_inputs(dense, data, inputs)
    assert given is not None  # the data have inputs
    how: dict[str, Any] = {"device": device, **(machine or {})}
    rehearse(dense, data, epochs=epochs, **tried(how))
    before = inspect(dense, given.samples(1))
    clock = clock_of(dense, before, given, None, wanted, state)
    with kept_clock(clock, state):
        chosen = agreed(read if read is not None else planned(dense, before, seed, wanted, clock, watch))
    small = fresh(dense, chosen, init=init, seed=seed)
    check_calls(small, calls(model, given.samples(1)), given.samples(1))
    run = {"command": "train", "weights": before.weights_hash, "plan": sha256(chosen.to_yaml()), "init": init,
           **whose(settings)}  # fmt: skip
    course: list[CoursePoint] = []
    recovered(small, data, epochs=epochs, bn=False, lr=lr, seed=seed, state=state, run=run, watch=watch, course=course,
              **RECIPE, **how)  # fmt: skip
    stored(small, chosen.dtype)
    used = {**wanted, "init": init, "epochs": epochs, "lr": lr, "seed": seed, "device": device, **(machine or {}),
            "threads": torch.get_num_threads(), **sampled(given), **(settings or {})}  # fmt: skip
    noted = {key: plain(value) for key, value in used.items()}
    report, words = reported(dense, small, chosen, before, data, given, noted, wanted.get("of", ()), watch)
    report = replace(report, course=tuple(course))
    kept = None if state is None else Path(state)
    return Compressed(small, chosen, report, words, documented(document or Document(origin_of(model)), given), kept)


def check(plan: Plan | str | Path | None, asked: Asked, init: str, epochs: int, lr: float) -> None:
    """Refuse what contradicts itself or is out of range, before any work."""
    check_one(plan, asked)
    check_init(init)
    if init != "dense" and plan is None and not asked:
        raise TenfoldError(f"init '{init}' is for weights in cores; give a format, or leave it out to train dense.")
    if epochs < 1 or not (lr > 0 and math.isfinite(lr)):
        raise TenfoldError(f"cannot train with epochs={epochs} and lr={lr}; use 1 epoch or more, and a rate above 0.")
    Training(epochs=epochs, lr=lr).check(has_data=True)
    if asked and "format" not in asked:
        raise TenfoldError(
            f"{', '.join(asked)} is for weights in cores, and no format is given; give one, such as --format tt, "
            "or none of these to train the dense network."
        )


def planned(model: nn.Module, profile: Profile, seed: int, asked: Asked, clock: Clock | None, watch: Watch) -> Plan:
    """What was asked for, one share of the ranks for all layers; nothing: every weight dense."""
    if not asked:
        return Plan({name: Row(name, reason="trained dense") for name in sites(model)})
    if any(budget in asked for budget in BUDGETS):
        asked = {"allocation": "uniform", **asked}
        if asked["allocation"] == "global":  # an error of random weights says little, so none is too large
            asked = {"max_error": 1.0, **asked}
    return found_plan(model, profile, seed=seed, clock=clock, watch=watch, **asked)


def reported(
    dense: nn.Module,
    small: nn.Module,
    plan: Plan,
    before: Profile,
    data: Data,
    inputs: Inputs,
    settings: Mapping[str, JSON],
    of: Sequence[str],
    watch: Watch,
) -> tuple[Report, tuple[str, ...]]:
    """What was measured on the trained network, beside the sizes and costs of the dense one it stands for."""
    one = inputs.samples(1)
    after = None if is_dense(plan) else inspect(runnable(small, one), one)
    rows = tuple(replace(row, rel_error=None) for row in layer_rows(dense, small, plan, before, after=after))
    networks = {"compressed": small} if is_dense(plan) else {"dense": dense, "compressed": small}
    batch = timed(inputs, before.macs or 1)
    first = next(iter(networks))
    measured = compare(networks, batch, scores={"compressed": judged(small, data, watch)}, reference=first)
    final = replace(measured["compressed"], outputs={})  # the dense network was not trained
    report = Report(measured[first], final, None, rows, settings, predicted(dense, plan, before, of).part)
    return report, (*sentences(report, before, after), *promised(dense, small, plan, batch))


def is_dense(plan: Plan) -> bool:
    """Whether no weight is in cores."""
    return all(row.is_dense for row in plan.rows.values())
