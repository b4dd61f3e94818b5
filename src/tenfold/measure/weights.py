"""The weights of any network, dense or in cores, and the modules that apply them."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from tenfold.layers import FactoredWeight, Layer
from tenfold.network import Positions, Stages
from tenfold.surgery import Site, sites
from tenfold.surgery.sites import layer_weights, mirrored, reachable

COMPRESSED = "already compressed"


@dataclass(frozen=True)
class Use:
    """How a module applies a weight.

    Attributes:
        module: the module, dense or a layer.
        kind: the kind of layer that takes its place, or took it.
        weight: the name of the weight in it.
        axes: the weight's axes and their sizes, as this module sees them.
        stages: how it is applied, where it is in cores.
    """

    module: nn.Module
    kind: type[Layer]
    weight: str
    axes: Mapping[str, int] = field(hash=False)
    stages: Stages | None = None

    def macs(self, positions: Positions) -> int:
        """Multiply-adds of one call on one sample with these positions."""
        if self.stages is None:
            return self.kind.dense_macs(self.weight, self.axes, positions)
        return int(self.kind.mac_count(self.weight, self.stages, positions)(self.stages.net.sizes))

    @property
    def numbers(self) -> int:
        """Numbers that the module applies."""
        return math.prod(self.axes.values()) if self.stages is None else self.stages.params


@dataclass(frozen=True)
class Weight:
    """One weight and who applies it.

    Attributes:
        name: its site: the module's name, `module.weight_hh_l0` where a module has several weights.
        uses: every module that applies it; more than one where it is tied.
        params: numbers in it (in its cores; a core that an earlier weight holds counts there).
        itemsize: bytes of one number.
        obstacle: why it must stay as it is, if it must.
    """

    name: str
    uses: tuple[Use, ...]
    params: int
    itemsize: int
    obstacle: str | None = None

    @property
    def kind(self) -> type[Layer]:
        """The kind of layer of its first module."""
        return self.uses[0].kind

    @property
    def axes(self) -> Mapping[str, int]:
        """Its axes and their sizes."""
        return self.uses[0].axes

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Every module that applies it."""
        return tuple(use.module for use in self.uses)


def weights(model: nn.Module) -> dict[str, Weight]:
    """Every weight that some kind of layer takes or has taken, each once, in the order of the modules."""
    order = {id(module): k for k, (_, module) in enumerate(reachable(model))}
    found = [*weights_of_layers(model), *(dense_weight(model, site) for site in sites(model).values())]
    found.sort(key=lambda weight: order[id(weight.modules[0])])
    return {weight.name: weight for weight in found}


def dense_weight(model: nn.Module, site: Site) -> Weight:
    """A weight that no plan has touched."""
    uses = tuple(
        Use(
            model.get_submodule(place.module), place.kind, place.weight,
            mirrored(site.axes) if place.mirrored else site.axes,
        ) for place in site.places
    )  # fmt: skip
    return Weight(
        name=site.name,
        uses=uses,
        params=math.prod(site.axes.values()),
        itemsize=site.parameter(model).element_size(),
        obstacle=site.obstacle or too_small(site.axes),
    )


def too_small(axes: Mapping[str, int]) -> str | None:
    """Why no rank of any bond makes such a weight smaller, if none does."""
    sizes = [size for axis, size in axes.items() if axis != "g" and size > 1]
    dense, least = math.prod(axes.values()), axes.get("g", 1) * sum(sizes)
    if least < dense:
        return None
    return f"too small to gain: {dense:,} numbers, and rank 1 everywhere would hold {max(least, 1):,}"


def weights_of_layers(model: nn.Module) -> list[Weight]:
    """The weights of modules that were replaced, in cores or as they were; tied ones once."""
    groups: dict[FactoredWeight | Tensor, list[tuple[str, Use]]] = {}
    for row, name, layer in layer_weights(model):
        held = layer.held(name)
        stages = held.stages if isinstance(held, FactoredWeight) else None
        groups.setdefault(held, []).append((row, Use(layer, type(layer), name, layer.sizes[name], stages)))
    counted: set[int] = set()
    found = []
    for held, members in groups.items():
        numbers = list(held.cores) if isinstance(held, FactoredWeight) else [held]
        own = [part for part in numbers if id(part) not in counted]
        counted.update(id(part) for part in own)
        uses = tuple(use for _, use in members)
        found.append(
            Weight(members[0][0], uses, sum(part.numel() for part in own), numbers[0].element_size(), COMPRESSED)
        )
    return found


def shares(known: Mapping[str, Weight]) -> dict[Use, float]:
    """Every weight's part of the numbers that its module applies; 1 where the module has no other."""
    uses = [use for weight in known.values() for use in weight.uses]
    whole: Counter[nn.Module] = Counter()
    for use in uses:
        whole[use.module] += use.numbers
    return {use: use.numbers / max(whole[use.module], 1) for use in uses}
