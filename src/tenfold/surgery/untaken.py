"""Weights of a network that no kind of layer takes, by name, with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from tenfold.layers import OPAQUE, Layer, kind_of, refusal
from tenfold.surgery.sites import full, sites, stored_in


@dataclass(frozen=True)
class Untaken:
    """A parameter of two or more dimensions that stays as it is.

    Attributes:
        name: that of its module; with the parameter's own where a module has several.
        module: the module's class.
        shape, params, itemsize: sizes, how many numbers, bytes of one.
        reason: in words.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    params: int
    itemsize: int
    reason: str


def untaken(model: nn.Module) -> dict[str, Untaken]:
    """Every parameter of two or more dimensions that is no site's, each once, in the order of the modules."""
    places = [place for site in sites(model).values() for place in site.places]
    held = (stored_in(model.get_submodule(place.module), place.kind, place.weight) for place in places)
    seen = {id(parameter) for parameters in held for parameter in parameters.values()}
    found = {}
    for name, module, reader in readers(model):
        own = [(key, part) for key, part in module._parameters.items() if part is not None and part.ndim > 1]
        own = [] if kind_of(reader) is not None else own  # what is no weight of a module that is taken is a bias
        for key, part in own:
            if id(part) not in seen:
                seen.add(id(part))
                row = name if name and len(own) == 1 else full(name, key)
                found[row] = Untaken(
                    row, type(reader).__name__, tuple(part.shape), part.numel(), part.element_size(), refusal(reader)
                )
    return found


def readers(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """(name, module, the module that reads its parameters) for all that are not in cores.

    torch's closed modules read the parameters of what is inside them, and a parametrised module those of its parts.
    """
    inside: dict[int, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, OPAQUE) and kind_of(module) is None:
            inside |= {id(part): module for part in module.modules()}
    cores = {id(part) for layer in model.modules() if isinstance(layer, Layer) for part in layer.modules()}
    for name, module in model.named_modules():
        if id(module) in cores:
            continue
        if isinstance(module, ParametrizationList):
            owner = name.rpartition(".parametrizations.")[0]
            yield owner, module, model.get_submodule(owner)
        else:
            yield name, module, inside.get(id(module), module)
