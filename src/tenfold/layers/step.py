"""One step of torch's recurrences and cells, around whatever gives the gates what they add up."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.layers.plain import Closed

State = list[Tensor]  # [h], or [h, c] of an LSTM; each (n, size), in a recurrence (units, n, size)
Pair = tuple[Tensor, Tensor]


def cell(mode: str, inputs: Tensor, hidden: Tensor, state: State) -> State:
    """The new state, from what the inputs and the hidden state add to the gates (.., gates·size).

    As in torch's own cells, gates are worked out in the place of their sums; what is given stays as it is.
    """
    if mode == "LSTM":
        i, f, g, o = torch.unsafe_chunk(inputs + hidden, 4, -1)
        kept = f.sigmoid_() * state[1].to(f.dtype)  # under autocast all is of the gates' dtype
        c = kept.addcmul_(i.sigmoid_(), g.tanh_())
        return [o.sigmoid_() * c.tanh(), c]
    if mode == "GRU":
        r, z, n = torch.unsafe_chunk(inputs, 3, -1)
        r_h, z_h, n_h = torch.unsafe_chunk(hidden, 3, -1)
        n = ((r + r_h).sigmoid_() * n_h).add_(n).tanh_()
        return [(state[0] - n).mul_((z + z_h).sigmoid_()).add_(n)]
    return [(inputs + hidden).tanh_() if mode == "RNN_TANH" else (inputs + hidden).relu_()]


class StepModule(Closed):
    """What torch's cells do around whatever gives the gates their inputs."""

    mode: str
    input_size: int
    hidden_size: int

    def describe(self, mode: str, input_size: int, hidden_size: int) -> None:
        """Take over the geometry of torch's module."""
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size

    @abstractmethod
    def gates(self, at: int, x: Tensor) -> Tensor:
        """What the input (0) or the hidden state (1) adds to the gates, (n, gates·size) or (gates·size,)."""

    def stepped(self, input: Tensor, state: State | None) -> State:
        """The state after a step, (n, size) or (size,), from zeros unless given.

        Raises: RuntimeError, as torch's does, for sizes that do not go together.
        """
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"{self.mode}: expected {self.input_size} features, got {input.shape[-1]}")
        empty = input.new_zeros(list(input.shape[:-1]) + [self.hidden_size])  # noqa: RUF005  (TorchScript)
        now = [empty, empty] if state is None else state
        for part in now:
            if part.shape != empty.shape:
                raise RuntimeError(f"{self.mode}: expected a hidden state of {list(empty.shape)}")
        return cell(self.mode, self.gates(0, input), self.gates(1, now[0]), now)

    def extra_repr(self) -> str:
        return f"{self.mode}, {self.input_size}, {self.hidden_size}"


STEP_MODULES: dict[str, type[nn.RNNCellBase]] = {
    "LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN_TANH": nn.RNNCell, "RNN_RELU": nn.RNNCell,
}  # fmt: skip


def cell_mode(module: nn.RNNCellBase) -> str:
    """The name by which torch knows the recurrence of a cell."""
    if isinstance(module, nn.RNNCell):
        return f"RNN_{module.nonlinearity.upper()}"
    return "LSTM" if isinstance(module, nn.LSTMCell) else "GRU"


def torch_cell(like: StepModule, gates: Sequence[nn.Linear]) -> nn.RNNCellBase:
    """Torch's own cell with the weights and biases of two linear modules."""
    inputs, hidden = gates
    options: dict[str, Any] = {"nonlinearity": like.mode[4:].lower()} if like.mode.startswith("RNN") else {}
    build = STEP_MODULES[like.mode]
    module = build(like.input_size, like.hidden_size, bias=inputs.bias is not None, device="meta", **options)
    module.weight_ih, module.weight_hh = inputs.weight, hidden.weight
    if inputs.bias is not None:
        module.bias_ih, module.bias_hh = inputs.bias, hidden.bias
    return module
