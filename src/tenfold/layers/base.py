"""`Layer`: one kind of module whose weights are tensor networks; `FactoredWeight`: one such weight."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tenfold.network import Positions, TensorNetwork


class FactoredWeight(nn.Module):
    """A weight as cores; calling it gives the tensors of its stages.

    With gradients they are built anew at each call, so that gradients reach the cores; without, they are built
    once and kept until a core changes.
    """

    def __init__(self, net: TensorNetwork, cores: Sequence[Tensor], partition: Sequence[Sequence[int]]) -> None:
        """Args: net; cores of its shapes (parameters are kept as they are, and so may be shared); stages."""
        super().__init__()
        self.net = net
        self.stages = net.stages(partition)
        self.builds = self.stages.builds()
        self.cores = nn.ParameterList(core if isinstance(core, nn.Parameter) else nn.Parameter(core) for core in cores)
        self.kept: tuple[tuple[Any, ...], list[Tensor], list[Tensor]] | None = None

    def forward(self) -> list[Tensor]:
        """Stage tensors (groups·new, summed, *window); the dense weight where there is one stage."""
        cores = list(self.cores)
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or any(core.is_inference() for core in cores):
            return self.stages.tensors(cores, self.builds)
        device = cores[0].device.type  # autocast decides the dtype in which stages are built
        key = (
            torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None,
            *(x for core in cores for x in (core.data_ptr(), core._version, core.dtype, core.device)),
        )
        if self.kept is None or self.kept[0] != key:
            held = [core.detach() for core in cores]  # so that no other tensor comes to lie at these addresses
            self.kept = key, held, self.stages.tensors(cores, self.builds)
        return self.kept[2]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what was kept is dropped."""
        self.kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"kept": None}

    @property
    def dtype(self) -> torch.dtype:
        """Of the cores; networks ask their layers' weights for it."""
        return next(self.cores.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Of the cores."""
        return next(self.cores.parameters()).device

    def weight(self) -> Tensor:
        """The dense weight in its axes."""
        return self.net.weight(list(self.cores))

    def extra_repr(self) -> str:
        return f"cores={['x'.join(map(str, s)) for s in self.net.shapes]}, stages={self.stages.partition}"


class Layer(nn.Module, ABC):
    """One kind of module: its weights as tensors with named axes, how stages meet its input, how they lower.

    Laws: at full rank the layer equals the module it was made from, in outputs and gradients, for every partition;
    `lower()` equals the layer in eval mode.
    """

    replaces: ClassVar[tuple[type[nn.Module], ...]]

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """Whether this module's weights may be replaced; those computed from others (norms, masks) may not."""
        own = all(module._parameters.get(name) is not None for name in cls.axes(module))
        return own and not parametrize.is_parametrized(module)

    @classmethod
    @abstractmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        """The weights of a dense module by attribute name, each with its axes and their sizes in the weight's order."""

    @classmethod
    def dense_weight(cls, module: nn.Module, name: str) -> Tensor:
        """A weight of a dense module with its named axes as dimensions."""
        weight: Tensor = getattr(module, name)
        return weight.detach().reshape(tuple(cls.axes(module)[name].values()))

    @classmethod
    @abstractmethod
    def positions(cls, module: nn.Module, given: Tensor, result: Tensor) -> Positions:
        """Positions of one sample before and after each axis's window, from an input and the output of the module.

        Axes without a window (the tokens of a linear layer) have the same number twice.
        """

    @classmethod
    @abstractmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> "Layer":
        """The layer that stands for a dense module, with factored weights; all else is the module's own."""

    @abstractmethod
    def lower(self) -> nn.Module:
        """Plain torch modules with the same outputs on batches, nothing shared with this layer."""
