"""`nn.LSTM`, `nn.GRU` and `nn.RNN`: input matrices applied to all steps at once, recurrent ones step after step."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, cast

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tenfold.layers.base import FactoredWeight, Layer
from tenfold.layers.products import Product, matrix_chain
from tenfold.layers.recurrence import (
    ONE_UNIT,
    Applied,
    Loop,
    LoweredLSTM,
    LoweredRNN,
    Recurrence,
    Steps,
    fed_back,
    kernel,
    suffixes,
    torch_module,
)
from tenfold.layers.staged import Chain
from tenfold.layers.step import State
from tenfold.network import Build, Positions, Stages, TensorNetwork


class Recurrent(Recurrence, Layer):
    """A recurrence whose matrices (o, i), each with all its gates stacked in `o`, are tensor networks or dense.

    The input matrix `weight_ih_l0` meets all steps of its layer at once, through its stages; the recurrent matrix
    `weight_hh_l0` and the projection `weight_hr_l0` are applied step after step. Where these have one stage, torch's
    own kernel runs, with the input matrix's last stage in the place of the matrix. Where they have several, or that
    stage is no plain product of all channels, the steps run one by one in Python. Stages of theirs that would have to
    be built for one sequence (in training) are not worth that: they are rebuilt, and the kernel runs.
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
        self.before, self.hidden, self.projection = map(self.chains, ("ih", "hh", "hr"))
        self.in_kernel = [ends_plainly(cast(Chain, chain)) for chain in self.before]  # whether its last step can be
        self.heads = nn.ModuleList(cast(Chain, chain).head for chain in self.before)  # all that comes before the kernel
        self.whole = not any(cast(Chain, head).steps for head in self.heads)  # nothing does
        self.rebuilt = {
            name: one_stage(weight.net) for at in range(len(self.suffixes)) for name, weight in self.staged(at).items()
        }

    def chains(self, part: str) -> nn.ModuleList:
        """How the units apply a weight; empty where they have none."""
        names = [f"weight_{part}_{suffix}" for suffix in self.suffixes]
        return nn.ModuleList(matrix_chain(self.held(name)) for name in names if name in self.sizes)

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
    def loop(cls, module: nn.Module, name: str, positions: Positions) -> Loop | None:
        if name.startswith("weight_ih") or not positions:
            return None
        recurrence = cast(nn.RNNBase, module)  # of projections oneDNN knows nothing, and torch goes step by step, too
        return Loop(positions["tokens"][1], "" if recurrence.proj_size else recurrence.mode)

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
        return layer.around([layer.stepped(at, Chain.lower) for at in range(len(layer.before))]), children

    # ---- forward
    def forward(self, input: Any, hx: Any = None) -> Any:
        """What torch's own module takes and gives."""
        paired = self.mode == "LSTM"
        state = hx if hx is None else list(hx) if paired else [hx]
        y, end = self.packed(input, state) if isinstance(input, PackedSequence) else self.padded(input, state)
        return y, tuple(end) if paired else end[0]

    def over(self, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        if not self.whole or any(map(self.steps_now, range(len(self.before)))):
            return super().over(x, sizes, state)
        return kernel(
            self.mode, x, sizes, state, self.all_weights, bias=self.bias, layers=self.num_layers,
            dropout=self.dropout, training=self.training, bidirectional=self.bidirectional,
        )  # fmt: skip

    def unit(self, at: int, x: Tensor, sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
        if self.steps_now(at):
            before, run = self.stepped(at, bound)
            y, end = run(before(x), sizes, state)
            return y, end
        *first, last = self.inputs(at)
        return kernel(self.mode, self.heads[at](x, first, None), sizes, state, [last, *self.rest(at)], bias=self.bias)

    def again(self, at: int) -> list[str]:
        """The weights that a unit applies step after step."""
        return [f"weight_{part}_{self.suffixes[at]}" for part in (("hh", "hr") if self.proj_size else ("hh",))]

    def staged(self, at: int) -> dict[str, FactoredWeight]:
        """Those in several stages."""
        held = {name: self.held(name) for name in self.again(at)}
        return {
            name: weight
            for name, weight in held.items()
            if isinstance(weight, FactoredWeight) and not weight.stages.rebuilds
        }

    def steps_now(self, at: int) -> bool:
        """Whether a unit runs step by step: torch's kernel cannot take it, or its stages are there already."""
        kept = any(not weight.builds_anew for weight in self.staged(at).values())
        return kept or not self.in_kernel[at]

    def stepped(self, at: int, made: Callable[[Chain, list[Tensor], Tensor | None], Applied]) -> tuple[Applied, Steps]:
        """What comes before a unit, and the unit step by step, each matrix as `made` of tensors and bias."""

        def part(name: str, chains: nn.ModuleList, bias: Tensor | None) -> Applied:
            return made(cast(Chain, chains[at]), self.tensors(f"weight_{name}_{self.suffixes[at]}"), bias)

        first, second = self.biases(at) or (None, None)
        projection = part("hr", self.projection, None) if self.proj_size else None
        return part("ih", self.before, first), Steps(self.mode, part("hh", self.hidden, second), projection)

    def inputs(self, at: int) -> list[Tensor]:
        """The stage tensors of a unit's input matrix."""
        return self.tensors(f"weight_ih_{self.suffixes[at]}")

    def biases(self, at: int) -> list[Tensor]:
        """Of the input matrix and the recurrent one, if there are any."""
        return [getattr(self, f"bias_{part}_{self.suffixes[at]}") for part in ("ih", "hh")] if self.bias else []

    def rest(self, at: int) -> list[Tensor]:
        """All that a unit has besides its input matrix, in torch's order."""
        hidden, *projection = map(self.in_one, self.again(at))
        return [hidden, *self.biases(at), *projection]

    def in_one(self, name: str) -> Tensor:
        """A weight as one matrix."""
        if name not in self.rebuilt:
            return self.tensors(name)[0]
        stages, builds = self.rebuilt[name]
        return stages.tensors(cast(FactoredWeight, self.held(name)).numbers, builds)[0]

    @property
    def all_weights(self) -> list[Tensor]:
        """What torch's own module holds, where every input matrix has one stage."""
        return [part for at in range(len(self.before)) for part in (*self.inputs(at), *self.rest(at))]

    # ---- lowering
    def lower(self) -> nn.Module:
        """Torch's own module where every weight has one stage; else a `LoweredLSTM` or `LoweredRNN` of plain parts."""
        units = range(len(self.before))
        if self.whole and not any(self.staged(at) for at in units):
            return torch_module(self, self.all_weights).train(self.training)
        return self.around([self.lowered_unit(at) for at in units])

    def around(self, each: Sequence[tuple[Applied, Applied]]) -> nn.Module:
        """The same around plain modules: what comes before every unit, and the unit."""
        build = LoweredLSTM if self.mode == "LSTM" else LoweredRNN
        return build(self, *zip(*each, strict=True)).train(self.training)

    def lowered_unit(self, at: int) -> tuple[Applied, Applied]:
        """What comes before a unit, and the unit, as plain modules."""
        if self.staged(at) or not self.in_kernel[at]:
            return self.stepped(at, Chain.lower)
        *first, last = self.inputs(at)
        before = cast(Chain, self.heads[at]).lower(first, None)
        return before, torch_module(self, [last, *self.rest(at)], **ONE_UNIT, input_size=last.shape[1])


def one_stage(net: TensorNetwork) -> tuple[Stages, tuple[Build, ...]]:
    """The whole weight in one stage, and how it is built: found before any tracer looks."""
    stages = Stages.of(net, [range(len(net.cores))])
    return stages, stages.builds()


def bound(chain: Chain, tensors: list[Tensor], bias: Tensor | None) -> Applied:
    """A weight with these stage tensors, ready to be applied."""
    return partial(chain, tensors=tensors, bias=bias)


def ends_plainly(chain: Chain) -> bool:
    """Whether the last step of a matrix is one product of all channels, with nothing to rearrange after it."""
    return not chain.rearranged and cast(Product, chain.steps[-1]).groups == 1
