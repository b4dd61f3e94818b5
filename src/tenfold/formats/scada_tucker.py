"""SCADA-Tucker: ADA-Tucker with one core for a group of layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.fitting import Metric, shared_core
from tenfold.formats.ada_tucker import ADATucker, Several
from tenfold.formats.base import Axes, Format, Modes
from tenfold.formats.tucker import hub
from tenfold.network import Labels, TensorNetwork
from tenfold.protocols import TenfoldError


@dataclass(frozen=True)
class SCADATucker(Format):
    """One core for all layers of a group, factors of each layer's own (Zhong, Wei, Lin and Zhang 2018; METHODS B.3).

    Rows of a plan that name the same `group` share the core: it is stored, counted and trained once. They need the
    same order and the same ranks. A group of one is ADA-Tucker, which stands in where a planner chooses: it makes no
    groups.

    Attributes:
        order: as in ADA-Tucker.
        sweeps: joint sweeps at most (orthogonal iterations for a group of one).
        starts: random starts of the joint fit beside the one whose signs are aligned; the best goes on.
    """

    reshapes: ClassVar[bool] = True
    order: Several | None = None
    sweeps: Natural = 50
    starts: Positive = 10

    def alone(self) -> ADATucker:
        """The format of a group of one."""
        return ADATucker(self.order, self.sweeps, align=False)  # modes of all members alike

    def default_modes(self, axes: Axes) -> Modes:
        return self.alone().default_modes(axes)

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        return self.alone().core_labels(modes)

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return self.alone().fit(tensor, net, generator)

    def suit(self, axes: Axes, *, first: bool = False) -> Format | str:
        return ADATucker(self.order)

    def decompose_group(
        self,
        weights: Sequence[Tensor],
        nets: Sequence[TensorNetwork],
        metrics: Sequence[Metric | None],
        *,
        generator: torch.Generator,
    ) -> list[list[Tensor]]:
        if len(weights) == 1:
            return super().decompose_group(weights, nets, metrics, generator=generator)
        (root,) = self.shared_cores(nets)
        dense = [weight.detach().cpu().double() for weight in weights]
        tensors = [net.to_modes(each) for each, net in zip(dense, nets, strict=True)]
        found = [self.joint(tensors, nets, generator)]
        if any(metric is not None for metric in metrics):
            measures = [metric or Metric({}) for metric in metrics]
            each = list(zip(measures, nets, strict=True))
            white = [metric.whitened(tensor, net) for tensor, (metric, net) in zip(tensors, each, strict=True)]
            cores = self.joint(white, nets, generator)
            found.append([metric.unwhitened(own, net) for own, (metric, net) in zip(cores, each, strict=True)])
            found.sort(key=lambda cores: summed_error(dense, nets, measures, cores))
        core = found[0][0][root].to(weights[0].dtype).to(weights[0].device)
        return [
            [core if k == root else part.to(weight.dtype).to(weight.device) for k, part in enumerate(own)]
            for own, weight in zip(found[0], weights, strict=True)
        ]

    def joint(
        self, tensors: Sequence[Tensor], nets: Sequence[TensorNetwork], generator: torch.Generator
    ) -> list[list[Tensor]]:
        """Cores of all members, that at the hub in common."""
        return shared_core(tensors, nets, hub(nets[0]), starts=self.starts, sweeps=self.sweeps, generator=generator)

    def shared_cores(self, nets: Sequence[TensorNetwork]) -> tuple[int, ...]:
        if len(nets) == 1:
            return ()
        check_group(nets)
        return (hub(nets[0]),)


def summed_error(
    weights: Sequence[Tensor], nets: Sequence[TensorNetwork], metrics: Sequence[Metric], cores: Sequence[list[Tensor]]
) -> float:
    """Squared errors of the members, each as a share of what its own weight costs."""
    total = 0.0
    for weight, net, metric, own in zip(weights, nets, metrics, cores, strict=True):
        axes = tuple(net.axes)
        total += metric.squared_error(net.weight(own) - weight, axes) / (metric.squared_error(weight, axes) or 1.0)
    return total


def check_group(nets: Sequence[TensorNetwork]) -> None:
    """Refuse networks that cannot have one core."""
    root = hub(nets[0])
    for net in nets:
        own, first = net.shape(net.cores[hub(net)]), nets[0].shape(nets[0].cores[root])
        if hub(net) != root or net.cores[root] != nets[0].cores[root] or own != first:
            raise TenfoldError(f"a core of {own} cannot be one of {first}; give all layers of a group the same ranks.")
        if net.batched or not set(net.cores[root]) <= set(net.bonds):
            raise TenfoldError("layers of a group cannot be grouped convolutions, and all their bonds are cut.")
        for k, core in enumerate(net.cores):
            if k != root and net.size(x for x in core if x in net.bonds) > net.size(x for x in core if x in net.modes):
                raise TenfoldError(f"ranks {own} are above the size of a mode; the largest are those of all layers.")
