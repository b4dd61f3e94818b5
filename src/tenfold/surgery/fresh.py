"""A plan from scratch: new random weights in cores, to be trained."""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tenfold.fitting import balanced
from tenfold.formats import Format
from tenfold.layers import FactoredWeight
from tenfold.network import TensorNetwork, deviation_of, random_cores
from tenfold.protocols import TenfoldError, near_misses, within
from tenfold.quantization import Coded
from tenfold.surgery.carry_out import Members, factored, groups, networks, one_format, replaced
from tenfold.surgery.copying import unwrapped
from tenfold.surgery.keepers import kept
from tenfold.surgery.plan import Plan, Row
from tenfold.surgery.sites import Site

Init = Literal["dense", "cores"]
Nets = Mapping[str, TensorNetwork]  # of one group, by name
Draw = Callable[[Format, Nets, int], list[list[Tensor]]]


def fresh(model: nn.Module, plan: Plan, *, init: Init = "dense", seed: int = 0) -> nn.Module:
    """A copy of a dense network in which every planned weight is a new random one in cores, to be trained.

    Whatever the format and the ranks, a rebuilt weight has the deviation (the root mean square) that the dense one has
    in `model`, so that the learning rate of the dense network serves. Nothing is kept of the planned weights but their
    deviation; the rest of the network is copied as it is. Tied weights stay tied, shared cores are drawn once. A
    layer's random numbers depend on the seed and its name only (those of a group, on its members).

    Args:
        model: the dense network as its training would begin. With `init="cores"` planned weights may be on device
            `meta`: they are never built, and stand for torch's own initialisation; what else their modules hold there
            is drawn as torch would, on the CPU.
        init: `dense` draws a Gaussian weight and decomposes it; `cores` draws the cores, for weights too large to
            build, and for ranks so small that a truncated weight would be far from Gaussian anyway.
    Raises: TenfoldError that names the layer: unknown to the network, not fitting its plan, or not finite.
    Source: independent cores give Var(W) = the product of all ranks and of the variances of all cores (Pan et al.,
        ICML 2022).
    """
    check_init(init)
    model = unwrapped(model)
    planned = networks(model, plan)
    weights: dict[str, FactoredWeight] = {}
    for names in groups(plan, planned):
        with within(f"layer '{names[0]}'" if len(names) == 1 else f"group of {', '.join(names)}"):
            members = {name: planned[name] for name in names}
            each = drawn(model, plan, members, INITS[init], seed)
            coded = [with_scales(plan.rows[name], cores) for name, cores in zip(names, each, strict=True)]
            weights.update(factored(model, plan, members, coded))
    spreads = {name: initial(model, site) for name, (site, _) in planned.items()}
    result = replaced(model, planned, weights)
    for name, (site, _) in planned.items():
        for place in site.places:
            settle(result.get_submodule(place.module), spreads[name], generator(seed, name, "rest"))
    return kept(result, plan)


def initial(model: nn.Module, site: Site) -> float:
    """The deviation that torch draws the weight with."""
    first = site.places[0]
    found: float = first.kind.initial_deviation(model.get_submodule(first.module), first.weight)
    return found


def settle(layer: nn.Module, spread: float, draw: torch.Generator) -> None:
    """Give what a layer has on device `meta` its numbers: parameters uniform, as torch's biases, and buffers zero."""
    for module in layer.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                noise = torch.rand(parameter.shape, generator=draw, dtype=torch.float64) * 2 - 1
                module._parameters[name] = nn.Parameter((noise * 3**0.5 * spread).to(parameter.dtype))
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.zeros_like(buffer, device="cpu")


def check_init(init: str) -> None:
    """Refuse an initialisation that there is not."""
    if init not in INITS:
        raise TenfoldError(f"no init is called '{init}'{near_misses(init, INITS)}")


