"""Parameters, bytes and multiply-adds of any network."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tenfold.inputs import evaluating, inputs_for, run
from tenfold.layers import kind_of
from tenfold.layers.coded import codings, encoded, scales_in
from tenfold.measure.forward import hooked
from tenfold.measure.weights import Use, Weight, weights
from tenfold.network import Positions
from tenfold.protocols import TenfoldError
from tenfold.surgery.stored import narrowed, stored_as

SAMPLES = "n"  # the positions of a layer that sees several samples for one of the network (windows, patches, tokens)

# safetensors' names, largest alignment first: the order in which it writes tensors
DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def params(model: nn.Module) -> int:
    """Every parameter once; buffers are not counted, nor the scales of those in few bits."""
    scales = scales_in(model)
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in scales)


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of every parameter once, at its stored width."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def state_bytes(model: nn.Module) -> int:
    """Bytes of the safetensors file of a network's state, each tensor once under its first name, without metadata.

    Cores of few bits count as they are stored, and other numbers of a network whose plan says in what type they are.

    Raises: TenfoldError for a tensor of a dtype that safetensors does not have.
    """
    tensors = as_stored(model)
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise TenfoldError(f"tensor '{name}' is {tensor.dtype}, which safetensors cannot hold.")
    rank = {dtype: k for k, dtype in enumerate(DTYPES)}
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (rank[item[1].dtype], item[0])):
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + math.ceil(len(text) / 8) * 8 + at


def payload_bytes(model: nn.Module) -> int:
    """Bytes of all numbers in that file: codes and scales, and whatever is not in few bits, buffers included."""
    return sum(tensor.numel() * tensor.element_size() for tensor in as_stored(model).values())


def as_stored(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of that file: codes and scales of cores in few bits, the others in the type that the plan says."""
    tensors, dtype = encoded(stored_tensors(model), codings(model)), stored_as(model)
    return {name: narrowed(name, tensor, dtype) for name, tensor in tensors.items()}


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state dict; of names that share one tensor, the first."""
    found: dict[str, Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            seen.add(place)
            found[name] = tensor
    return found


# ---- multiply-adds
@dataclass(frozen=True)
class WeightMacs:
    """Multiply-adds of one weight for one sample.

    Attributes:
        macs: of all calls.
        calls: how often it is applied in one forward.
        positions: axis -> positions of one sample before and after, of the first call; None if there was none.
            Where a layer sees several samples for one of the network, their number stands at the axis `n`.
    """

    macs: int
    calls: int
    positions: Positions | None = field(hash=False)


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one sample.

    Attributes:
        weights: by weight name, in the order of the modules.
        other: of convolutions, matrix products and recurrences outside those modules (attention, products in code).
        order: names of the weights in the order in which the forward came to them.
    """

    weights: Mapping[str, WeightMacs] = field(hash=False)
    other: int
    order: tuple[str, ...]

    @property
    def total(self) -> int:
        """Multiply-adds of the whole network."""
        return sum(each.macs for each in self.weights.values()) + self.other


def macs(model: nn.Module, inputs: Any) -> Macs:
    """Multiply-adds of ONE sample: of convolutions, matrix products and recurrences.

    Modules that a kind of layer takes (or took) go by that kind's rule; torch's recurrences by the size of their
    weights and the steps; all else by torch's FLOP counter, halved, attention opened up so that it is seen.

    Args:
        inputs: what `tenfold.inputs.inputs_for` takes: their batch is found, where they do not say it.
    Raises: TenfoldError if the network cannot run on the inputs.
    """
    given = inputs_for(model, inputs)
    tally = Tally(weights(model), given.size)
    recurrences = [m for m in model.modules() if isinstance(m, nn.RNNBase) and kind_of(m) is None]
    watched = [*tally.by_module, *recurrences]
    with evaluating(model), products_visible(), tally.counter, hooked(watched, tally.before, tally.after):
        run(model, given.value)
    return tally.result()


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Torch's FLOP counter by operator, without its bookkeeping by module.

    That bookkeeping hooks into gradients and fails on modules that give out a parameter, as a stage of one core does.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # an operator made of others counts as these
                result = func.decompose(*args, **given)
            return func(*args, **given) if result is NotImplemented else result
        result = func(*args, **given)
        self.flops += int(count(*args, **given, out_val=result))
        return result


class Tally:
    """Multiply-adds as the forward of a network comes by."""

    def __init__(self, known: Mapping[str, Weight], batch: int) -> None:
        self.known, self.batch = known, max(batch, 1)
        self.counter = Products()
        self.by_module: dict[nn.Module, list[tuple[str, Use]]] = {}
        for weight in known.values():
            for use in weight.uses:
                self.by_module.setdefault(use.module, []).append((weight.name, use))
        self.begun: list[int] = []  # the counter at the start of each watched module that is running
        self.inside = 0  # what the counter saw in watched modules
        self.without_weight = 0
        self.totals: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.positions: dict[str, Positions] = {}

    def before(self, module: nn.Module) -> None:
        self.begun.append(self.counter.flops)

    def after(self, module: nn.Module, given: Sequence[Tensor], result: Tensor) -> None:
        begun = self.begun.pop()
        if not self.begun:
            self.inside += self.counter.flops - begun
        if module not in self.by_module:
            self.without_weight += recurrence(module, given[0])
            return
        self.without_weight += self.by_module[module][0][1].kind.other_macs(module, given, result)
        for name, use in self.by_module[module]:
            positions, samples = use.kind.positions(module, use.weight, given, result)
            self.totals[name] = self.totals.get(name, 0) + use.macs(positions) * samples
            self.calls[name] = self.calls.get(name, 0) + 1
            self.positions.setdefault(name, of_one_sample(positions, samples, self.batch))

    def result(self) -> Macs:
        """What one sample costs."""
        rows = {
            name: WeightMacs(self.totals.get(name, 0) // self.batch, self.calls.get(name, 0), self.positions.get(name))
            for name in self.known
        }
        outside = (self.counter.flops - self.inside) // 2
        return Macs(rows, (outside + self.without_weight) // self.batch, tuple(self.calls))


def of_one_sample(positions: Positions, samples: int, batch: int) -> Positions:
    """Positions for one sample of the network, of a layer that saw so many samples for a batch of these."""
    each, rest = divmod(samples, batch)
    if rest and "tokens" in positions:  # the layer takes another dimension for its samples, such as steps
        tokens = positions["tokens"][1] * samples // batch
        return {"tokens": (tokens, tokens)}
    return positions if each <= 1 else {**positions, SAMPLES: (each, each)}


def recurrence(module: nn.Module, given: Tensor) -> int:
    """Multiply-adds of torch's own recurrences: every weight once a step."""
    steps = given.numel() // int(module.input_size)  # type: ignore[arg-type]  # (also of a packed sequence)
    return steps * sum(p.numel() for name, p in module.named_parameters() if name.startswith("weight"))


@contextmanager
def products_visible() -> Iterator[None]:
    """Attention as plain matrix products, which the FLOP counter sees: no fused kernel, no fast path."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
