"""Stages applied one after the other: the forward and the lowering, once; layers with one such weight."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.plain import AddBias, StandIn, add_bias, rearrangements, with_batch
from tenfold.network import Build, Stage, Stages, TensorNetwork, every_stages


class Step(ABC):
    """What one stage does to an input, derived once from labels and geometry; no numbers.

    Attributes: groups: of its channels, each with a block of the tensor of its own.
    """

    groups: int

    def grouped(self, groups: int) -> Self:
        """The same in so many groups."""
        return cast(Self, replace(cast(Any, self), groups=groups))

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The stage on (n, channels, *positions), or (*lead, channels) for matrices."""

    @abstractmethod
    def module(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """The plain module, or sequence of modules, that does the same; the last of them has the numbers."""

    @abstractmethod
    def shape(self, given: int, made: int) -> tuple[int, ...]:
        """The shape of the stage's tensor for so many channels before and after."""

    def tensor(self, module: nn.Module) -> Tensor:
        """The stage's tensor, up to its shape, from the module with its numbers."""
        return cast(Tensor, module.weight)


@dataclass(frozen=True)
class ChainReader:
    """Finds the weight in the modules of a lowered chain; `places`: the one of each stage."""

    stages: Stages
    steps: tuple[Step, ...]
    places: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.stages.net.held_shape

    def read(self, plain: StandIn) -> Tensor:
        """The weight."""
        modules = map(plain.get_submodule, self.places)
        return self.stages.weight([step.tensor(module) for step, module in zip(self.steps, modules, strict=True)])


class Chain(nn.Module):
    """How one weight is applied to an input: a step for every stage, rearrangements between them; no numbers."""

    moves: nn.ModuleList  # what is rearranged before each stage and after the last; empty where there is one stage

    def __init__(
        self, steps: Sequence[Step], moves: Sequence[nn.Module], spatial: int, stages: Stages | None = None
    ) -> None:
        """Args:
        moves: identities where nothing is rearranged.
        spatial: window dimensions of the input.
        stages: None where the weight is dense, or the chain has not all of it.
        """
        super().__init__()
        self.steps, self.moves, self.spatial, self.stages = list(steps), nn.ModuleList(moves), spatial, stages
        self.rearranged = bool(moves) and not isinstance(moves[-1], nn.Identity)  # then the bias comes after

    @classmethod
    def of(cls, stages: Stages | None, step: Callable[[Stage | None], Step], spatial: int) -> "Chain":
        """Args:
        stages: None where the weight is dense.
        step: what a stage does; of None, the whole weight in one.
        spatial: window dimensions of the input; 0 for matrices.
        """
        if stages is None or stages.rebuilds:
            return cls([step(None)], [], spatial, stages)
        moves = [move or nn.Identity() for move in rearrangements(stages, spatial)]
        return cls([step(stage) for stage in stages.each], moves, spatial, stages)

    @property
    def head(self) -> "Chain":
        """All that comes before the last step."""
        return Chain(self.steps[:-1], list(self.moves)[:-1], self.spatial)

    def forward(
        self, x: Tensor, tensors: Sequence[Tensor], bias: Tensor | None, steps: Sequence[Step] | None = None
    ) -> Tensor:
        """The weight with these stage tensors on (n, channels, *positions), or (*lead, channels); bias (channels,).

        `steps`: for this call, in the place of the chain's own.
        """
        last = len(self.steps) - 1
        for k, (step, tensor) in enumerate(zip(steps or self.steps, tensors, strict=True)):
            x = self.moves[k](x) if self.moves else x
            x = step.apply(x, tensor, bias if k == last and not self.rearranged else None)
        if not self.rearranged:
            return x
        x = self.moves[-1](x)
        return x if bias is None else add_bias(x, bias, self.spatial)

    def lower(self, tensors: Sequence[Tensor], bias: Tensor | None) -> nn.Module:
        """The plain module, or sequence of modules, that does the same with these numbers."""
        last = len(self.steps) - 1
        parts: list[nn.Module] = []
        filled: list[nn.Module] = []  # one a step
        for k, (step, tensor) in enumerate(zip(self.steps, tensors, strict=True)):
            parts += [copy.deepcopy(self.moves[k])] if self.moves else []
            module = step.module(tensor, bias if k == last and not self.rearranged else None)
            parts += module if isinstance(module, nn.Sequential) else [module]
            filled.append(parts[-1])
        if self.rearranged:
            parts.append(copy.deepcopy(self.moves[-1]))
            parts += [AddBias(bias, self.spatial)] if bias is not None else []
        parts = [part for part in parts if not isinstance(part, nn.Identity)]
        if self.stages is None:
            return parts[0] if len(parts) == 1 else nn.Sequential(*parts)
        if len(parts) == 1 and self.steps[0].tensor(parts[0]) is parts[0].weight:
            return parts[0]
        plain = StandIn(*with_batch(parts, self.spatial))
        names = {module: name for name, module in plain.named_modules()}
        axes = self.stages.net.axes
        plain.columns = axes["i"] if self.spatial == 0 and next(iter(axes)) == "o" else 0
        plain.reader = ChainReader(self.stages, tuple(self.steps), tuple(names[module] for module in filled))
        return plain


@dataclass(frozen=True)
class Route:
    """One partition of a weight into stages, ready to be built and applied."""

    stages: Stages
    builds: tuple[Build, ...]
    chain: Chain


class Staged(Layer):
    """A layer of a factored `weight` and a `bias`; a kind of layer says what step a stage is.

    The plan's stages are those of evaluation, where stage tensors are kept. In training they are built at every call,
    and with few samples that may cost more than applying them: there the batch at hand decides.
    """

    takes_computed = True
    weight: FactoredWeight
    bias: nn.Parameter | None
    spatial: int  # window dimensions; 0 for matrices

    def __init__(self, module: nn.Module, weight: FactoredWeight) -> None:
        """Args: the dense module, whose bias and geometry are taken over; its weight in cores."""
        super().__init__(module)
        self.weight = weight
        self.register_parameter("bias", cast(nn.Parameter | None, module.bias))
        self.describe(module)
        self.chain = self.chain_of(weight.stages)
        self.routes: dict[int, Route] = {}  # by rows of the input, up to the next power of two

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(module, weights["weight"]).train(module.training)

    @abstractmethod
    def describe(self, module: nn.Module) -> None:
        """Take over the geometry of the dense module, and set `spatial`."""

    @abstractmethod
    def step(self, stage: Stage | None, net: TensorNetwork) -> Step:
        """What a stage of a network for the weight does; None: the whole weight in one."""

    def chain_of(self, stages: Stages) -> Chain:
        """How the weight is applied in these stages."""
        return Chain.of(stages, partial(self.step, net=stages.net), self.spatial)

    def rows(self, x: Tensor) -> int | None:
        """How many vectors an input is, where so few may come that building the stage tensors counts; else None."""
        del x
        return None

    def route(self, rows: int) -> Route:
        """The partition with the fewest multiply-adds for a batch in training; the plan's, if none has fewer."""
        size = rows.bit_length()
        if size not in self.routes:
            net, planned = self.weight.net, self.weight.stages
            best = min([planned, *every_stages(net)], key=lambda stages: stages.training_macs({}, 2**size))
            self.routes[size] = Route(best, best.builds(), self.chain_of(best))
        return self.routes[size]

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x) if self.weight.builds_anew and not torch.compiler.is_compiling() else None
        if rows is None:
            planned: Tensor = self.chain(x, self.weight(), self.bias)
            return planned
        route = self.route(rows)
        y: Tensor = route.chain(x, route.stages.tensors(self.weight.numbers, route.builds), self.bias)
        return y

    def lower(self) -> nn.Module:
        return self.chain.lower(self.weight(), self.bias).train(self.training)
