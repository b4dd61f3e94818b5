"""The weights of a network that can be compressed, by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from tenfold.layers import OPAQUE, Layer, kind_of


@dataclass(frozen=True)
class Site:
    """One weight of a dense network.

    Attributes:
        name: the row it has in a plan: the module's name, `module.weight_hh_l0` where a module has several weights,
            `model` where the network is one such module.
        places: (module name, weight name) of every module that holds this very parameter; the first names the site.
        kind: the layer that takes the module's place.
        axes: the axes of the weight and their sizes.
        obstacle: why the weight must stay dense, if it must.
    """

    name: str
    places: tuple[tuple[str, str], ...]
    kind: type[Layer]
    axes: Mapping[str, int] = field(hash=False)
    obstacle: str | None = None

    def weight(self, model: nn.Module) -> Tensor:
        """The weight, with its named axes as dimensions."""
        module, weight = self.places[0]
        return self.kind.dense_weight(model.get_submodule(module), weight)

    def parameter(self, model: nn.Module) -> nn.Parameter:
        """The weight as torch holds it."""
        module, weight = self.places[0]
        found: nn.Parameter = getattr(model.get_submodule(module), weight)
        return found


def sites(model: nn.Module) -> dict[str, Site]:
    """Every weight that some kind of layer takes, tied ones once, in the order of the modules."""
    modules = dict(reachable(model))
    owners: dict[int, list[tuple[str, str]]] = {}
    for name, module in model.named_modules():
        for weight, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((name, weight))
    found: dict[str, Site] = {}
    seen: set[int] = set()
    for name, module in modules.items():
        kind = kind_of(module)
        if kind is None or isinstance(module, Layer):
            continue
        axes = kind.axes(module)
        for weight, sizes in axes.items():
            parameter = getattr(module, weight)
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            places = tuple(sorted(owners[id(parameter)], key=lambda place: place != (name, weight)))
            row = name or "model"
            row = row if len(axes) == 1 else f"{row}.{weight}"
            found[row] = Site(row, places, kind, sizes, obstacle(modules, places, kind, sizes))
    return found


def reachable(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Modules by name, each once, without what is inside torch's closed modules."""
    hidden = {id(part) for module in model.modules() if isinstance(module, OPAQUE) for part in module.modules()}
    return [(name, module) for name, module in model.named_modules(prefix=prefix) if id(module) not in hidden]


def obstacle(
    modules: Mapping[str, nn.Module], places: tuple[tuple[str, str], ...], kind: type[Layer], axes: Mapping[str, int]
) -> str | None:
    """Why a weight must stay dense: tied to something that cannot share its cores, or nothing to cut."""
    for name, weight in places:
        other = modules.get(name)
        if other is None or kind_of(other) is not kind or kind.axes(other).get(weight) != axes:
            what = type(other).__name__ if other is not None else "a module that torch reads as a whole"
            return f"tied to '{name}.{weight}' ({what}), which cannot share its cores"
    if axes["o"] == 1 and axes["i"] == 1:
        return "depthwise: one input and one output channel a group, so no channel rank to cut"
    return None
