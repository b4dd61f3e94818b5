"""A plan carried out: dense weights decomposed, their modules replaced in a copy of the network."""

import logging
import math
import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tenfold.fitting import Metric
from tenfold.formats import Format
from tenfold.layers import FactoredWeight, Layer
from tenfold.network import Stages, TensorNetwork
from tenfold.protocols import TenfoldError, Watch, listed, near_misses, within
from tenfold.quantization import Coded, rounded
from tenfold.surgery.carry_over import carry_over
from tenfold.surgery.copying import copied, unwrapped
from tenfold.surgery.finite import check_finite
from tenfold.surgery.keepers import kept
from tenfold.surgery.layout import laid_out
from tenfold.surgery.plan import Plan, Row
from tenfold.surgery.references import redirected
from tenfold.surgery.room import check_room
from tenfold.surgery.sites import Site, sites
from tenfold.surgery.stored import stored
from tenfold.surgery.untaken import untaken
from tenfold.threads import by_layer

Members = Mapping[str, tuple[Site, TensorNetwork]]  # of one group

log = logging.getLogger(__name__)


def decompose(
    model: nn.Module,
    plan: Plan,
    metrics: Mapping[str, Metric] | None = None,
    *,
    seed: int = 0,
    quiet: bool = False,
    watch: Watch = iter,
) -> nn.Module:
    """A copy of a dense network in which every planned weight is a tensor network.

    Tied weights stay tied. A layer's random numbers depend on the seed and its name only.

    Args:
        metrics: by weight name, what an error of it costs; without one the Frobenius norm.
        quiet: whether concerns about the cores are left unsaid.
        watch: is handed the iterator of layers that are fitted and hands it on, to draw a bar.
    Raises: TenfoldError that names the layer: unknown to the network, or not fitting its plan; or a tensor that is not
        finite.
    """
    model = unwrapped(model)
    check_finite(model)
    planned = networks(model, plan)
    together = {names[0]: {name: planned[name] for name in names} for names in groups(plan, planned)}

    def made(first: str) -> tuple[list[list[Tensor]], dict[str, FactoredWeight]]:
        members = together[first]
        with within(f"layer '{first}'" if len(members) == 1 else f"group of {', '.join(members)}"):
            each = fitted(model, plan, members, metrics or {}, seed)
            coded = on_grids(model, plan, members, each, metrics or {}, seed)
            return each, factored(model, plan, members, coded)

    sizes = {first: sum(math.prod(site.axes.values()) for site, _ in each.values()) for first, each in together.items()}
    weights: dict[str, FactoredWeight] = {}
    concerns: dict[str, list[str]] = {}  # what is said once for all layers
    for first, (each, own) in by_layer("decompose", made, sizes, watch).items():
        weights |= own
        for (name, (site, net)), cores in zip(together[first].items(), each, strict=True):
            log.info("%s: %d -> %d parameters", name, math.prod(site.axes.values()), net.params)
            if concern := plan.rows[name].maker().concern(net, cores):
                concerns.setdefault(concern, []).append(name)
    for concern, names in () if quiet else concerns.items():
        log.warning("%s: %s", listed(names), concern)
    return as_planned(replaced(model, planned, weights), plan)


