"""Experts of a mixture, held in parameters of three dimensions: one weight an expert, under one batched label."""

import math
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.network import GROUPS, Count, Positions, Stages


class Bank(FactoredWeight):
    """The weights of all experts as one: read as a tensor, (num_experts, m, n)."""

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.net.axes.values())

    def dense(self) -> Tensor:
        return self.in_axes()


class Experts(Layer):
    """A module of anyone's that says its `num_experts` and holds weights (num_experts, m, n), some in cores.

    What runs is the module's own code, which sees rebuilt weights in the place of its parameters: whether it goes
    through experts one by one or multiplies all at once is its own affair. Cores save storage, not multiply-adds.
    """

    replaces = ()

    def __init__(self, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> None:
        """Args: the dense module, whose code, attributes and other parameters are taken over; its weights in cores."""
        super().__init__(module)
        sizes = self.sizes
        vars(self).update(copied(vars(module)))
        self.sizes, self.code, self.built = sizes, type(module), dict[str, Tensor]()
        self.layers_own = {*vars(self), "layers_own"} - vars(module).keys()  # attributes that are the layer's alone
        for name, weight in weights.items():
            del self._parameters[name]
            self._modules[name] = Bank(
                weight.net, list(weight.cores), weight.stages.partition, weight.schemes, weight.each_scale
            )

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        return bool(banks(module)) and not any(True for child in module.children() for _ in child.parameters())

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(module, weights)

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        return {name: dict(zip((GROUPS, "o", "i"), weight.shape, strict=True)) for name, weight in banks(module)}

    @classmethod
    def objection(cls, name: str, stages: Stages) -> str | None:
        return None if stages.rebuilds else "experts are applied by code of their own, so their weight has one stage"

    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        """Rows that go through an expert: every choice of the router, or every row through every expert."""
        chosen = next((x for x in given if not x.is_floating_point()), None)
        every = given[0].numel() // given[0].shape[-1] * int(cast(Any, module).num_experts)
        rows = every if chosen is None else chosen.numel()
        return {"tokens": (rows, rows)}, 1

    @classmethod
    def dense_macs(cls, name: str, axes: Mapping[str, int], positions: Positions) -> int:
        return axes["o"] * axes["i"] * math.prod(after for _, after in positions.values())

    @classmethod
    def mac_count(cls, name: str, stages: Stages, positions: Positions) -> Count:
        return Count(((cls.dense_macs(name, stages.net.axes, positions), ()),))

    @classmethod
    def apart(cls, module: nn.Module) -> tuple[nn.Module, Mapping[str, str]]:
        """The module itself, whose code alone knows which rows meet which expert."""
        return module, {}

    def held(self, name: str) -> FactoredWeight | Tensor:
        return cast("FactoredWeight | Tensor", self._modules.get(name, self._parameters.get(name)))

    def dense(self, name: str) -> Tensor:
        """A weight in cores as the parameter that it stands for."""
        return self.tensors(name)[0].reshape(tuple(self.sizes[name].values()))

    @contextmanager
    def rebuilt(self) -> Iterator[None]:
        """Inside, every weight in cores is built once."""
        self.built = {name: self.dense(name) for name in self.sizes if name in self._modules}
        try:
            yield
        finally:
            self.built = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's own code takes and gives."""
        with self.rebuilt():
            return self.code.forward(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Weights, inside a forward as tensors, and what the module's class has."""
        own = vars(self)
        if name in own.get("built", ()):
            return own["built"][name]
        try:
            return super().__getattr__(name)
        except AttributeError:
            member = getattr(own.get("code", nn.Module), name)
            return types.MethodType(member, self) if isinstance(member, types.FunctionType) else member

    def lower(self) -> nn.Module:
        """The module as it was, with rebuilt weights."""
        plain = self.code.__new__(self.code)
        vars(plain).update(copied({name: value for name, value in vars(self).items() if name not in self.layers_own}))
        for name in self.sizes:
            if name in plain._modules:
                del plain._modules[name]
                plain._parameters[name] = nn.Parameter(self.dense(name).detach().clone())
        return plain


def copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a module for another, which can exchange its parts by itself."""
    tables = ("_parameters", "_buffers", "_modules")
    return {name: value.copy() if name in tables else value for name, value in attributes.items()}


def banks(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The weights of all experts that a module holds, (num_experts, m, n) each; none where it does not say how many."""
    count = vars(module).get("num_experts")
    own = [(name, p) for name, p in module._parameters.items() if p is not None and p.ndim == 3 and len(p) == count]
    return own if isinstance(count, int) and count > 1 else []
