"""Stages chosen by time, for one batch on this machine."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tenfold.inputs import Inputs, inputs_for, run_hooked
from tenfold.layers import FactoredWeight
from tenfold.measure import Profile, in_fastest_layout
from tenfold.measure.timing import CLEARLY, paired
from tenfold.network import Partition, Positions, Stages, TensorNetwork, random_cores
from tenfold.protocols import Watch, within
from tenfold.surgery import Plan, Row, Site, copied, laid_out
from tenfold.surgery.carry_out import networks
from tenfold.surgery.layout import with_kernels
from tenfold.surgery.plan import EAGER
from tenfold.threads import by_layer

TRIED = 6  # partitions with the fewest multiply-adds, beside the rebuilt weight and the stages planned so far
DENSE = "dense"
Call = tuple[tuple[Any, ...], dict[str, Any]]


def with_fastest_stages(
    model: nn.Module,
    plan: Plan,
    profile: Profile,
    inputs: Any,
    *,
    budgets: Collection[str] = (),
    repeats: int = 9,
    watch: Watch = iter,
) -> Plan:
    """The plan in which the stages of every weight are the fastest for these inputs on this machine.

    Every candidate runs as it is shipped, lowered, on what the layer is given when the network runs on the inputs; all
    of a layer run in turn, next to the dense module, in the plan's layout; a plan without one gets that in which the
    dense network is fastest. The stages planned so far stay unless others are clearly faster.

    Args:
        model: the dense network; profile: what was measured on it.
        inputs: the batch that the plan is for.
        budgets: under `macs` and `deployed_params` no weight may take, or hold, more than it is planned with.
        repeats: timed rounds.
        watch: is handed the iterator of layers that are timed and hands it on, to draw a bar.
    Raises: TenfoldError if the network cannot run on the inputs.
    """
    found, given = networks(model, plan), inputs_for(model, inputs)
    layout = plan.layout or in_fastest_layout(model, given)[1]
    model = laid_out(copied(model), layout)
    calls = first_calls(model, {site.places[0].module for site, _ in found.values()}, given)

    def faster(name: str) -> Row:
        row, (site, net) = plan.rows[name], found[name]
        if len(net.cores) == 1:
            return row
        with within(f"layer '{name}'"):
            tried = candidates(site, net, row.stages, profile.layers[name].positions or {}, budgets)
            times = milliseconds(model, site, net, tried, calls[site.places[0].module], layout, repeats)
            return replace(row, **chosen(net, tried, times, row.reason))

    sizes = {name: net.params for name, (site, net) in found.items() if site.places[0].module in calls}
    rows = {**plan.rows, **by_layer("clock", faster, sizes, watch, alone=True)}
    return replace(plan, rows=rows, batch=given.size, layout=layout, runtime=EAGER)


def first_calls(model: nn.Module, names: Iterable[str], inputs: Inputs) -> dict[str, Call]:
    """What modules are given when they are first called in a forward, by name; without those never called."""
    found: dict[str, Call] = {}

    def noting(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, args: Any, kwargs: Any) -> None:
            found.setdefault(name, (args, kwargs))

        return note

    hooks = [
        model.get_submodule(name).register_forward_pre_hook(noting(name), with_kwargs=True) for name in sorted(names)
    ]
    run_hooked(model, inputs.value, hooks)
    return found


def chosen(net: TensorNetwork, tried: Sequence[Partition], times: Mapping[Any, float], reason: str) -> dict[str, Any]:
    """The fastest stages, and the reason with their time; `tried` has the planned ones first."""
    planned, best = tried[0], min(tried, key=lambda partition: times[partition])
    if times[best] > CLEARLY * times[planned]:
        best = planned
    words = f"{described(Stages.of(net, best))} at {times[best]:.3g} ms, dense {times[DENSE]:.3g} ms"
    if best != planned:
        words += f", {described(Stages.of(net, planned))} {times[planned]:.3g} ms"
    return {"stages": best, "reason": "; ".join(part for part in (reason, words) if part)}


def described(stages: Stages) -> str:
    """`3 stages`, or that the weight is rebuilt."""
    return "the weight rebuilt" if stages.rebuilds else f"{len(stages.each)} stages"


def candidates(
    site: Site, net: TensorNetwork, asked: Partition, positions: Positions, budgets: Collection[str]
) -> list[Partition]:
    """The planned stages first, the rebuilt weight, and those with the fewest multiply-adds."""

    def macs(stages: Stages) -> int:
        return int(site.mac_count(stages, positions)(net.sizes))

    def held(stages: Stages) -> int:
        return stages.params

    planned = Stages.of(net, site.partition(net, asked))
    kept = [cost for name, cost in (("macs", macs), ("deployed_params", held)) if name in budgets]
    every = sorted(site.evaluations(net), key=macs)
    allowed = [stages for stages in every if all(cost(stages) <= cost(planned) for cost in kept)]
    rebuilt = [stages for stages in allowed if stages.rebuilds]
    return list(dict.fromkeys([planned.partition, *(stages.partition for stages in (*rebuilt, *allowed[:TRIED]))]))


def milliseconds(
    model: nn.Module,
    site: Site,
    net: TensorNetwork,
    tried: Iterable[Partition],
    call: Call,
    layout: str,
    repeats: int,
) -> Mapping[Any, float]:
    """Medians of one call for the dense module and for every partition, lowered."""
    place = site.places[0]
    module = copied(model.get_submodule(place.module)).eval()
    like = site.parameter(model)
    drawn = random_cores(net, 1.0, generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    cores = [core.to(like.device) for core in drawn]
    forms: dict[Any, nn.Module] = {DENSE: module}
    for partition in tried:
        layer = place.kind.from_dense(copied(module), {place.weight: FactoredWeight(net, cores, partition)})
        forms[partition] = with_kernels(layer.eval().lower(), layout)
    args, kwargs = call

    def calling(form: nn.Module) -> Callable[[], object]:
        return lambda: form(*args, **kwargs)

    with torch.no_grad():
        times = paired({form: calling(module) for form, module in forms.items()}, repeats=repeats)
    return {form: 1e3 * timing.median for form, timing in times.items()}
