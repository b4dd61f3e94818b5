"""The weights of a network that can be compressed, by name."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from torch import Tensor, nn

from tenfold.formats import Format, available
from tenfold.formats.base import Suits
from tenfold.layers import OPAQUE, Layer, kind_of
from tenfold.layers.computed import origins
from tenfold.network import Count, Partition, Positions, Stages, TensorNetwork, backwards, every_stages
from tenfold.protocols import TenfoldError
from tenfold.surgery.carry_over import obstacle
from tenfold.surgery.memory import Beside, beside, looking_into


@dataclass(frozen=True)
class Place:
    """A module that applies a weight.

    Attributes:
        module: its name.
        weight: the name that the weight has in it.
        kind: the layer that takes the module's place.
        mirrored: whether it applies the transposed map, as an output layer does that is tied to an embedding.
    """

    module: str
    weight: str
    kind: type[Layer]
    mirrored: bool = False


@dataclass(frozen=True)
class Site:
    """One weight of a dense network.

    Attributes:
        name: the row it has in a plan: the module's name, `module.weight_hh_l0` where a module has several weights,
            `model` where the network is one such module.
        places: every module that holds this very parameter; the first names the site.
        axes: the axes of the weight and their sizes.
        bound: why it must stay as it is, in words: something else holds the parameter and cannot share its cores, or
            what hangs on a module cannot go along; None if nothing does.
    """

    name: str
    places: tuple[Place, ...]
    axes: Mapping[str, int] = field(hash=False)
    bound: str | None = None

    @property
    def kind(self) -> type[Layer]:
        """The layer that takes the place of the module which names the site."""
        return self.places[0].kind

    def weight(self, model: nn.Module) -> Tensor:
        """The weight, with its named axes as dimensions."""
        first = self.places[0]
        return first.kind.dense_weight(model.get_submodule(first.module), first.weight)

    def parameter(self, model: nn.Module) -> nn.Parameter:
        """The parameter that holds the weight, or the first of those that it is computed from."""
        first = self.places[0]
        return next(iter(stored_in(model.get_submodule(first.module), first.kind, first.weight).values()))

    def alone(self, model: nn.Module) -> nn.Parameter | None:
        """The parameter that holds this weight as it is and nothing else; None where there is no such."""
        first = self.places[0]
        module = model.get_submodule(first.module)
        child, _, leaf = first.kind.stored(module, first.weight).rpartition(".")
        held = module.get_submodule(child)._parameters.get(leaf)
        return held if held is not None and held.numel() == math.prod(self.axes.values()) else None

    @property
    def obstacle(self) -> str | None:
        """Why the weight stays dense, if it does: bound to something that cores cannot serve, or nothing to cut."""
        if self.bound is None and self.axes.get("o") == 1 and self.axes.get("i") == 1:
            return "depthwise: one input and one output channel a group, so no channel rank to cut"
        return self.bound

    # ---- a network of cores for it
    def objection(self, stages: Stages) -> str | None:
        """Why the weight cannot be applied in these stages; None if it can."""
        each = (p.kind.objection(p.weight, stages.mirrored() if p.mirrored else stages) for p in self.places)
        return next((reason for reason in each if reason), None)

    def evaluations(self, net: TensorNetwork) -> tuple[Stages, ...]:
        """The partitions into stages of neighbouring cores that the weight's layers can apply, fewest stages first.

        Raises: TenfoldError, with the formats that suit, if there is none.
        """
        every = every_stages(net)
        found = tuple(stages for stages in every if self.objection(stages) is None)
        if not found:
            raise TenfoldError(f"{self.objection(every[-1])}; formats that suit: {', '.join(self.suiting())}.")
        return found

    def partition(self, net: TensorNetwork, asked: Partition) -> Partition:
        """The stages asked for, or the most that there can be.

        Raises: TenfoldError for stages that do not hold each core once, or that the weight's layers cannot apply.
        """
        if not asked:
            return self.evaluations(net)[-1].partition
        if reason := self.objection(Stages.of(net, asked)):
            raise TenfoldError(f"stages {asked}: {reason}.")
        return asked

    def suit(self, maker: Suits, *, first: bool = False) -> Format | str:
        """A format as it suits the weight: itself, one that stands in for it, or the reason why none does.

        `first`: the weight belongs to the first convolution of its network.
        """
        answer = maker.suit(self.axes, first=first)
        if isinstance(answer, str):
            return answer
        net, reason = answer.network(self.axes), None
        for stages in every_stages(net):
            reason = self.objection(stages)
            if reason is None:
                return answer
        assert reason is not None  # there is a partition
        return reason

    def suiting(self) -> list[str]:
        """Formats that mean something for the weight."""
        return [name for name, kind in available().items() if isinstance(self.suit(kind()), Format)]

    # ---- what it costs
    def dense_macs(self, positions: Positions) -> int:
        """Multiply-adds of the dense weight for one sample, one call of every place at these positions."""
        back = backwards(positions)
        return sum(
            place.kind.dense_macs(place.weight, mirrored(self.axes), back)
            if place.mirrored
            else place.kind.dense_macs(place.weight, self.axes, positions)
            for place in self.places
        )

    def mac_count(self, stages: Stages, positions: Positions) -> Count:
        """The same for the weight in cores."""
        back = backwards(positions)
        each = (
            place.kind.mac_count(place.weight, stages.mirrored(), back)
            if place.mirrored
            else place.kind.mac_count(place.weight, stages, positions)
            for place in self.places
        )
        return reduce(add, each)

    def macs(self, stages: Stages, positions: Positions | None, macs: int | None, calls: int | None) -> int | None:
        """Multiply-adds of one sample in these stages, by what was measured of the dense weight (`times`)."""
        if positions is None or macs is None:
            return macs
        once = int(self.mac_count(stages, positions)(stages.net.sizes))
        return round(self.times(positions, macs, calls) * once)

    def error_gain(self, positions: Positions | None, calls: int | None) -> float:
        """By how much a squared error of the weight counts for more than that of one whose error never comes back."""
        return max(place.kind.error_gain(place.weight, positions or {}, calls or 0) for place in self.places)

    def times(self, positions: Positions | None, macs: int | None, calls: int | None) -> float:
        """How often what `dense_macs` and `mac_count` count happens in one forward, by what was measured there."""
        if calls == 0:
            return 0.0
        if positions is None or macs is None:
            return 1.0
        once = self.dense_macs(positions)
        return macs / once if once else (calls or 0) / len(self.places)


def sites(model: nn.Module) -> dict[str, Site]:
    """Every weight that some kind of layer takes, tied ones once, in the order of the modules."""
    holders, kept = owners(model), beside(model)
    found: dict[object, Site] = {}
    groups: dict[object, list[tuple[Place, Mapping[str, int]]]] = {}
    for name, module, kind in taken(model):
        axes = kind.axes(module)
        for weight, sizes in axes.items():
            key = identity(module, kind, weight)
            groups.setdefault(key, []).append((Place(name, weight, kind), sizes))
            row = row_name(name, weight, len(axes))
            found.setdefault(key, Site(row, (), sizes))
    named = [placed(model, site, groups[key], holders, kept) for key, site in found.items()]
    return {site.name: site for site in named}


def placed(
    model: nn.Module,
    site: Site,
    members: list[tuple[Place, Mapping[str, int]]],
    holders: Mapping[int, list[str]],
    kept: Beside,
) -> Site:
    """The site with every place that applies it, and what keeps it dense.

    Args: holders: the names of every parameter; kept: what may be one of them, or look into it.
    """
    places: list[Place] = []
    alien: list[str] = []
    for place, sizes in members:
        if list(sizes.items()) == list(site.axes.items()):
            places.append(place)
        elif list(sizes.items()) == list(mirrored(site.axes).items()):
            places.append(Place(place.module, place.weight, place.kind, mirrored=True))
        else:
            alien.append(full(place.module, place.weight))
    held = {p: stored_in(model.get_submodule(p.module), p.kind, p.weight) for p in places}
    known = {full(p.module, name) for p, parameters in held.items() for name in parameters}
    parameters = held[places[0]].values()
    alien += [name for part in parameters for name in holders[id(part)] if name not in known and name not in alien]
    return Site(site.name, tuple(places), site.axes, bound_to(model, places, alien, kept))


def bound_to(model: nn.Module, places: Sequence[Place], alien: Sequence[str], kept: Beside) -> str | None:
    """Why a weight must stay as it is, in words: who else holds it, or what hangs on a module that applies it."""
    if alien:
        owner = type(model.get_submodule(alien[0].rpartition(".")[0])).__name__
        return f"tied to '{alien[0]}' ({owner}), which cannot share its cores"
    for place in places:
        module = model.get_submodule(place.module)
        if reason := obstacle(module, place.kind):
            return reason if len(places) == 1 else f"{reason} ('{place.module}')"
        for parameter in module.parameters():
            for holder, attribute, _ in looking_into(parameter, kept):
                if holder != place.module:  # torch's recurrences keep lists of their own
                    return f"'{full(holder, attribute)}' holds its parameter, too, and would go on with the dense one"
    return None


def mirrored(axes: Mapping[str, int]) -> dict[str, int]:
    """The axes of the transposed map; the dimensions stay in their order."""
    return {{"i": "o", "o": "i"}.get(axis, axis): size for axis, size in axes.items()}


def layer_weights(model: nn.Module) -> Iterator[tuple[str, str, Layer]]:
    """Of a network in which modules were replaced: (row name, weight, layer) for every weight of every layer."""
    for name, module in reachable(model):
        if isinstance(module, Layer):
            for weight in module.sizes:
                yield row_name(name, weight, len(module.sizes)), weight, module


# ---- modules and parameters by name
def taken(model: nn.Module) -> Iterator[tuple[str, nn.Module, type[Layer]]]:
    """Dense modules that some kind of layer takes, by name, each once."""
    for name, module in reachable(model):
        kind = kind_of(module)
        if kind is not None and not isinstance(module, Layer):
            yield name, module, kind


def reachable(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Modules by name, each once, without what is inside torch's closed modules and inside those that a kind takes."""
    closed = [m for m in model.modules() if isinstance(m, OPAQUE) or kind_of(m) is not None]
    hidden = {id(part) for module in closed for part in module.modules() if part is not module}
    hidden |= {id(module) for module in closed if isinstance(module, OPAQUE) and kind_of(module) is None}
    return [(name, module) for name, module in model.named_modules(prefix=prefix) if id(module) not in hidden]


def owners(model: nn.Module) -> dict[int, list[str]]:
    """The names of every parameter, by its identity."""
    found: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for weight, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append(full(name, weight))
    return found


def stored_in(module: nn.Module, kind: type[Layer], weight: str) -> dict[str, nn.Parameter]:
    """The parameter of a dense module that holds a weight, or those that it is computed from, by name."""
    child, _, leaf = kind.stored(module, weight).rpartition(".")
    return {full(child, name): part for name, part in origins(module.get_submodule(child), leaf).items()}


def identity(module: nn.Module, kind: type[Layer], weight: str) -> object:
    """Equal for two places of one weight; a parameter may hold several weights."""
    parameter = next(iter(stored_in(module, kind, weight).values()))
    return id(parameter), None if kind.stored(module, weight) == weight else weight


def full(module: str, weight: str) -> str:
    """A dotted name."""
    return f"{module}.{weight}" if module else weight


def row_name(module: str, weight: str, count: int) -> str:
    """The name of a plan's row for one of so many weights of a module."""
    return (module or "model") if count == 1 else f"{module or 'model'}.{weight}"
