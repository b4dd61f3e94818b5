"""Where the weights of a network are applied, each by a module that holds it alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from tenfold.layers import Layer, kind_of
from tenfold.network import GROUPS
from tenfold.surgery import Site, sites
from tenfold.surgery.carry_out import swapped
from tenfold.surgery.sites import mirrored

UNSEEN = "what it meets is not seen from outside"


@dataclass(frozen=True, eq=False)
class Applied:
    """One place of a weight: the module that applies it and its kind, and whether it applies the transposed map.

    Attributes:
        weight: its name in the module.
    """

    site: Site
    kind: type[Layer]
    mirrored: bool
    module: nn.Module
    weight: str

    @property
    def groups(self) -> int:
        """Of the weight; 1 where it has none."""
        return self.site.axes.get(GROUPS, 1)

    @property
    def input_axes(self) -> tuple[str, ...]:
        """Of the weight, as the site has it."""
        if not self.mirrored:
            return self.kind.input_axes(self.site.axes)
        return tuple(mirrored(dict.fromkeys(self.kind.input_axes(mirrored(self.site.axes)), 1)))

    @property
    def output_axes(self) -> tuple[str, ...]:
        """All others but groups."""
        return tuple(axis for axis in self.site.axes if axis != GROUPS and axis not in self.input_axes)

    def features(self, axes: Sequence[str]) -> int:
        """How many there are over some of the weight's axes, in each group."""
        return math.prod(self.site.axes[axis] for axis in axes)

    def in_groups(self, gradient: Tensor) -> Tensor:
        """A gradient of the weight as (groups, outputs, inputs)."""
        axes, front = tuple(self.site.axes), [axis for axis in self.site.axes if axis == GROUPS]
        turned = gradient.to_dense().reshape(tuple(self.site.axes.values()))
        turned = turned.permute([axes.index(axis) for axis in (*front, *self.output_axes, *self.input_axes)])
        return turned.reshape(self.groups, self.features(self.output_axes), self.features(self.input_axes))


@dataclass(frozen=True)
class Apart:
    """A dense network in which every weight that can be is applied by a module of its own.

    Attributes:
        alone: the places of these weights, by the module.
        within: those of weights that are applied by code of a module around them (experts).
        reasons: weights of which nothing can be seen, with the reason.
    """

    model: nn.Module
    alone: Mapping[nn.Module, Applied]
    within: Sequence[Applied]
    reasons: Mapping[str, str]


def taken_apart(model: nn.Module) -> Apart:
    """A dense network, changed in place."""
    known = sites(model)
    apart = {}
    for place in {p.module: p for site in known.values() for p in site.places}.values():
        module = model.get_submodule(place.module)
        apart[place.module] = module, *place.kind.apart(module)
    alone: dict[nn.Module, Applied] = {}
    within, reasons = [], {}
    for name, site in known.items():
        for place in site.places:
            _, new, children = apart[place.module]
            if place.weight in children:
                child = new.get_submodule(children[place.weight])
                kind = kind_of(child) or place.kind
                (weight,) = kind.axes(child)
                alone[child] = Applied(site, kind, place.mirrored, child, weight)
            elif len(site.places) == 1:
                within.append(Applied(site, place.kind, place.mirrored, new, place.weight))
            else:
                reasons[name] = UNSEEN
    swaps = {old: new for old, new, _ in apart.values() if old is not new}
    return Apart(swapped(model, swaps), alone, within, reasons)
