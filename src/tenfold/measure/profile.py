"""`Profile`: what was measured on one network, a row a weight."""

import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tenfold import documents
from tenfold.arguments import typed
from tenfold.inputs import Inputs, device_of, evaluating, inputs_for, run
from tenfold.layers import name_of
from tenfold.measure.counts import Macs, macs, parameter_bytes, params
from tenfold.measure.forward import timed
from tenfold.measure.memory import live_bytes, peak_memory_bytes
from tenfold.measure.timing import seconds_of
from tenfold.measure.weights import Use, Weight, shares, weights
from tenfold.network import SPATIAL, Positions
from tenfold.protocols import TenfoldError
from tenfold.surgery import Untaken, untaken, unwrapped

SCHEMA = 1
UNREACHED = "never called on these inputs"


@dataclass(frozen=True)
class LayerProfile:
    """What was measured on one weight. Without inputs, what needs a forward is None.

    Attributes:
        name: its site, as in a plan.
        kind: the registered name of the kind of layer, `conv`.
        module: the module's class, `Conv2d`.
        axes: the weight's axes and their sizes.
        params: numbers in the weight (in its cores), without the bias.
        itemsize: bytes of one number.
        macs: multiply-adds of one sample, all calls in one forward.
        calls: how often it is applied in one forward.
        positions: axis -> positions of one sample before and after, of one call; where the layer sees several samples
            for one of the network, their number stands at the axis `n`, so that
            `macs = calls * prod(axes) * prod(after)` for a dense weight whose calls are alike.
        seconds: of all calls in one forward on the whole batch; the median over forwards; by size where the module
            has several weights.
        memory_bytes: parameters of the module, and the largest sum of live tensors in the whole network while it runs.
        first: whether it is the first convolution that runs (without inputs: that is defined).
        obstacle: why it must stay as it is, in words; None where it may be compressed.
    """

    name: str
    kind: str
    module: str
    axes: Mapping[str, int] = field(hash=False)
    params: int
    itemsize: int
    macs: int | None
    calls: int | None
    positions: Mapping[str, tuple[int, int]] | None = field(hash=False)
    seconds: float | None
    memory_bytes: int | None
    first: bool
    obstacle: str | None

    @property
    def note(self) -> str:
        """The obstacle, or that the inputs never came here; empty where there is nothing to say."""
        return self.obstacle or (UNREACHED if self.calls == 0 else "")


@dataclass(frozen=True)
class Profile:
    """What was measured on one network. Without inputs, what needs a forward is None.

    Attributes:
        layers: a row a weight, in the order of the modules.
        params: every parameter of the network once, no buffers; bytes: the same at their stored width.
        macs: multiply-adds of one sample, the rows' and `other_macs`.
        seconds: of one forward on the whole batch; the median.
        peak_memory_bytes: parameters and the largest sum of live tensors in one forward.
        batch: samples in the inputs; threads: torch's own; device: `cpu` or the GPU's name.
        weights_hash: of the state that was measured.
        inputs: shapes and dtypes that it was measured on, in words.
        sampling: a sentence where these are not a batch that can be cut: what one sample is then.
        untaken: weights that no kind of layer takes, by name, with the reason.
    """

    layers: Mapping[str, LayerProfile] = field(hash=False)
    params: int
    bytes: int
    macs: int | None
    other_macs: int | None
    seconds: float | None
    peak_memory_bytes: int | None
    batch: int | None
    threads: int
    device: str
    weights_hash: str
    inputs: str | None = None
    sampling: str = ""
    untaken: Mapping[str, Untaken] = field(default_factory=dict, hash=False)

    def to_json(self) -> str:
        """The profile as a JSON document."""
        return documents.to_json({"schema": SCHEMA, **asdict(self)})

    @staticmethod
    def from_json(text: str) -> "Profile":
        """Read a profile.

        Raises: TenfoldError that names the part which is not as it should be.
        """
        return documents.from_json(text, Profile, "a profile", SCHEMA)


@dataclass(frozen=True)
class Forwards:
    """What forwards on some inputs told: multiply-adds, seconds and live bytes, of the whole and by module."""

    macs: Macs
    seconds: float
    by_module: Mapping[nn.Module, float] = field(hash=False)
    peak: int
    live: Mapping[nn.Module, int] = field(hash=False)