def skeleton(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of the network with cores of the right shapes and no meaning, to be filled from a file."""
    model = unwrapped(model)
    planned = networks(model, plan)
    return as_planned(replaced(model, planned, meaningless(model, plan, planned)), plan)


def as_planned(small: nn.Module, plan: Plan) -> nn.Module:
    """The network with all that a plan says of it as a whole: its layout, and how its numbers are stored."""
    return kept(stored(laid_out(small, plan.layout), plan.dtype), plan)


def hollowed(model: nn.Module, plan: Plan) -> None:
    """The same in the network itself, whose weights may be on device `meta`; layouts are for when it is filled."""
    planned = networks(model, plan)
    exchanged(model, planned, meaningless(model, plan, planned))


def meaningless(model: nn.Module, plan: Plan, planned: Members) -> dict[str, FactoredWeight]:
    """Cores of the right shapes, all zeros, in the types and on the devices of the weights."""
    weights = {}
    for name, (site, net) in planned.items():
        like = site.parameter(model)
        cores = [torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in net.shapes]
        with within(f"layer '{name}'"):
            schemes = plan.rows[name].schemes(len(cores))
            scales = [
                None if scheme is None else core.new_zeros(scheme.groups(core.shape), scheme.scales)
                for scheme, core in zip(schemes, cores, strict=False)  # no schemes: no scales
            ]
            weights[name] = FactoredWeight(net, cores, site.partition(net, plan.rows[name].stages), schemes, scales)
    return weights


def networks(model: nn.Module, plan: Plan) -> dict[str, tuple[Site, TensorNetwork]]:
    """The site and the network of every row that is not dense.

    Raises: TenfoldError for rows that the network does not have, or that do not fit their weight or the memory.
    """
    known, others = sites(model), untaken(model)
    found = {}
    for name, row in plan.rows.items():
        with within(f"layer '{name}'"):
            if name not in known and name not in others:
                raise TenfoldError(f"the network has no such layer{near_misses(name, [*known, *others])}")
            if row.is_dense:
                continue
            if name in others:
                raise TenfoldError(f"{others[name].reason}; leave the layer dense.")
            site = known[name]
            if site.bound:
                raise TenfoldError(f"{site.bound}; leave the layer dense.")
            with within(described(site)):
                net = row.network(site.axes)
                check_bits(row, net, site.parameter(model).dtype)
                check_room(Stages.of(net, site.partition(net, row.stages)))
            found[name] = (site, net)
    return found


def check_bits(row: Row, net: TensorNetwork, dtype: torch.dtype) -> None:
    """Raise for bits of another number of cores, or of numbers that are short themselves."""
    row.schemes(len(net.cores))
    if row.bits and dtype not in (torch.float32, torch.float64):
        raise TenfoldError(f"bits are of float32 and float64, and its numbers are {str(dtype)[6:]}; convert it first.")


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


def on_grids(
    model: nn.Module,
    plan: Plan,
    members: Members,
    each: Sequence[list[Tensor]],
    metrics: Mapping[str, Metric],
    seed: int,
) -> list[Coded]:
    """The cores of one group, those with few bits on their grids, and their scales.

    Raises: TenfoldError for bits of a core that several weights share.
    """
    found: list[Coded] = []
    for (name, (site, net)), cores in zip(members.items(), each, strict=True):
        schemes = plan.rows[name].schemes(len(cores))
        if not any(schemes):
            found.append((cores, [None] * len(cores)))
            continue
        if len({id(core) for cores in each for core in cores}) < sum(map(len, each)):
            raise TenfoldError("cores that layers share have no bits of their own yet; take out bits, or the group.")
        draw = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}/bits".encode()))
        weight = site.weight(model)
        coded = rounded(weight, net, cores, schemes, metrics.get(name), generator=draw)
        found.append(([x.to(weight) for x in coded[0]], [None if x is None else x.to(weight) for x in coded[1]]))
    return found


def factored(model: nn.Module, plan: Plan, members: Members, each: Sequence[Coded]) -> dict[str, FactoredWeight]:
    """The weights of one group made of these cores and scales. A core that several of them have is one parameter."""
    owned: dict[int, nn.Parameter] = {}
    found = {}
    for (name, (site, net)), (cores, scales) in zip(members.items(), each, strict=True):
        grad = site.parameter(model).requires_grad
        parameters = [owned.setdefault(id(core), nn.Parameter(core, requires_grad=grad)) for core in cores]
        steps = [None if scale is None else nn.Parameter(scale, requires_grad=grad) for scale in scales]
        row = plan.rows[name]
        found[name] = FactoredWeight(net, parameters, site.partition(net, row.stages), row.schemes(len(cores)), steps)
    return found


def one_format(rows: Sequence[Row]) -> Format:
    """The format of a group.

    Raises: TenfoldError for several.
    """
    maker = rows[0].maker()
    if any(row.maker() != maker for row in rows):
        raise TenfoldError("layers of one group have one format with the same options.")
    return maker


def replaced(model: nn.Module, planned: Members, weights: Mapping[str, FactoredWeight]) -> nn.Module:
    """A copy of the network with layers in the place of modules; a module under several names stays one."""
    alone = [each for site, _ in planned.values() if (each := site.alone(model)) is not None]
    return exchanged(copied(model, without=alone), planned, weights)


def exchanged(model: nn.Module, planned: Members, weights: Mapping[str, FactoredWeight]) -> nn.Module:
    """The network, changed in place, with layers in the place of modules."""
    kinds: dict[str, type[Layer]] = {}
    own: dict[str, dict[str, FactoredWeight]] = {}
    for name, (site, _) in planned.items():
        for place in site.places:
            weight = weights[name]
            kinds[place.module] = place.kind
            own.setdefault(place.module, {})[place.weight] = weight.mirrored() if place.mirrored else weight
    modules = {name: model.get_submodule(name) for name in own}
    return swapped(model, {modules[name]: kinds[name].from_dense(modules[name], own[name]) for name in own})


def swapped(model: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The network, changed in place, with some modules exchanged wherever they stand; the root may be one of them.

    What hangs on a module goes to the one that takes its place, and whatever else refers to it is led there.
    """
    for old, new in swaps.items():
        carry_over(old, new)
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is not None and child in swaps:
                module._modules[name] = swaps[child]
    result = swaps.get(model, model)
    redirected(result, swaps)
    return result
