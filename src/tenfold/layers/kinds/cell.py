"""`nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell`: one step at a call, both matrices through their stages."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from torch import Tensor, nn

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.products import matrix_chain
from tenfold.layers.recurrence import fed_back
from tenfold.layers.staged import Chain
from tenfold.layers.step import Pair, StepModule, cell_mode, torch_cell
from tenfold.network import Positions

WEIGHTS = ("weight_ih", "weight_hh")  # of the input and of the hidden state, (o, i), all gates stacked in `o`


class Cell(StepModule, Layer):
    """A cell whose two matrices are tensor networks or dense, each by itself."""

    replaces = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)

    def __init__(self, module: nn.RNNCellBase, weights: Mapping[str, FactoredWeight]) -> None:
        """Args: the dense module, whose biases, geometry and other weight are taken over; its weights in cores."""
        super().__init__(module)
        self.describe(cell_mode(module), module.input_size, module.hidden_size)
        self.bias = module.bias
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if name in weights:
                self.add_module(name, weights[name])
            else:
                self.register_parameter(name, parameter)
        self.chains = nn.ModuleList(matrix_chain(self.held(name)) for name in WEIGHTS)

    @classmethod
    def from_dense(cls, module: nn.Module, weights: Mapping[str, FactoredWeight]) -> Self:
        return cls(cast(nn.RNNCellBase, module), weights).train(module.training)

    @classmethod
    def axes(cls, module: nn.Module) -> dict[str, dict[str, int]]:
        cell = cast(nn.RNNCellBase, module)
        return {name: dict(zip("oi", getattr(cell, name).shape, strict=True)) for name in WEIGHTS}

    @classmethod
    def initial_deviation(cls, module: nn.Module, name: str) -> float:
        """Uniform, bound 1 / sqrt(hidden size), for both weights."""
        return float((3 * cast(nn.RNNCellBase, module).hidden_size) ** -0.5)

    @classmethod
    def error_gain(cls, name: str, positions: Positions, calls: int) -> float:
        return fed_back(positions, calls) if name == "weight_hh" else 1.0

    @classmethod
    def positions(cls, module: nn.Module, name: str, given: Sequence[Tensor], result: Tensor) -> tuple[Positions, int]:
        return {"tokens": (1, 1)}, given[0].shape[0] if given[0].ndim > 1 else 1

    @classmethod
    def apart(cls, module: nn.Module) -> tuple[nn.Module, Mapping[str, str]]:
        layer = cls.from_dense(module, {})
        return layer.around(layer.parts()), dict(zip(WEIGHTS, ("inputs", "hidden"), strict=True))

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """What torch's own cell takes and gives."""
        paired = self.mode == "LSTM"
        end = self.stepped(input, hx if hx is None else list(hx) if paired else [hx])
        return tuple(end) if paired else end[0]

    def gates(self, at: int, x: Tensor) -> Tensor:
        bias = getattr(self, ("bias_ih", "bias_hh")[at]) if self.bias else None
        y: Tensor = self.chains[at](x, self.tensors(WEIGHTS[at]), bias)
        return y

    def lower(self) -> nn.Module:
        """Torch's own module where both weights have one stage; else the same step around plain parts."""
        parts = self.parts()
        if all(isinstance(part, nn.Linear) for part in parts):
            return torch_cell(self, [cast(nn.Linear, part) for part in parts]).train(self.training)
        return self.around(parts)

    def around(self, parts: Sequence[nn.Module]) -> nn.Module:
        """The same step around plain parts."""
        build = LoweredLSTMCell if self.mode == "LSTM" else LoweredRNNCell
        return build(self, parts).train(self.training)

    def parts(self) -> list[nn.Module]:
        """Both matrices with their biases as plain modules."""
        biases = [self.bias_ih, self.bias_hh] if self.bias else [None, None]
        return [
            cast(Chain, chain).lower(self.tensors(name), cast(Any, bias))
            for chain, name, bias in zip(self.chains, WEIGHTS, biases, strict=True)
        ]


class LoweredCell(StepModule):
    """A cell around two plain modules."""

    def __init__(self, like: StepModule, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.describe(like.mode, like.input_size, like.hidden_size)
        self.inputs, self.hidden = parts

    def __getattr__(self, name: str) -> Any:
        part, _, which = name.partition("_")
        owner = {"ih": "inputs", "hh": "hidden"}.get(which)
        return super().__getattr__(name) if owner is None else getattr(getattr(self, owner), part)

    def gates(self, at: int, x: Tensor) -> Tensor:
        y: Tensor = self.inputs(x) if at == 0 else self.hidden(x)
        return y


class LoweredLSTMCell(LoweredCell):
    """An LSTM's cell, whose state is a pair."""

    def forward(self, input: Tensor, hx: Pair | None = None) -> Pair:
        """What torch's own cell takes and gives."""
        end = self.stepped(input, None if hx is None else [hx[0], hx[1]])
        return end[0], end[1]


class LoweredRNNCell(LoweredCell):
    """The cell of a GRU or of a plain recurrence, whose state is one tensor."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """What torch's own cell takes and gives."""
        return self.stepped(input, None if hx is None else [hx])[0]