@typed
def inspect(model: nn.Module, inputs: Any = None, *, repeats: int = 5) -> Profile:
    """Measure a network, dense, compressed or lowered; it is left as it was.

    Args:
        inputs: a tensor, a tuple of positional or a mapping of keyword arguments, or any one argument, moved to the
            network's device; `tenfold.inputs.Inputs` say where their samples are counted, for others it is found.
            Without inputs there is no forward.
        repeats: timed forwards, 1 or more.
    Raises: TenfoldError if the network cannot run on the inputs, or for fewer than one forward.
    """
    if repeats < 1:
        raise TenfoldError(f"{repeats} forwards cannot be timed; use 1 or more.")
    model = unwrapped(model)
    known = weights(model)
    given = None if inputs is None else inputs_for(model, inputs)
    seen = None if given is None else forwards(model, given, known, repeats)
    first = first_convolution(known, seen)
    parts = shares(known)
    rows = {name: row(weight, seen, parts, first=name == first) for name, weight in known.items()}
    device = device_of(model)
    return Profile(
        layers=rows,
        params=params(model),
        bytes=parameter_bytes(model),
        macs=None if seen is None else seen.macs.total,
        other_macs=None if seen is None else seen.macs.other,
        seconds=None if seen is None else seen.seconds,
        peak_memory_bytes=None if seen is None else seen.peak,
        batch=None if given is None else given.size,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else "cpu",
        weights_hash=weights_hash(model),
        untaken=untaken(model),
        inputs=None if given is None else given.described,
        sampling="" if given is None else given.note,
    )


def forwards(model: nn.Module, inputs: Inputs, known: Mapping[str, Weight], repeats: int) -> Forwards:
    """One forward that counts, one that follows memory, and `repeats` that are timed."""
    modules = list(dict.fromkeys(module for weight in known.values() for module in weight.modules))
    device = device_of(model)
    counted = macs(model, inputs)
    peak, live = live_bytes(model, inputs.value, modules)
    if device is not None and device.type == "cuda":
        peak = peak_memory_bytes(model, inputs) - parameter_bytes(model)
    whole, each = [], []
    with evaluating(model):
        run(model, inputs.value)
        for _ in range(repeats):
            spent: dict[nn.Module, float] = {}
            with timed(modules, spent):
                whole.append(seconds_of(lambda: run(model, inputs.value)))
            each.append(spent)
    by_module = {module: statistics.median(spent.get(module, 0.0) for spent in each) for module in modules}
    return Forwards(counted, statistics.median(whole), by_module, peak + parameter_bytes(model), live)


def first_convolution(known: Mapping[str, Weight], seen: Forwards | None) -> str | None:
    """The first weight with a window that ran; without a forward, the first one there is."""
    order = known if seen is None else seen.macs.order
    return next((name for name in order if any(axis in SPATIAL for axis in known[name].axes)), None)


def row(weight: Weight, seen: Forwards | None, parts: Mapping[Use, float], *, first: bool) -> LayerProfile:
    """What is known of one weight."""
    counted = None if seen is None else seen.macs.weights[weight.name]
    return LayerProfile(
        name=weight.name,
        kind=name_of(weight.kind),
        module=type(weight.modules[0]).__name__,
        axes=dict(weight.axes),
        params=weight.params,
        itemsize=weight.itemsize,
        macs=None if counted is None else counted.macs,
        calls=None if counted is None else counted.calls,
        positions=None if counted is None else pairs(counted.positions),
        seconds=None if seen is None else sum(seen.by_module[use.module] * parts[use] for use in weight.uses),
        memory_bytes=None if seen is None else memory_in(weight, seen),
        first=first,
        obstacle=weight.obstacle,
    )


def pairs(positions: Positions | None) -> dict[str, tuple[int, int]] | None:
    """Positions as plain numbers."""
    return None if positions is None else {axis: (int(a), int(b)) for axis, (a, b) in positions.items()}


def memory_in(weight: Weight, seen: Forwards) -> int:
    """Parameters of the weight's module and the largest sum of live tensors while it runs."""
    return max(parameter_bytes(module) + seen.live.get(module, 0) for module in weight.modules)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the names, shapes, dtypes and bytes of a network's state, as a hexadecimal text."""
    digest = hashlib.sha256()
    for name, tensor in state(model):
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the state dict by name."""
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            yield name, value
