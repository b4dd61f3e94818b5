"""`Pace`: how long one weight takes on a clock, dense and in stages."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tenfold.layers import FactoredWeight, kind_of
from tenfold.layers.plain import rearrangements
from tenfold.layers.recurrence import Loop
from tenfold.layers.sliding import AXES
from tenfold.layers.staged import Staged, Step
from tenfold.measure import Clock
from tenfold.measure.clock import WHOLE, Array
from tenfold.measure.stage import Form
from tenfold.network import GROUPS, Labels, Positions, Stage, Stages, TensorNetwork, backwards, input_labels
from tenfold.network.tensor_network import Fold
from tenfold.surgery import Site
from tenfold.surgery.sites import Place


@dataclass(frozen=True, eq=False)
class Applier:
    """A module that applies a weight, stage by stage: in one forward, so often, at these positions of one sample.

    `loop`: where it does so step after step.
    """

    clock: Clock
    layer: Staged
    positions: Positions
    mirrored: bool
    dtype: torch.dtype
    loop: Loop | None = None

    @property
    def axes(self) -> Mapping[str, int]:
        """Of the weight, as this module has it."""
        return self.layer.sizes["weight"]

    @cached_property
    def rows(self) -> int:
        """Samples of one call: positions that are no window's among them."""
        others = (after for axis, (_, after) in self.positions.items() if axis not in self.windows)
        return self.clock.batch * math.prod(others) // self.steps

    @property
    def steps(self) -> int:
        """How often it takes rows in one call."""
        return 1 if self.loop is None else self.loop.steps

    @property
    def windows(self) -> Labels:
        """The axes along which the module slides."""
        return AXES[self.layer.spatial] if self.layer.spatial else ()

    def form(self, step: Step, ahead: Labels, given: int = 1, made: int = 1) -> Form:
        """A stage of which the windows of some axes are still to come, its own among them."""
        at = [self.positions[axis][0 if axis in ahead else 1] for axis in self.windows]
        return Form(step, given, made, self.rows, tuple(at), self.dtype)

    @cached_property
    def dense_form(self) -> Form:
        """The whole weight in one."""
        net = alone(self.axes)
        groups = self.axes.get(GROUPS, 1)
        step = self.layer.step(None, net)
        return self.form(step, self.windows, groups * self.axes["i"], groups * self.axes["o"])

    @property
    def plain(self) -> Step:
        """A stage without a window, of one group."""
        net = alone({"i": 1, "o": 1})
        return self.layer.step(Stages.of(net, [(0,)]).each[0], net)

    @cached_property
    def dense(self) -> float:
        """Seconds of one call of the whole weight; of a recurrent one, all that torch's kernel does."""
        loop = self.loop
        if loop is None or not loop.mode:
            return self.steps * self.clock.seconds(self.dense_form, WHOLE)
        return self.clock.timed(f"whole {self.looped}", lambda: [self.bound(loop.whole)], WHOLE)

    @cached_property
    def around(self) -> float:
        """Seconds of what a recurrence does in one step besides its stages."""
        loop = self.loop
        if loop is None or not loop.mode:
            return 0.0
        return self.clock.timed(f"around {self.looped}", lambda: [self.bound(loop.around)], WHOLE)

    @property
    def looped(self) -> str:
        """What a recurrence's times depend on, in words."""
        return f"{self.loop} {tuple(self.axes.values())} {self.rows} {self.dtype}"

    def bound(self, call: Callable[[Tensor, Tensor], object]) -> Callable[[], object]:
        """A call of something on gates and a state."""
        sizes = (self.axes[axis] for axis in ("o", "i"))
        gates, state = (torch.zeros(self.rows, n, dtype=self.dtype, device=self.clock.device) for n in sizes)
        return partial(call, gates, state)

    def seconds(self, stages: Stages, sizes: Mapping[str, Any], count: int) -> Array:
        """Seconds of one call in these stages, at so many sizes of the labels."""
        stages = stages.mirrored() if self.mirrored else stages
        if stages.rebuilds:
            return np.full(count, self.dense)
        total, ahead = np.full(count, self.around), self.windows
        moves = rearrangements(stages, self.layer.spatial)
        state = input_labels(stages.net)
        for stage, move in zip(stages.each, moves, strict=False):
            total += 0.0 if move is None else self.moved(state, sizes, ahead, count)
            total += self.stage(stage, stages.net, sizes, ahead, count)
            ahead = tuple(axis for axis in ahead if axis not in stage.window)
            state = (*stage.carried, *stage.channels[1])
        total += 0.0 if moves[-1] is None else self.moved(state, sizes, ahead, count)
        return self.steps * total

    def stage(self, stage: Stage, net: TensorNetwork, sizes: Mapping[str, Any], ahead: Labels, count: int) -> Array:
        """Seconds of one stage."""
        step = self.layer.step(stage, net).grouped(1)
        each = stage.groups, stage.summed, stage.new, stage.carried
        found = np.stack([whole(labels, sizes, count) for labels in each])
        varies = [any(x in net.bonds for x in labels) for labels in each]
        return self.clock.between(self.form(step, ahead), found, varies)

    def moved(self, state: Labels, sizes: Mapping[str, Any], ahead: Labels, count: int) -> Array:
        """Seconds to put the labels between two stages into another order."""
        places = math.prod(self.positions[axis][0 if axis in ahead else 1] for axis in self.windows)
        numbers = self.rows * places * whole(state, sizes, count)
        known = {int(n): self.clock.moved(int(n), self.dtype) for n in np.unique(2 ** np.ceil(np.log2(numbers)))}
        return np.array([known[int(2 ** np.ceil(np.log2(n)))] for n in numbers])


