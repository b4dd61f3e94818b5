"""A plan from scratch: new random weights in cores, to be trained."""

import copy
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from tenfold.fitting import balanced
from tenfold.formats import options_of
from tenfold.layers import FactoredWeight
from tenfold.network import TensorNetwork
from tenfold.protocols import TenfoldError, near_misses, within
from tenfold.surgery.carry_out import factored, groups, networks, one_format, replaced
from tenfold.surgery.plan import Plan, Row
from tenfold.surgery.sites import Site

Init = Literal["dense", "cores"]
Members = Mapping[str, tuple[Site, TensorNetwork]]


def fresh(model: nn.Module, plan: Plan, *, init: Init = "dense", seed: int = 0) -> nn.Module:
    """A copy of a dense network in which every planned weight is a new random one in cores, to be trained.

    Whatever the format and the ranks, a rebuilt weight has the deviation (the root mean square) that the dense one has
    in `model`, so that the learning rate of the dense network serves. Nothing is kept of the planned weights but their
    deviation; the rest of the network is copied as it is. Tied weights stay tied, shared cores are drawn once. A
    layer's random numbers depend on the seed and its name only (those of a group, on its members).

    Args:
        model: the dense network as its training would begin.
        init: `dense` draws a Gaussian weight and decomposes it; `cores` draws the cores, for weights too large to
            build, and for ranks so small that a truncated weight would be far from Gaussian anyway.
    Raises: TenfoldError that names the layer: unknown to the network, not fitting its plan, or not finite.
    Source: independent cores give Var(W) = the product of all ranks and of the variances of all cores (Pan et al.,
        ICML 2022).
    """
    if init not in INITS:
        raise TenfoldError(f"no init is called '{init}'{near_misses(str(init), INITS)}")
    result = copy.deepcopy(model)
    planned = networks(result, plan)
    weights: dict[str, FactoredWeight] = {}
    for names in groups(plan, planned):
        with within(f"layer '{names[0]}'" if len(names) == 1 else f"group of {', '.join(names)}"):
            weights.update(drawn(result, plan, {name: planned[name] for name in names}, INITS[init], seed))
    return replaced(result, [planned[name][0] for name in weights], weights)


def drawn(model: nn.Module, plan: Plan, members: Members, init: "Draw", seed: int) -> dict[str, FactoredWeight]:
    """New weights for one group, at the deviation of the old ones, their scale spread over the cores."""
    deviations = {name: deviation(site.weight(model)) for name, (site, _) in members.items()}
    found = init(model, plan, members, seed)
    rescale(found, deviations)
    return found


def deviation(weight: Tensor) -> float:
    """Root mean square of a weight.

    Raises: TenfoldError for values that are not finite, or none at all.
    """
    if weight.is_meta:
        raise TenfoldError("the weight is on device 'meta' and has no values; initialise the network before its cores.")
    result = float(weight.double().square().mean().sqrt())
    if not math.isfinite(result):
        raise TenfoldError("the weight has values that are not finite; initialise the network before its cores.")
    return result


# ---- two ways to draw
def from_dense(model: nn.Module, plan: Plan, members: Members, seed: int) -> dict[str, FactoredWeight]:
    """Cores of Gaussian weights; random ones deserve a quick fit."""
    noise = {}
    for name, (site, _) in members.items():
        like = site.weight(model)
        drawn = torch.randn(like.shape, generator=generator(seed, name, "weight"), dtype=torch.float32)
        noise[name] = (drawn * (deviation(like) or 1.0)).to(like)
    rows = {name: replace(row, options=options_of(row.maker().trial())) for name, row in rows_of(plan, members).items()}
    return factored(model, Plan(rows), members, noise, {}, seed)


def from_cores(model: nn.Module, plan: Plan, members: Members, seed: int) -> dict[str, FactoredWeight]:
    """Independent Gaussian cores; those that the format gives to several members are one."""
    rows = rows_of(plan, members)
    common = one_format(list(rows.values())).shared_cores([net for _, net in members.values()])
    owned: dict[int, nn.Parameter] = {}
    found = {}
    for name, (site, net) in members.items():
        like = site.parameter(model)
        cores = net.draw(1.0, generator=generator(seed, name, "cores"), dtype=torch.float64)
        own = [nn.Parameter(core.to(like), requires_grad=like.requires_grad) for core in cores]
        parameters = [owned.setdefault(k, core) if k in common else core for k, core in enumerate(own)]
        found[name] = FactoredWeight(net, parameters, site.partition(net, rows[name].stages))
    return found


Draw = Callable[[nn.Module, Plan, Members, int], dict[str, FactoredWeight]]
INITS: dict[str, Draw] = {"dense": from_dense, "cores": from_cores}


def rows_of(plan: Plan, members: Members) -> dict[str, Row]:
    """The rows of some weights."""
    return {name: plan.rows[name] for name in members}


def generator(seed: int, name: str, what: str) -> torch.Generator:
    """Random numbers of one weight's own."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}/{what}".encode()))


# ---- their scale
def rescale(found: Mapping[str, FactoredWeight], deviations: Mapping[str, float]) -> None:
    """Bring rebuilt weights to these deviations, in place: a shared core gets deviation 1, the others even shares.

    A weight of deviation 0 gets it by its last core alone, so that gradients reach that one, and then the others.
    """
    holders = Counter(id(core) for weight in found.values() for core in weight.cores)
    with torch.no_grad():
        for core in {
            id(core): core for weight in found.values() for core in weight.cores if holders[id(core)] > 1
        }.values():
            core /= deviation(core)
        for name, weight in found.items():
            own = [k for k, core in enumerate(weight.cores) if holders[id(core)] == 1]
            cores = scaled(weight.net, [core.double() for core in weight.cores], own, deviations[name] or 1.0)
            for k in own:
                weight.cores[k].copy_(cores[k])
            if not deviations[name]:
                weight.cores[own[-1]].zero_()


def scaled(net: TensorNetwork, cores: Sequence[Tensor], own: Sequence[int], wanted: float) -> list[Tensor]:
    """The cores with those that are the weight's own at the scale that gives the wanted deviation, evenly."""
    result = balanced(net, cores) if len(own) == len(cores) else list(cores)
    gain = (wanted / float(net.deviation(result))) ** (1 / len(own))
    return [core * gain if k in own else core for k, core in enumerate(result)]
