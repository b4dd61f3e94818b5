"""The weights of any network, dense or in cores, and the modules that apply them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from tenfold.layers import FactoredWeight, Layer, kind_of
from tenfold.network import Positions, Stages
from tenfold.surgery import Site, sites
from tenfold.surgery.sites import reachable

COMPRESSED = "already compressed"


@dataclass(frozen=True)
class Weight:
    """One weight and who applies it.

    Attributes:
        name: its site: the module's name, `module.weight_hh_l0` where a module has several weights.
        kind: the kind of layer that takes the module's place, or took it.
        modules: every module that applies it; more than one where it is tied.
        axes: the weight's axes and their sizes.
        params: numbers in it (in its cores; a core that an earlier weight holds counts there).
        itemsize: bytes of one number.
        stages: how it is applied, where it is in cores.
        obstacle: why it must stay as it is, if it must.
    """

    name: str
    kind: type[Layer]
    modules: tuple[nn.Module, ...]
    axes: Mapping[str, int] = field(hash=False)
    params: int
    itemsize: int
    stages: Stages | None = None
    obstacle: str | None = None

    def macs(self, positions: Positions) -> int:
        """Multiply-adds of one call on one sample with these positions."""
        if self.stages is not None:
            return self.stages.macs(positions)
        return math.prod(self.axes.values()) * math.prod(after for _, after in positions.values())


def weights(model: nn.Module) -> dict[str, Weight]:
    """Every weight that some kind of layer takes or has taken, each once, in the order of the modules."""
    modules = dict(reachable(model))
    order = {id(module): k for k, module in enumerate(modules.values())}
    found = [*factored_weights(modules), *(dense_weight(modules, site) for site in sites(model).values())]
    found.sort(key=lambda weight: order[id(weight.modules[0])])
    return {weight.name: weight for weight in found}


def dense_weight(modules: Mapping[str, nn.Module], site: Site) -> Weight:
    """A weight that no plan has touched."""
    holders = [(modules[module], name) for module, name in site.places if module in modules]
    users = [(holder, name) for holder, name in holders if kind_of(holder) is site.kind]
    weight: Tensor = getattr(*users[0])
    return Weight(
        name=site.name,
        kind=site.kind,
        modules=tuple(holder for holder, _ in users),
        axes=site.axes,
        params=weight.numel(),
        itemsize=weight.element_size(),
        obstacle=site.obstacle or too_small(site.axes),
    )


def too_small(axes: Mapping[str, int]) -> str | None:
    """Why no rank of any bond makes such a weight smaller, if none does."""
    sizes = [size for axis, size in axes.items() if axis != "g" and size > 1]
    dense, least = math.prod(axes.values()), axes.get("g", 1) * sum(sizes)
    if least < dense:
        return None
    return f"too small to gain: {dense:,} numbers, and rank 1 everywhere would hold {max(least, 1):,}"


def factored_weights(modules: Mapping[str, nn.Module]) -> list[Weight]:
    """The weights in cores, tied ones once."""
    owners: dict[int, list[tuple[str, Layer, FactoredWeight]]] = {}
    for name, module in modules.items():
        if isinstance(module, Layer):
            own = own_weights(module)
            for attribute, weight in own.items():
                row = (name or "model") if len(own) == 1 else f"{name or 'model'}.{attribute}"
                owners.setdefault(id(weight), []).append((row, module, weight))
    counted: set[int] = set()
    found = []
    for group in owners.values():
        row, layer, weight = group[0]
        cores = [core for core in weight.cores if id(core) not in counted]
        counted.update(id(core) for core in cores)
        found.append(
            Weight(
                name=row,
                kind=type(layer),
                modules=tuple(layer for _, layer, _ in group),
                axes=weight.net.axes,
                params=sum(core.numel() for core in cores),
                itemsize=weight.cores[0].element_size(),
                stages=weight.stages,
                obstacle=COMPRESSED,
            )
        )
    return found


def own_weights(layer: nn.Module) -> dict[str, FactoredWeight]:
    """The factored weights of a layer by attribute name."""
    return {name: child for name, child in layer.named_children() if isinstance(child, FactoredWeight)}


def input_size(module: nn.Module) -> int:
    """Numbers that one position of one sample brings to a module that some kind of layer takes or has taken."""
    if isinstance(module, Layer):
        axes: Mapping[str, int] = next(iter(own_weights(module).values())).net.axes
    else:
        kind = kind_of(module)
        assert kind is not None  # only such modules are watched
        axes = next(iter(kind.axes(module).values()))
    return axes["i"] * axes.get("g", 1)


def share(weight: Weight, module: nn.Module) -> float:
    """A weight's part of the numbers that a module applies; 1 where it has no other."""
    if weight.stages is not None:
        return weight.stages.params / sum(each.stages.params for each in own_weights(module).values())
    sizes = [math.prod(axes.values()) for axes in weight.kind.axes(module).values()]
    return math.prod(weight.axes.values()) / sum(sizes)
