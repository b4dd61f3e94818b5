"""Where the weights of a network are applied, each by a module that holds it alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from tenfold.layers import Layer, kind_of
from tenfold.network import GROUPS
from tenfold.surgery import Site, sites
from tenfold.surgery.carry_out import swapped
from tenfold.surgery.sites import mirrored

UNSEEN = "what it meets is not seen from outside"


@dataclass(frozen=True, eq=False)
class Applied:
    """One place of a weight: the kind of the module that applies it, and whether it applies the transposed map."""

    site: Site
    kind: type[Layer]
    mirrored: bool

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


def taken_apart(model: nn.Module) -> tuple[nn.Module, dict[nn.Module, Applied], dict[str, str]]:
    """A dense network, changed in place, in which every weight that can be is applied by a module of its own.

    Returns: it; these modules; the weights that cannot be seen, with the reason.
    """
    known = sites(model)
    apart = {}
    for place in {p.module: p for site in known.values() for p in site.places}.values():
        module = model.get_submodule(place.module)
        apart[place.module] = module, *place.kind.apart(module)
    found: dict[nn.Module, Applied] = {}
    reasons = {}
    for name, site in known.items():
        for place in site.places:
            _, new, children = apart[place.module]
            if place.weight not in children:
                reasons[name] = UNSEEN
                continue
            child = new.get_submodule(children[place.weight])
            found[child] = Applied(site, kind_of(child) or place.kind, place.mirrored)
    return swapped(model, {old: new for old, new, _ in apart.values() if old is not new}), found, reasons
