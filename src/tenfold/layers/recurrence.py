"""What torch's recurrences do around their weights: inputs of every form, layers and directions."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from tenfold.layers.plain import Closed
from tenfold.layers.step import Pair, State, cell
from tenfold.layers.tensor_like import Rebuilt
from tenfold.network import Positions

Applied = Callable[[Tensor], Tensor]
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
MOST_STEPS = 16  # that an error is taken to last; assumed where nobody knows the length of a sequence
ONE_UNIT = {"num_layers": 1, "batch_first": False, "bidirectional": False}
MODULES: dict[str, type[nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN_TANH": nn.RNN, "RNN_RELU": nn.RNN}
KERNELS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu,
}  # fmt: skip


class Recurrence(Closed):
    """Layers in one or two directions over sequences; each direction of each layer is a unit.

    Inside, a sequence is (steps, n, features), or packed: (tokens, features) with the batch size of every step.
    """

    __jit_unused_properties__: ClassVar = ["suffixes"]
    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    def describe(self, module: Any) -> None:
        """Take over the geometry of torch's module, or of a recurrence."""
        self.mode, self.input_size, self.hidden_size = module.mode, module.input_size, module.hidden_size
        self.num_layers, self.bias, self.batch_first = module.num_layers, module.bias, module.batch_first
        self.dropout, self.bidirectional, self.proj_size = module.dropout, module.bidirectional, module.proj_size

    @property
    def suffixes(self) -> list[str]:
        """What the names of each unit's weights end with, in torch's order."""
        return suffixes(self)

    @property
    def directions(self) -> int:
        """2 where sequences are read backwards, too."""
        return 2 if self.bidirectional else 1

    @property
    def width(self) -> int:
        """Numbers that a unit puts out a step."""
        return self.proj_size if self.proj_size > 0 else self.hidden_size

    def flatten_parameters(self) -> None:
        """Nothing: weights in cores have no one block of memory. Networks call it on torch's modules."""

    def packed(self, given: PackedSequence, state: State | None) -> tuple[PackedSequence, State]:
        """Packed sequences, and the state (None: zeros) of their samples: the same of what comes out."""
        x, sizes, order, back = given
        before = self.started(state, x, int(sizes[0]))
        y, end = self.over(x, sizes, samples(before, order))
        return PackedSequence(y, sizes, order, back), samples(end, back)

    def padded(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The same of sequences in one tensor, as `batch_first` says, or of a single one without a batch."""
        if x.dim() == 2:
            before = None if state is None else [part.unsqueeze(1) for part in state]
            y, end = self.over(x.unsqueeze(1), None, self.started(before, x, 1))
            return y.squeeze(1), [part.squeeze(1) for part in end]
        if x.dim() != 3:
            raise ValueError(f"{self.mode}: expected input to be 2D or 3D, got {x.dim()}D instead")
        x = x.transpose(0, 1) if self.batch_first else x
        y, end = self.over(x, None, self.started(state, x, x.shape[1]))
        return y.transpose(0, 1) if self.batch_first else y, end

    def started(self, state: State | None, x: Tensor, n: int) -> State:
        """The state before the first step, zeros unless given.

        Raises: RuntimeError, as torch's module does, for sizes that its kernels do not check.
        """
        if x.shape[-1] != self.input_size:
            raise RuntimeError(f"{self.mode}: expected {self.input_size} features, got {x.shape[-1]}")
        widths = [self.width, self.hidden_size] if self.mode == "LSTM" else [self.width]
        units = self.directions * self.num_layers
        if state is None:
            return [torch.zeros(units, n, width, dtype=x.dtype, device=x.device) for width in widths]
        for part, width in zip(state, widths):  # noqa: B905  (TorchScript)
            if list(part.shape) != [units, n, width]:
                wanted = units, n, width
                raise RuntimeError(f"{self.mode}: expected a hidden state of {wanted}, got {list(part.shape)}")
        return state

    def over(self, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        """All units on a sequence and a state; the last layer's outputs, and the state of every unit in the end."""
        ends: list[State] = []
        for layer in range(self.num_layers):
            outputs: list[Tensor] = []
            for way in range(self.directions):
                at = len(ends)
                y, end = self.unit(at, x if way == 0 else backwards(x, sizes), sizes, [s[at : at + 1] for s in state])
                outputs.append(y if way == 0 else backwards(y, sizes))
                ends.append(end)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            x = functional.dropout(x, self.dropout, self.training) if layer < self.num_layers - 1 else x
        return x, [torch.cat([end[k] for end in ends]) for k in range(len(state))]

    @abstractmethod
    def unit(self, at: int, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        """One unit, forwards, on a state (1, n, size): its outputs, its state in the end."""

    def extra_repr(self) -> str:
        words = [f"{self.input_size}, {self.hidden_size}"]
        words += [f"proj_size={self.proj_size}"] if self.proj_size else []
        words += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        words += [f"dropout={self.dropout}"] if self.dropout else []
        words += [f"{name}={value}" for name in ("bias", "batch_first", "bidirectional") if
                  (value := getattr(self, name)) != (name == "bias")]  # fmt: skip
        return ", ".join([self.mode, *words])


def fed_back(positions: Positions, calls: int) -> float:
    """Over how many steps the squared error of a recurrent matrix adds up, where no statistics say what it costs: all,
    until gates forget it.
    """
    steps = calls * positions["tokens"][1] if positions else MOST_STEPS
    return float(min(max(steps, 1), MOST_STEPS))


def suffixes(module: Any) -> list[str]:
    """What the names of each unit's weights end with, in torch's order, of torch's module or a recurrence."""
    ways = ("", "_reverse") if module.bidirectional else ("",)
    return [f"l{layer}{way}" for layer in range(module.num_layers) for way in ways]


def samples(state: State, order: Tensor | None) -> State:
    """The state with its samples in this order."""
    return state if order is None else [part.index_select(1, order) for part in state]


def backwards(x: Tensor, sizes: Tensor | None) -> Tensor:
    """Every sequence from its own end; packed ones stay packed."""
    if sizes is None:
        return x.flip(0)
    there = sizes[:, None] > torch.arange(int(sizes[0]))  # (steps, n)
    step, sample = there.nonzero().unbind(1)  # in the order in which tokens are packed
    begins = sizes.cumsum(0) - sizes
    return x[(begins[there.sum(0)[sample] - 1 - step] + sample).to(x.device)]


@contextmanager
def differentiable(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Recurrences in eval mode by kernels that gradients pass through: of cuDNN's they do in training mode only."""
    recurs = any(isinstance(part, nn.RNNBase | Recurrence) for module in modules for part in module.modules())
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and not (recurs and torch.is_grad_enabled())
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def kernel(
    mode: str,
    x: Tensor,
    sizes: Tensor | None,
    state: State,
    weights: list[Tensor],
    *,
    bias: bool,
    layers: int = 1,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
) -> tuple[Tensor, State]:
    """Torch's own recurrence with these weights."""
    hx = state if mode == "LSTM" else state[0]
    options = (bias, layers, dropout, training, bidirectional)
    y, *end = (
        KERNELS[mode](x, hx, weights, *options, False) if sizes is None
        else KERNELS[mode](x, sizes, hx, weights, *options)
    )  # fmt: skip
    return y, end


@dataclass(frozen=True)
class Loop:
    """That a matrix is applied step after step, each waiting for the one before, and what else a step does.

    Attributes:
        steps: of a sequence.
        mode: of torch's kernel, which does a whole sequence with the matrix in one; empty where it has no faster way.
    """

    steps: int
    mode: str

    def whole(self, gates: Tensor, state: Tensor) -> tuple[Tensor, State]:
        """A sequence in torch's kernel.

        Args: zeros; gates (n, gates·size), state (n, size): of their sizes, number type and device.
        """
        o, i = gates.shape[1], state.shape[1]
        weights = [gates.new_zeros(shape) for shape in ((o, 1), (o, i), (o,), (o,))]
        return kernel(
            self.mode, state.new_zeros(self.steps, len(state), 1), None, [state[None], state[None]], weights, bias=True
        )

    def around(self, gates: Tensor, state: Tensor) -> State:
        """A step but for its matrix."""
        return cell(self.mode, gates, gates, [state, state])


# ---- one unit step by step, in words that TorchScript knows
class Steps(nn.Module):
    """One unit step by step, around whatever applies its recurrent matrix (`hidden`) and its projection."""

    if TYPE_CHECKING:  # TorchScript would take them for types of its own
        hidden: Applied
        projection: Applied | None

    def __init__(self, mode: str, hidden: Applied, projection: Applied | None) -> None:
        """Args: what a matrix makes of a state (n, size); lowered, plain modules."""
        super().__init__()
        self.mode, self.hidden, self.projection = mode, hidden, projection

    def forward(self, gates: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        """From what inputs add to the gates, (steps, n, gates·size) or packed: the outputs, and the last state."""
        now = [part[0] for part in state]
        outputs: list[Tensor] = []
        if sizes is None:
            for inputs in gates.unbind(0):
                now = self.step(inputs, now)
                outputs.append(now[0])
            return torch.stack(outputs), [part.unsqueeze(0) for part in now]
        counts: list[int] = sizes.tolist()
        for inputs in torch.split(gates, counts):
            n = inputs.shape[0]  # samples that have this step; the others have ended
            new = self.step(inputs, [part[:n] for part in now])
            outputs.append(new[0])
            now = [torch.cat([part, old[n:]]) for part, old in zip(new, now)]  # noqa: B905  (TorchScript)
        return torch.cat(outputs), [part.unsqueeze(0) for part in now]

    def step(self, inputs: Tensor, state: State) -> State:
        """One step on a state (n, size)."""
        new = cell(self.mode, inputs, self.hidden(state[0]), state)
        if self.projection is None:
            return new
        return [self.projection(new[0]), new[1]]


# ---- lowered
class LoweredRecurrence(Recurrence):
    """A recurrence of plain modules: for every unit what comes before it; `Steps`, or torch's module of one layer."""

    __constants__: ClassVar = ["paired"]
    paired: bool  # whether the state is a pair

    def __init__(self, like: Recurrence, before: Sequence[nn.Module], units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.describe(like)
        self.before, self.units = nn.ModuleList(before), nn.ModuleList(units)

    def __getattr__(self, name: str) -> Any:
        part, _, suffix = name.partition("_l")
        if part not in PARTS or f"l{suffix}" not in self.suffixes:
            return super().__getattr__(name)
        return self.part(part, self.suffixes.index(f"l{suffix}"))

    def part(self, part: str, at: int) -> Any:
        """A weight or a bias of a unit, as torch's own module has it."""
        before, run = self.before[at], self.units[at]
        if isinstance(run, Steps):
            kind, _, which = part.partition("_")
            return getattr({"ih": before, "hh": run.hidden, "hr": run.projection}[which], kind)
        last: nn.Parameter = getattr(run, f"{part}_l0")
        if part != "weight_ih" or not list(before.parameters()):
            return last
        shape = last.shape[0], self.input_size if at < self.directions else self.directions * self.width
        one = torch.eye(shape[1], dtype=last.dtype, device=last.device)
        return Rebuilt(
            shape, last.dtype, last.device, last.requires_grad, lambda: functional.linear(before(one), last).mT
        )

    def unit(self, at: int, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        for k, (before, run) in enumerate(zip(self.before, self.units)):  # noqa: B905  (TorchScript)
            if k == at:
                x = before(x)
                if not hasattr(run, "batch_first"):  # `Steps`
                    y, end = run(x, sizes, state)
                    return y, end
                hx = (state[0], state[1]) if self.paired else state[0]
                if sizes is None:
                    y, end = run(x, hx)
                else:
                    packed, end = run(PackedSequence(x, sizes, None, None), hx)
                    y = packed.data
                return y, [end[0], end[1]] if self.paired else [end]
        raise IndexError(at)


class LoweredLSTM(LoweredRecurrence):
    """An LSTM, whose state is a pair."""

    paired = True

    @overload
    @torch._jit_internal._overload_method
    def forward(self, input: Tensor, hx: Pair | None = None) -> tuple[Tensor, Pair]: ...

    @overload
    @torch._jit_internal._overload_method
    def forward(self, input: PackedSequence, hx: Pair | None = None) -> tuple[PackedSequence, Pair]: ...

    def forward(self, input: Any, hx: Any = None) -> Any:
        state = None if hx is None else [hx[0], hx[1]]
        if isinstance(input, PackedSequence):
            packed, end = self.packed(input, state)
            return packed, (end[0], end[1])
        else:  # (TorchScript looks at one of the two)
            y, end = self.padded(input, state)
            return y, (end[0], end[1])


class LoweredRNN(LoweredRecurrence):
    """A GRU or a plain recurrence, whose state is one tensor."""

    paired = False

    @overload
    @torch._jit_internal._overload_method
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    @overload
    @torch._jit_internal._overload_method
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

    def forward(self, input: Any, hx: Any = None) -> Any:
        state = None if hx is None else [hx]
        if isinstance(input, PackedSequence):
            packed, end = self.packed(input, state)
            return packed, end[0]
        else:  # (TorchScript looks at one of the two)
            y, end = self.padded(input, state)
            return y, end[0]


def torch_module(like: Recurrence, weights: Sequence[Tensor], **geometry: Any) -> nn.RNNBase:
    """Torch's own module with these numbers, its geometry that of a recurrence where none is given."""
    kept = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "dropout", "proj_size")
    options: dict[str, Any] = {name: getattr(like, name) for name in kept} | geometry
    options |= {"nonlinearity": like.mode[4:].lower()} if like.mode.startswith("RNN") else {}
    idle = {"proj_size"} if not like.proj_size else set()  # LSTMs alone have it
    idle |= {"dropout"} if options["num_layers"] == 1 else set()  # it stands between layers
    module = MODULES[like.mode](**{name: options[name] for name in options if name not in idle}, device="meta")
    for (name, _), weight in zip(list(module.named_parameters()), weights, strict=True):
        setattr(module, name, nn.Parameter(weight.detach().clone()))
    return module
