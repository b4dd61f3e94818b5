"""`Layer`: one kind of module whose weights are tensor networks; `FactoredWeight`: one such weight."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tenfold.layers.computed import effective, origins
from tenfold.layers.plain import Numbers
from tenfold.layers.recurrence import Loop
from tenfold.layers.rows import Pick
from tenfold.layers.tensor_like import TensorLike
from tenfold.network import Count, Positions, Stages, TensorNetwork
from tenfold.quantization import Scheme

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number


@dataclass(frozen=True)
class Kept:
    """Stage tensors and what they were built from.

    Attributes:
        copies: of the cores, and of their scales.
        autocast: the dtype in which they were built, where autocast decided it.
    """

    tensors: list[Tensor]
    copies: list[Tensor]
    autocast: torch.dtype | None

    def holds(self, numbers: Sequence[Tensor], autocast: torch.dtype | None) -> bool:
        """Whether cores and scales are, bit for bit, what they were."""
        return autocast == self.autocast and all(map(same, numbers, self.copies))


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bits; NumPy finds out many times faster than `torch.equal`."""
    bits = BITS[one.itemsize]
    return one.dtype == other.dtype and np.array_equal(one.detach().view(bits).numpy(), other.view(bits).numpy())


class FactoredWeight(TensorLike, nn.Module):
    """A weight as cores; calling it gives the tensors of its stages, reading it as a tensor the dense weight.

    With gradients they are built anew at each call, so that gradients reach the cores. Without, on a CPU, they are kept
    beside copies of the cores until a core differs from its copy, however it was written to; a GPU would be waited for.

    A core with a scheme counts at the nearest numbers that its few bits have (`numbers`); gradients go straight through
    to the core, and to the scales.
    """

    def __init__(
        self,
        net: TensorNetwork,
        cores: Sequence[Tensor],
        partition: Sequence[Sequence[int]],
        schemes: Sequence[Scheme | None] = (),
        scales: Sequence[Tensor | None] = (),
    ) -> None:
        """Args: net; cores of its shapes (parameters are kept as they are, and so may be shared); stages; for each core
        its scheme, None where it has none, and its scales (parameters likewise); without schemes none has one."""
        super().__init__()
        self.net = net
        self.stages = Stages.of(net, partition)
        self.builds = self.stages.builds()
        self.cores = Numbers(map(parameter, cores))
        self.schemes = tuple(schemes)
        if self.schemes:
            self.scales = nn.ParameterDict({str(k): parameter(x) for k, x in enumerate(scales) if x is not None})
        self.kept: Kept | None = None

    @property
    def builds_anew(self) -> bool:
        """Whether a call builds the stage tensors: gradients are to reach the cores, or comparing them costs more."""
        return torch.compiler.is_compiling() or torch.is_grad_enabled() or self.device.type != "cpu"

    def forward(self) -> list[Tensor]:
        """Stage tensors (groups·new, summed, *window); the dense weight where there is one stage."""
        if self.builds_anew:
            return self.stages.tensors(self.numbers, self.builds)
        autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        held = list(self.parameters())
        if self.kept is None or not self.kept.holds(held, autocast):
            copies = [each.detach().clone() for each in held]
            self.kept = Kept(self.stages.tensors(self.numbers, self.builds), copies, autocast)
        return self.kept.tensors

    @property
    def numbers(self) -> list[Tensor]:
        """The cores as they count: on the grids of their schemes, where they have one."""
        return [
            self.cores[k] if scheme is None else scheme.learnt(self.cores[k], self.scales[str(k)])
            for k, scheme in enumerate(self.schemes or [None] * len(self.cores))
        ]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what was kept is dropped."""
        self.kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"kept": None}

    def __getattr__(self, name: str) -> Any:
        try:
            return nn.Module.__getattr__(self, name)
        except AttributeError:
            return super().__getattr__(name)

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.net.held_shape)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.cores.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.cores.parameters()).device

    @property
    def requires_grad(self) -> bool:
        return any(core.requires_grad for core in self.cores)

    def dense(self) -> Tensor:
        return self.net.as_held(self.in_axes())

    def in_axes(self) -> Tensor:
        """The dense weight in its axes. (Who looks for modules that have a `weight` is not to find this one.)"""
        return self.net.weight(self.numbers)

    @property
    def each_scale(self) -> list[nn.Parameter | None]:
        """For each core its scales; empty where none has a scheme."""
        return [self.scales[str(k)] if scheme else None for k, scheme in enumerate(self.schemes)]

    def mirrored(self) -> "FactoredWeight":
        """The weight of the transposed map (an output layer tied to an embedding) on the same parameters."""
        return FactoredWeight(
            self.net.mirrored(), list(self.cores)[::-1], self.stages.mirrored().partition,
            self.schemes[::-1], self.each_scale[::-1],
        )  # fmt: skip

    def extra_repr(self) -> str:
        bits = f", bits={[scheme.bits if scheme else 32 for scheme in self.schemes]}" if self.schemes else ""
        return f"cores={['x'.join(map(str, s)) for s in self.net.shapes]}, stages={self.stages.partition}{bits}"


def parameter(numbers: Tensor) -> nn.Parameter:
    """Numbers as a parameter; one is kept as it is."""
    return numbers if isinstance(numbers, nn.Parameter) else nn.Parameter(numbers)


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
    where the plan says so, and otherwise as the parameter that it was. The module's plain attributes (sizes, strides,
    whatever a network has put there) are the layer's, too.

    Laws: at full rank the layer equals the module it was made from, in outputs and gradients, for every partition;
    `lower()` equals the layer in eval mode.
    """

    replaces: ClassVar[tuple[type[nn.Module] | str, ...]]  # `package.module.Class` where it may not be installed
    takes_computed: ClassVar[bool] = False  # whether weights that are computed from others (norms, masks) are taken
    reads_rows: ClassVar[bool] = False  # whether it is given the numbers of a weight's rows, not features
    sizes: Mapping[str, Mapping[str, int]]  # what `axes` said of the dense module
    taken_over: list[str]  # plain attributes of the dense module, which go along when the layer is lowered

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.taken_over = [name for name in vars(module) if not name.startswith("_")]
        hand_on(module, self, self.taken_over)
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
    def loop(cls, module: nn.Module, name: str, positions: Positions) -> Loop | None:
        """How a weight is applied to the positions of one call where each waits for the one before; None: at once."""
        del module, name, positions
        return None

    @classmethod
    def error_gain(cls, name: str, positions: Positions, calls: int) -> float:
        """By how much a squared error of a weight counts for more, because what it gives comes back to it.

        Args: positions of one call, and the calls of one forward; empty and 0 where the network did not run.
        """
        del name, positions, calls
        return 1.0

    # ---- what they meet
    @classmethod
    def apart(cls, module: nn.Module) -> tuple[nn.Module, Mapping[str, str]]:
        """A module with the same outputs of which every weight is applied by a child that holds it alone.

        Returns: it, and the child's name by weight (empty: the module itself); of a weight that is not named, only the
            gradient can be watched. By default a module of one weight is that child.
        """
        names = list(cls.axes(module))
        return module, dict.fromkeys(names, "") if len(names) == 1 else {}

    @classmethod
    def input_rows(cls, module: nn.Module, x: Tensor, pick: Pick) -> tuple[Tensor, int] | None:
        """What the weight meets in an input: rows (samples, p, groups, k) over `input_axes`, and all positions.

        Whole numbers (samples, p) where rows of a table are read; None where a kind does not know.

        Args: pick: which of a sample's positions are looked at.
        """
        del module, x, pick
        return None

    @classmethod
    def output_rows(cls, module: nn.Module, y: Tensor, pick: Pick) -> tuple[Tensor, int] | None:
        """The same of an output, or of a gradient there: over all axes but groups and those of inputs."""
        del module, y, pick
        return None

    @classmethod
    def input_axes(cls, axes: Mapping[str, int]) -> tuple[str, ...]:
        """The axes of a weight over which an output is summed, in the order of rows' features."""
        return tuple(axis for axis in axes if axis not in ("g", "o"))

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


def lowered(layer: Layer) -> nn.Module:
    """A layer as plain modules, with the plain attributes that it took over from the dense module."""
    plain = layer.lower()
    hand_on(layer, plain, layer.taken_over)
    return plain


def hand_on(old: nn.Module, new: nn.Module, names: Sequence[str]) -> None:
    """Give a module attributes of the one whose place it takes, in place, but those that it has or works out itself."""
    has = {*vars(new), *new._parameters, *new._buffers, *new._modules}
    for name in names:
        if name in vars(old) and name not in has and not made_by(type(new), name):
            vars(new)[name] = vars(old)[name]


def made_by(kind: type[nn.Module], name: str) -> bool:
    """Whether a kind of module has a method or a property of this name that not every module has."""
    member = getattr(kind, name, None)
    return (callable(member) or isinstance(member, property)) and not hasattr(nn.Module, name)
