"""A dense block and the compressed one side by side, both with dense weights, each applied by a module of its own."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tenfold.inputs.forward import FAILURES
from tenfold.layers import FactoredWeight, Layer
from tenfold.recovery.reconstruction.additions import Addition, called, watched
from tenfold.recovery.reconstruction.blocks import Block
from tenfold.recovery.reconstruction.flow import Given, through
from tenfold.statistics.moment import is_full
from tenfold.statistics.places import Applied, taken_apart
from tenfold.surgery import copied
from tenfold.surgery.carry_out import swapped
from tenfold.surgery.sites import reachable

PLAINLY = "each of its layers is solved for its own output, not for the sums that this goes into"
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Mend:
    """What owns the mean of a layer's output: a bias, or the running mean of the batch norm that follows.

    Attributes:
        dense: in the dense network.
        own, twin: in the compressed network, and in the twin of it.
        sign: by which it moves when the output is to grow.
    """

    dense: Tensor
    own: Tensor
    twin: Tensor
    sign: int


@dataclass(frozen=True, eq=False)
class Solvable:
    """A weight of a block that can be solved for.

    Attributes:
        name: of its site in the network.
        applied: where and how it is applied.
        dense, ours: the module that applies it in the dense block's twin, and in that of the compressed one.
        weight: the dense weight, in its axes.
        own: the cores, or the weight in its axes, of the compressed network.
        twin: the same as a dense weight in the twin.
        mend: None where nothing owns the mean.
        sum: that its output goes into, if any.
    """

    name: str
    applied: Applied
    dense: nn.Module
    ours: nn.Module
    weight: Tensor
    own: FactoredWeight | Tensor
    twin: Tensor
    mend: Mend | None
    sum: Addition | None = None

    @property
    def numbers(self) -> list[Tensor]:
        """What is solved for: the cores, and the scales of those with few bits, or the weight."""
        return list(self.own.parameters()) if isinstance(self.own, FactoredWeight) else [self.own]

    @property
    def state(self) -> tuple[list[Tensor], Tensor | None]:
        """What `put` puts back."""
        return [x.detach().clone() for x in self.numbers], None if self.mend is None else self.mend.own.detach().clone()

    @torch.no_grad()
    def put(self, numbers: Sequence[Tensor], mend: Tensor | None) -> None:
        """Cores and scales (or the weight) and what owns the mean, in the network and in its twin."""
        for own, value in zip(self.numbers, numbers, strict=True):
            own.copy_(value)
        self.twin.copy_(self.own.in_axes() if isinstance(self.own, FactoredWeight) else self.own)
        if self.mend is not None and mend is not None:
            self.mend.own.copy_(mend)
            self.mend.twin.copy_(mend)

    @torch.no_grad()
    def lend(self) -> None:
        """Give the twin the dense weight, and what owned its mean."""
        self.twin.copy_(self.weight)
        if self.mend is not None:
            self.mend.twin.copy_(self.mend.dense)


@dataclass(frozen=True, eq=False)
class Twins:
    """Copies of a dense block and of the compressed one, in eval mode, taken apart.

    Attributes:
        weights: that can be solved for, in the order of their calls.
    """

    dense: nn.ModuleList
    ours: nn.ModuleList
    weights: Sequence[Solvable]


def twins_of(
    block: Block, dense: nn.Module, small: nn.Module, given: tuple[Given, Given], shifts: Mapping[str, str]
) -> Twins:
    """The twins of a block in both networks, which are not changed.

    Args:
        given: what the dense block is given of a few samples, and the compressed one.
        shifts: by weight what can make good a shift of its outputs (`tenfold.statistics.shifts.shiftable`).
    """
    theirs, own = (nn.ModuleList(block.of(model)) for model in (dense, small))
    one, places = apart(copied(theirs))
    other, ours = apart(plain(copied(own), theirs))
    tied = shared(dense) | shared(small)
    found: dict[nn.Module, Solvable] = {}
    for name, (child, applied) in places.items():
        held = held_by(own.get_submodule(applied.site.places[0].module), applied)
        twin = own_numbers(ours[name][0], applied.kind) if name in ours else None
        if held is None or twin is None or applied.kind.reads_rows or tied & set(parameters(held)):
            continue
        full = network_name(block, name)
        mend = None if full not in shifts else mend_of(block, shifts[full], theirs, own, other)
        weight = applied.site.weight(theirs)
        found[child] = Solvable(full, applied, child, ours[name][0], weight, held, twin, mend)
    return Twins(one, other, ordered(block, one, other, found, given))


def ordered(
    block: Block, dense: nn.ModuleList, ours: nn.ModuleList, found: Mapping[nn.Module, Solvable], given: Sequence[Given]
) -> list[Solvable]:
    """Weights in the order of their calls, with the sums that their outputs go into where both blocks have the same."""
    here = {weight.ours: weight for weight in found.values()}
    try:
        one = watched(dense, found, lambda: through(list(dense), given[0]))
        other = watched(ours, here, lambda: through(list(ours), given[1]))
    except FAILURES as error:
        log.warning("block %s: its operations cannot be watched (%s), so %s", block.name, error, PLAINLY)
        return [here[child] for child in called(here, lambda: through(list(ours), given[1]))]
    if one.count != other.count:
        log.warning("block %s: its operations depend on its inputs, so %s", block.name, PLAINLY)
        return [here[child] for child in other.calls]
    return [replace(here[child], sum=one.found.get(here[child].dense)) for child in other.calls]


def apart(model: nn.Module) -> tuple[nn.ModuleList, dict[str, tuple[nn.Module, Applied]]]:
    """A block taken apart, and its weights that are applied in one place, by name."""
    found = taken_apart(model.eval().requires_grad_(requires_grad=False))
    assert isinstance(found.model, nn.ModuleList)
    return found.model, {
        place.site.name: (child, place)
        for child, place in found.alone.items()
        if len(place.site.places) == 1 and is_full(place.groups, joint_features(place))
    }


def joint_features(place: Applied) -> int:
    """Of inputs and outputs together."""
    return place.features(place.input_axes) + place.features(place.output_axes)


# ---- compressed layers as dense modules
def plain(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """A compressed block, changed in place, with dense modules for layers, where these can hold their weights."""
    swaps: dict[nn.Module, nn.Module] = {}
    for name, module in reachable(ours):
        if isinstance(module, Layer) and (made := densified(module, theirs.get_submodule(name))) is not None:
            swaps[module] = made
    return swapped(ours, swaps)


def densified(layer: Layer, like: nn.Module) -> nn.Module | None:
    """A dense module with the numbers of a layer; None where it computes a weight from others, or holds it narrower."""
    made, state, kind = copied(like), layer.state_dict(), type(layer)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if name in state:
                tensor.copy_(state[name])
        for name in layer.sizes:
            held, numbers = layer.held(name), numbers_of(made, kind, name)
            if numbers is None:
                return None
            numbers.copy_(held.in_axes() if isinstance(held, FactoredWeight) else held.reshape(numbers.shape))
    return made


def numbers_of(module: nn.Module, kind: type[Layer], weight: str) -> Tensor | None:
    """The very numbers of a dense weight in its axes; None where the weight is computed."""
    found = kind.dense_weight(module, weight)
    storages = {p.untyped_storage().data_ptr() for p in module.parameters()}
    return found if found.untyped_storage().data_ptr() in storages else None


def own_numbers(module: nn.Module, kind: type[Layer]) -> Tensor | None:
    """The same of a module that applies one weight and no other."""
    (name,) = kind.axes(module)
    return numbers_of(module, kind, name)


def held_by(module: nn.Module, applied: Applied) -> FactoredWeight | Tensor | None:
    """A weight as the compressed network has it: the cores, or the very numbers in their axes; None if computed."""
    place = applied.site.places[0]
    if not isinstance(module, Layer):
        return numbers_of(module, place.kind, place.weight)
    held = module.held(place.weight)
    return held if isinstance(held, FactoredWeight) else held.detach().reshape(tuple(applied.site.axes.values()))


def parameters(held: FactoredWeight | Tensor) -> list[int]:
    """Where the numbers of a weight begin."""
    return [x.data_ptr() for x in (held.cores if isinstance(held, FactoredWeight) else [held])]


def shared(model: nn.Module) -> set[int]:
    """Where the parameters begin that several modules hold."""
    every = Counter(p.data_ptr() for module in model.modules() for p in module._parameters.values() if p is not None)
    return {place for place, count in every.items() if count > 1}


# ---- names
def network_name(block: Block, name: str) -> str:
    """The name in the network of something in the list of a block's modules."""
    number, _, rest = name.partition(".")
    return ".".join(filter(None, (block.modules[int(number)], rest)))


def mend_of(block: Block, name: str, theirs: nn.Module, own: nn.Module, twin: nn.Module) -> Mend | None:
    """What owns the mean, by its name in the network; None where it is in no module of the block."""
    for number, module in enumerate(block.modules):
        if not module or name.startswith(f"{module}."):
            rest = name.removeprefix(f"{module}." if module else "")
            dense, ours, here = (tensor_at(model, f"{number}.{rest}") for model in (theirs, own, twin))
            return Mend(dense, ours, here, 1 if rest.endswith("bias") else -1)
    return None


def tensor_at(model: nn.Module, name: str) -> Tensor:
    """A parameter or a buffer by its name."""
    owner, _, key = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(owner), key)
    return found.detach()