@dataclass(frozen=True, eq=False)
class Pace:
    """How long one weight takes in one forward on a clock, in all modules that apply it by stages.

    What others do with it (rebuild it, look it up) takes no longer in cores, and is left out.
    """

    appliers: tuple[Applier, ...]
    times: float

    @staticmethod
    def of(clock: Clock, model: nn.Module, site: Site, positions: Positions, times: float) -> "Pace":
        """Args: positions of one sample in one call; times: calls in one forward."""
        dtype = site.parameter(model).dtype
        layers = [(place, staged(model, place)) for place in site.places]
        return Pace(
            tuple(
                Applier(
                    clock,
                    layer,
                    backwards(positions) if place.mirrored else positions,
                    place.mirrored,
                    dtype,
                    place.kind.loop(model.get_submodule(place.module), place.weight, positions),
                )
                for place, layer in layers
                if layer is not None and positions
            ),
            times,
        )

    @cached_property
    def dense(self) -> float:
        """Seconds of the dense weight."""
        return self.times * sum(applier.dense for applier in self.appliers)

    def seconds(self, stages: Stages, sizes: Mapping[str, Any], count: int) -> Array:
        """Seconds in these stages, at so many sizes of the labels."""
        each = [applier.seconds(stages, sizes, count) for applier in self.appliers]
        return np.asarray(self.times * np.sum([np.zeros(count), *each], axis=0))


def staged(model: nn.Module, place: Place) -> Staged | None:
    """The layer that applies a weight alone, its numbers left out; None where no module does so in stages."""
    module, children = place.kind.apart(model.get_submodule(place.module))
    if place.weight not in children:
        return None
    child = module.get_submodule(children[place.weight])
    kind = kind_of(child)
    if kind is None or not issubclass(kind, Staged):
        return None
    net = alone(kind.axes(child)["weight"])
    empty = [torch.empty(shape, device="meta") for shape in net.shapes]
    return kind.from_dense(child, {"weight": FactoredWeight(net, empty, [(0,)])})


def alone(axes: Mapping[str, int]) -> TensorNetwork:
    """A weight as one core."""
    return TensorNetwork((tuple(axes),), dict(axes), dict(axes), tuple(Fold((axis,), (axis,)) for axis in axes))


def whole(labels: Labels, sizes: Mapping[str, Any], count: int) -> Any:
    """The product of labels' sizes, (count,)."""
    return np.broadcast_to(np.asarray(math.prod(sizes[x] for x in labels), np.int64), (count,))
