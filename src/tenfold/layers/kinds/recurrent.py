"""`nn.LSTM`, `nn.GRU` and `nn.RNN`: input matrices applied to all steps at once, recurrent ones rebuilt once."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.products import Product, matrix_chain
from tenfold.layers.recurrence import (
    ONE_UNIT,
    Hidden,
    LoweredLSTM,
    LoweredRNN,
    Recurrence,
    Steps,
    TensorSteps,
    fed_back,
    kernel,
    suffixes,
    torch_module,
)
from tenfold.layers.staged import Chain
from tenfold.layers.step import State
from tenfold.network import Positions, Stages


class Recurrent(Recurrence, Layer):
    """A recurrence whose matrices (o, i), each with all its gates stacked in `o`, are tensor networks or dense.

    The input matrix `weight_ih_l0` meets all steps of its layer at once, through its stages. The recurrent matrix
    `weight_hh_l0` and the projection `weight_hr_l0` are applied step after step, and so are rebuilt once a sequence.
    What runs is torch's own kernel, with the input matrix's last stage in the place of the matrix; only where that
    stage is no plain product of all channels do the steps run one by one in Python.
    """

    replaces = (nn.LSTM, nn.GRU, nn.RNN)

    def __init__(self, module: nn.RNNBase, weights: Mapping[str, FactoredWeight]) -> None:
        """Args: the dense module, whose biases, geometry and other weights are taken over; its weights in cores."""
        super().__init__(module)
        self.describe(module)
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if name in weights:
                self.add_module(name, weights[name])
            else:
                self.register_parameter(name, parameter)
        chains = [matrix_chain(self.held(f"weight_ih_{suffix}")) for suffix in self.suffixes]
        self.in_kernel = [ends_plainly(chain) for chain in chains]  # whether its last step is; else none is
        self.before = nn.ModuleList(chain.head if ends_plainly(chain) else chain for chain in chains)
        self.whole = not any(cast(Chain, chain).steps for chain in self.before)  # all is in the kernel

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(cast(nn.RNNBase, module), weights).train(module.training)

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        parts = ("ih", "hh", "hr") if module.proj_size else ("ih", "hh")
        names = [f"weight_{part}_{suffix}" for suffix in suffixes(module) for part in parts]
        return {name: dict(zip("oi", getattr(module, name).shape, strict=True)) for name in names}

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        """Uniform, bound 1 / sqrt(hidden size), for every weight."""
        return float((3 * cast(nn.RNNBase, module).hidden_size) ** -0.5)

    @classmethod
    def objection(cls, name: str, stages: Stages) -> str | None:
        if name.startswith("weight_ih") or stages.rebuilds:
            return None
        return "a recurrent matrix is rebuilt once a sequence and applied step after step, so it has one stage"

    @classmethod
    def error_gain(cls, name: str, positions: Positions, calls: int) -> float:
        return 1.0 if name.startswith("weight_ih") else fed_back(positions, calls)

    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        x = given[0]
        tokens = x.numel() // cast(nn.RNNBase, module).input_size
        packed = len(given) > 1 and given[1].ndim == 1  # sequences of several lengths: counted together
        n = 1 if packed or x.ndim == 2 else x.shape[0 if cast(nn.RNNBase, module).batch_first else 1]
        return {"tokens": (tokens // n, tokens // n)}, n

    @classmethod
    def apart(cls, module: nn.Module) -> tuple[nn.Module, Mapping[str, str]]:
        layer = cls.from_dense(module, {})
        children: dict[str, str] = {}
        for at, suffix in enumerate(layer.suffixes):
            children |= {f"weight_ih_{suffix}": f"before.{at}", f"weight_hh_{suffix}": f"units.{at}.hidden"}
            children |= {f"weight_hr_{suffix}": f"units.{at}.projection"} if layer.proj_size else {}
        return layer.around([layer.stepped_unit(at) for at in range(len(layer.before))]), children

    # ---- forward
    def forward(self, input: Any, hx: Any = None) -> Any:
        """What torch's own module takes and gives."""
        paired = self.mode == "LSTM"
        state = hx if hx is None else list(hx) if paired else [hx]
        y, end = self.packed(input, state) if isinstance(input, PackedSequence) else self.padded(input, state)
        return y, tuple(end) if paired else end[0]

    def over(self, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        if not self.whole:
            return super().over(x, sizes, state)
        return kernel(
            self.mode, x, sizes, state, self.all_weights, bias=self.bias, layers=self.num_layers,
            dropout=self.dropout, training=self.training, bidirectional=self.bidirectional,
        )  # fmt: skip

    def unit(self, at: int, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        before, inputs = self.before[at], self.inputs(at)
        if self.in_kernel[at]:
            x = before(x, inputs[:-1], None)
            return kernel(self.mode, x, sizes, state, [inputs[-1], *self.rest(at)], bias=self.bias)
        first, hidden = self.split(at)
        return TensorSteps(self.mode, *hidden).forward(before(x, inputs, first), sizes, state)

    def inputs(self, at: int) -> list[Tensor]:
        """The stage tensors of a unit's input matrix."""
        return self.tensors(f"weight_ih_{self.suffixes[at]}")

    def rest(self, at: int) -> list[Tensor]:
        """All that a unit has besides its input matrix, in torch's order."""
        suffix = self.suffixes[at]
        biases = [getattr(self, f"bias_{part}_{suffix}") for part in ("ih", "hh")] if self.bias else []
        projection = self.tensors(f"weight_hr_{suffix}") if self.proj_size else []
        return [*self.tensors(f"weight_hh_{suffix}"), *biases, *projection]

    def split(self, at: int) -> tuple[Tensor | None, Hidden]:
        """The bias of a unit's input matrix; all that is applied step after step."""
        matrix, *rest = self.rest(at)
        projection = rest.pop() if self.proj_size else None
        first, second = rest or (None, None)
        return first, (matrix, second, projection)

    @property
    def all_weights(self) -> list[Tensor]:
        """What torch's own module holds, where every input matrix has one stage."""
        return [part for at in range(len(self.before)) for part in (*self.inputs(at), *self.rest(at))]

    # ---- lowering
    def lower(self) -> nn.Module:
        """Torch's own module where every weight has one stage; else a `LoweredLSTM` or `LoweredRNN` of plain parts."""
        if self.whole:
            return torch_module(self, self.all_weights).train(self.training)
        return self.around([self.lowered_unit(at) for at in range(len(self.before))])

    def around(self, each: Sequence[tuple[nn.Module, nn.Module]]) -> nn.Module:
        """The same around plain modules: what comes before every unit, and the unit."""
        build = LoweredLSTM if self.mode == "LSTM" else LoweredRNN
        return build(self, [before for before, _ in each], [unit for _, unit in each]).train(self.training)

    def lowered_unit(self, at: int) -> tuple[nn.Module, nn.Module]:
        """What comes before a unit, and the unit, as plain modules."""
        if not self.in_kernel[at]:
            return self.stepped_unit(at)
        *first, last = self.inputs(at)
        before = cast(Chain, self.before[at]).lower(first, None)
        return before, torch_module(self, [last, *self.rest(at)], **ONE_UNIT, input_size=last.shape[1])

    def stepped_unit(self, at: int) -> tuple[nn.Module, nn.Module]:
        """The same, every matrix in a module of its own."""
        first, hidden = self.split(at)
        before = matrix_chain(self.held(f"weight_ih_{self.suffixes[at]}"))
        return before.lower(self.inputs(at), first), Steps(self.mode, *hidden)


def ends_plainly(chain: Chain) -> bool:
    """Whether the last step of a matrix is one product of all channels, with nothing to rearrange after it."""
    return not chain.rearranged and cast(Product, chain.steps[-1]).groups == 1