def drawn(model: nn.Module, plan: Plan, members: Members, init: Draw, seed: int) -> list[list[Tensor]]:
    """New cores for one group, at the deviations, and in the types, of the weights in the network."""
    weights = [site.weight(model) for site, _ in members.values()]
    if init is from_dense and any(weight.is_meta for weight in weights):
        raise TenfoldError("the weight is on device 'meta' and is not to be built; use init='cores'.")
    each_site = zip(members.values(), weights, strict=True)
    wanted = [initial(model, site) if weight.is_meta else deviation(weight) for (site, _), weight in each_site]
    maker = one_format([plan.rows[name] for name in members])
    nets = {name: net for name, (_, net) in members.items()}
    each = rescaled(list(nets.values()), init(maker, nets, seed), wanted)
    typed: dict[int, Tensor] = {}  # a core of several members stays one
    return [
        [typed.setdefault(id(core), placed(core, weight)) for core in cores]
        for cores, weight in zip(each, weights, strict=True)
    ]


def with_scales(row: Row, cores: list[Tensor]) -> Coded:
    """Cores, and for those with few bits scales to begin with."""
    schemes = row.schemes(len(cores)) or [None] * len(cores)
    pairs = zip(schemes, cores, strict=True)
    return cores, [None if scheme is None else scheme.fitted(core.detach()) for scheme, core in pairs]


def placed(core: Tensor, like: Tensor) -> Tensor:
    """A core in the type and on the device of its weight; on the CPU where that has none."""
    return core.to(like.dtype).to("cpu" if like.is_meta else like.device).contiguous()


def deviation(weight: Tensor) -> float:
    """Root mean square of a weight.

    Raises: TenfoldError for values that are not finite.
    """
    result = float(weight.double().square().mean().sqrt())
    if not math.isfinite(result):
        raise TenfoldError("the weight has values that are not finite; initialise the network before its cores.")
    return result


# ---- two ways to draw: cores in float64, of weights at any scale
def from_dense(maker: Format, nets: Nets, seed: int) -> list[list[Tensor]]:
    """Cores of Gaussian weights; noise deserves a quick fit."""
    noise = [
        torch.randn(tuple(net.axes.values()), generator=generator(seed, name, "weight"), dtype=torch.float64)
        for name, net in nets.items()
    ]
    draw = generator(seed, next(iter(nets)), "fit")
    return maker.trial().decompose_group(noise, list(nets.values()), [None] * len(nets), generator=draw)


def from_cores(maker: Format, nets: Nets, seed: int) -> list[list[Tensor]]:
    """Independent Gaussian cores; those that the format gives to several members are the first one's."""
    each = [
        random_cores(net, 1.0, generator=generator(seed, name, "cores"), dtype=torch.float64)
        for name, net in nets.items()
    ]
    common = maker.shared_cores(list(nets.values()))
    return [[each[0][k] if k in common else core for k, core in enumerate(cores)] for cores in each]


INITS: dict[str, Draw] = {"dense": from_dense, "cores": from_cores}


def generator(seed: int, name: str, what: str) -> torch.Generator:
    """Random numbers of one weight's own."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}/{what}".encode()))


# ---- their scale
def rescaled(
    nets: Sequence[TensorNetwork], each: Sequence[Sequence[Tensor]], wanted: Sequence[float]
) -> list[list[Tensor]]:
    """Cores of weights of the wanted deviations; a core of several weights has deviation 1.

    A weight of deviation 0 has it from its last own core alone, so that gradients reach that one, and then the others.
    """
    holders = Counter(id(core) for cores in each for core in cores)
    shared = {id(core): core / deviation(core) for cores in each for core in cores if holders[id(core)] > 1}
    found = []
    for net, cores, scale in zip(nets, each, wanted, strict=True):
        own = [k for k, core in enumerate(cores) if id(core) not in shared]
        result = scaled(net, [shared.get(id(core), core) for core in cores], own, scale or 1.0)
        if not scale:
            result[own[-1]] = torch.zeros_like(result[own[-1]])
        found.append(result)
    return found


def scaled(net: TensorNetwork, cores: Sequence[Tensor], own: Sequence[int], wanted: float) -> list[Tensor]:
    """Cores whose weight has the wanted deviation, by even factors on those that are the weight's own."""
    result = balanced(net, cores) if len(own) == len(cores) else list(cores)
    gain = (wanted / float(deviation_of(net, result))) ** (1 / len(own))
    return [core * gain if k in own else core for k, core in enumerate(result)]
