"""`Layer`: one kind of module whose weights are tensor networks; `FactoredWeight`: one such weight."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tenfold.layers.computed import effective, origins
from tenfold.network import Count, Positions, Stages, TensorNetwork


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

    @property
    def builds_anew(self) -> bool:
        """Whether a call builds the stage tensors, because gradients are to reach the cores, or a graph is taken."""
        return torch.compiler.is_compiling() or torch.is_grad_enabled() or any(c.is_inference() for c in self.cores)

    def forward(self) -> list[Tensor]:
        """Stage tensors (groups·new, summed, *window); the dense weight where there is one stage."""
        cores = list(self.cores)
        if self.builds_anew:
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

    @property
    def requires_grad(self) -> bool:
        """Whether some core is trained."""
        return any(core.requires_grad for core in self.cores)

    def weight(self) -> Tensor:
        """The dense weight in its axes."""
        return self.net.weight(list(self.cores))

    def mirrored(self) -> "FactoredWeight":
        """The weight of the transposed map (an output layer tied to an embedding) on the same parameters."""
        return FactoredWeight(self.net.mirrored(), list(self.cores)[::-1], self.stages.mirrored().partition)

    def extra_repr(self) -> str:
        return f"cores={['x'.join(map(str, s)) for s in self.net.shapes]}, stages={self.stages.partition}"


FLOAT8 = tuple(dtype for name, dtype in vars(torch).items() if name.startswith("float8"))


def unsuited(dtype: torch.dtype) -> str | None:
    """Why numbers of this type are not decomposed; None if they are."""
    if dtype.is_complex:
        return f"its numbers are complex ({str(dtype)[6:]}); real ones can be decomposed"
    if not dtype.is_floating_point:
        return f"its numbers are whole ({str(dtype)[6:]}), which cores cannot be; compress before quantising"
    return None


class Layer(nn.Module, ABC):
    """One kind of module: its weights as tensors with named axes, how stages meet its input, how they lower.

    A layer holds each weight under the attribute that it has in the module (dots in the name: in a child), in cores
    where the plan says so, and otherwise as the parameter that it was.

    Laws: at full rank the layer equals the module it was made from, in outputs and gradients, for every partition;
    `lower()` equals the layer in eval mode.
    """

    replaces: ClassVar[tuple[type[nn.Module] | str, ...]]  # `package.module.Class` where it may not be installed
    takes_computed: ClassVar[bool] = False  # whether weights that are computed from others (norms, masks) are taken
    sizes: Mapping[str, Mapping[str, int]]  # what `axes` said of the dense module
    hung: tuple[str, ...] = ()  # attributes that somebody put on the module

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.sizes = type(self).axes(module)

    # ---- a dense module and its weights
    @classmethod
    def refusal(cls, module: nn.Module) -> str | None:
        """Why the weights of this very module cannot be replaced, in words; None if they can."""
        for name in cls.axes(module):
            child, _, leaf = cls.stored(module, name).rpartition(".")
            owner = module.get_submodule(child)
            found = origins(owner, leaf)
            if leaf not in found and not (found and cls.takes_computed):
                return f"its '{leaf}' is computed from {' and '.join(found) or 'elsewhere'}"
            if reason := unsuited(next(iter(found.values())).dtype):
                return reason
        return None

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """Whether a module is of this kind by what it holds, whatever its type."""
        del module
        return False

    @classmethod
    @abstractmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        """The weights of a dense module by name, each with its axes and their sizes in the weight's order."""

    @classmethod
    def stored(cls, module: nn.Module, name: str) -> str:
        """The parameter that holds a weight, where several weights are one parameter; else the weight's own name."""
        del module
        return name

    @classmethod
    def dense_weight(cls, module: nn.Module, name: str) -> Tensor:
        """A weight of a dense module, as it is applied, with its named axes as dimensions; float8 as bfloat16."""
        child, _, leaf = name.rpartition(".")
        weight = effective(module.get_submodule(child), leaf)
        weight = weight.bfloat16() if weight.dtype in FLOAT8 else weight
        return weight.reshape(tuple(cls.axes(module)[name].values()))

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        """The standard deviation that torch draws a new weight with: uniform, bound 1 / sqrt(inputs of an output)."""
        axes = cls.axes(module)[name]
        return float((3 * math.prod(size for axis, size in axes.items() if axis not in ("o", "g"))) ** -0.5)

    @classmethod
    @abstractmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> "Layer":
        """The layer that stands for a dense module, with these weights in cores; all else is the module's own."""

    # ---- how its weights are applied
    @classmethod
    def objection(cls, name: str, stages: Stages) -> str | None:
        """Why this kind of layer cannot apply a weight in these stages; None if it can."""
        del name, stages
        return None

    @classmethod
    @abstractmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        """Where a weight was applied in one call: positions of one sample, and how many samples there were.

        Positions are those before and after each axis's window; without a window (tokens), the same number twice.

        Args: the module, dense or a layer; a weight of it; the tensors that it was given, and the first that came back.
        """

    @classmethod
    def dense_macs(cls, name: str, axes: Mapping[str, int], positions: Positions) -> int:
        """Multiply-adds of a dense weight for one sample with these positions."""
        del name
        return math.prod(axes.values()) * math.prod(after for _, after in positions.values())

    @classmethod
    def mac_count(cls, name: str, stages: Stages, positions: Positions) -> Count:
        """The same for a weight in cores, as a polynomial in the label sizes."""
        del name
        return stages.mac_count(positions)

    @classmethod
    def error_gain(cls, name: str, positions: Positions, calls: int) -> float:
        """By how much a squared error of a weight counts for more, because what it gives comes back to it.

        Args: positions of one call, and the calls of one forward; empty and 0 where the network did not run.
        """
        del name, positions, calls
        return 1.0

    @classmethod
    def other_macs(cls, module: nn.Module, given: Sequence[Tensor], result: Tensor) -> int:
        """Multiply-adds of one call that belong to no weight (attention's products)."""
        del module, given, result
        return 0

    # ---- the layer
    def held(self, name: str) -> "FactoredWeight | Tensor":
        """A weight as the layer has it: in cores, or the parameter that it was."""
        weight: FactoredWeight | Tensor = attrgetter(name)(self)
        return weight

    def tensors(self, name: str) -> list[Tensor]:
        """The stage tensors of a weight; where it is dense, the weight itself."""
        weight = self.held(name)
        return weight() if isinstance(weight, FactoredWeight) else [weight]

    @abstractmethod
    def lower(self) -> nn.Module:
        """Plain torch modules with the same outputs on batches, nothing shared with this layer."""
