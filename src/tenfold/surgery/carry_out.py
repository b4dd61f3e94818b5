"""A plan carried out: dense weights decomposed, their modules replaced in a copy of the network."""

import copy
import logging
import math
import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tenfold.fitting import Metric
from tenfold.formats import Format
from tenfold.layers import FactoredWeight
from tenfold.network import TensorNetwork
from tenfold.protocols import TenfoldError, near_misses, within
from tenfold.surgery.plan import Plan, Row
from tenfold.surgery.sites import Site, sites

Members = Mapping[str, tuple[Site, TensorNetwork]]  # of one group

log = logging.getLogger(__name__)


def decompose(model: nn.Module, plan: Plan, metrics: Mapping[str, Metric] | None = None, *, seed: int = 0) -> nn.Module:
    """A copy of a dense network in which every planned weight is a tensor network.

    Tied weights stay tied. A layer's random numbers depend on the seed and its name only.

    Args:
        metrics: by weight name, what an error of it costs; without one the Frobenius norm.
    Raises: TenfoldError that names the layer: unknown to the network, or not fitting its plan.
    """
    result = copy.deepcopy(model)
    planned = networks(result, plan)
    weights: dict[str, FactoredWeight] = {}
    for names in groups(plan, planned):
        with within(f"layer '{names[0]}'" if len(names) == 1 else f"group of {', '.join(names)}"):
            members = {name: planned[name] for name in names}
            weights.update(factored(result, plan, members, fitted(result, plan, members, metrics or {}, seed)))
    return replaced(result, [planned[name][0] for name in weights], weights)


def skeleton(model: nn.Module, plan: Plan) -> nn.Module:
    """The same network with cores of the right shapes and no meaning, to be filled from a file."""
    result = copy.deepcopy(model)
    planned = networks(result, plan)
    weights = {}
    for name, (site, net) in planned.items():
        like = site.weight(result)
        cores = [torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in net.shapes]
        with within(f"layer '{name}'"):
            weights[name] = FactoredWeight(net, cores, plan.rows[name].partition(net))
    return replaced(result, [planned[name][0] for name in weights], weights)


def networks(model: nn.Module, plan: Plan) -> dict[str, tuple[Site, TensorNetwork]]:
    """The site and the network of every row that is not dense.

    Raises: TenfoldError for rows that the network does not have, or that do not fit their weight.
    """
    known = sites(model)
    found = {}
    for name, row in plan.rows.items():
        with within(f"layer '{name}'"):
            if name not in known:
                raise TenfoldError(f"the network has no such layer{near_misses(name, known)}")
            if row.is_dense:
                continue
            site = known[name]
            if tied := site.obstacle if len(site.places) > 1 else None:
                raise TenfoldError(f"{tied}.")
            with within(described(site)):
                net = row.network(site.axes)
                net.stages(row.partition(net))
            found[name] = (site, net)
    return found


def described(site: Site) -> str:
    """`Conv o=16 i=6 h=5 w=5`."""
    return f"{site.kind.__name__} {' '.join(f'{axis}={size}' for axis, size in site.axes.items())}"


def groups(plan: Plan, names: Mapping[str, object]) -> list[list[str]]:
    """Names that are decomposed together, singles first seen first."""
    found: dict[str, list[str]] = {}
    for name in names:
        row = plan.rows[name]
        found.setdefault(f"group {row.group}" if row.group else f"layer {name}", []).append(name)
    return list(found.values())


def fitted(
    model: nn.Module, plan: Plan, members: Members, metrics: Mapping[str, Metric], seed: int
) -> list[list[Tensor]]:
    """Cores for the weights of one group, as they are in the network."""
    dense = [site.weight(model) for site, _ in members.values()]
    nets = [net for _, net in members.values()]
    draw = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{next(iter(members))}".encode()))
    maker = one_format([plan.rows[name] for name in members])
    return maker.decompose_group(dense, nets, [metrics.get(name) for name in members], generator=draw)


def factored(
    model: nn.Module, plan: Plan, members: Members, each: Sequence[Sequence[Tensor]]
) -> dict[str, FactoredWeight]:
    """The weights of one group made of these cores. A core that several of them have is one parameter."""
    owned: dict[int, nn.Parameter] = {}
    found = {}
    for (name, (site, net)), cores in zip(members.items(), each, strict=True):
        grad = site.parameter(model).requires_grad
        parameters = [owned.setdefault(id(core), nn.Parameter(core, requires_grad=grad)) for core in cores]
        found[name] = FactoredWeight(net, parameters, plan.rows[name].partition(net))
        log.info("%s: %d -> %d parameters", name, math.prod(site.axes.values()), net.params)
    return found


def one_format(rows: Sequence[Row]) -> Format:
    """The format of a group.

    Raises: TenfoldError for several.
    """
    maker = rows[0].maker()
    if any(row.maker() != maker for row in rows):
        raise TenfoldError("layers of one group have one format with the same options.")
    return maker


def replaced(model: nn.Module, changed: list[Site], weights: Mapping[str, FactoredWeight]) -> nn.Module:
    """The network with layers in the place of modules; a module under several names stays one."""
    places: dict[str, dict[str, Site]] = {}
    for site in changed:
        for module_name, weight_name in site.places:
            places.setdefault(module_name, {})[weight_name] = site
    swaps: dict[nn.Module, nn.Module] = {}
    for module_name, own in places.items():
        module = model.get_submodule(module_name)
        kind = next(iter(own.values())).kind
        swaps[module] = kind.from_dense(module, {weight: weights[site.name] for weight, site in own.items()})
    return swapped(model, swaps)


def swapped(model: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The network, changed in place, with some modules exchanged wherever they stand; the root may be one of them."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is not None and child in swaps:
                module._modules[name] = swaps[child]
    return swaps.get(model, model)
