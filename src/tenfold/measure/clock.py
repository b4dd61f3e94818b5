"""`Clock`: how long stages take on this machine, each timed once in the form in which it will run."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tenfold import documents
from tenfold.inputs import device_of, evaluating, inputs_for
from tenfold.measure.layouts import in_fastest_layout
from tenfold.measure.profile import weights_hash
from tenfold.measure.runtimes import BLOCKS, check_runtime, prepared, runtime_timings
from tenfold.measure.stage import CALLS, STAGES, Calls, Form, staged_in
from tenfold.measure.timing import CLEARLY, ratio, seconds_of
from tenfold.protocols import TenfoldError
from tenfold.surgery import lower
from tenfold.surgery.layout import CONTIGUOUS, laid_out
from tenfold.surgery.plan import EAGER

SCHEMA = 1
NODES = np.array([1, 2, 4, 8, 16, 24, 32, 48, *(2**k for k in range(6, 32))])  # sizes at which stages are timed
YARD, SIDE = "yardstick", 256  # the square matrix that it multiplies
EIGHT = 8  # numbers side by side, of which kernels do all or none
CODE = 64 ** np.arange(4)  # tells rows of places among the nodes apart
UNITS = 8  # numbers of two bytes that a GPU's matrix units take at a time
LIKED = {8: (20, 24), 16: (24, 32), 32: (48, 64)}  # multiples: ranks of which the second, one, may take no longer
ROUNDS = 15  # for a whole network
ENOUGH, FEWEST, WHOLE, MOST = 2e-3, 3, 10, 40  # seconds, and rounds, of one form, of a dense weight or network
LEAST = 1e-6  # seconds that a stage takes, whatever was to be taken off
Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Clock:
    """Seconds of stages on this machine, for one batch, layout, number of threads, device and runtime.

    Attributes:
        weights_hash: of the network; batch: samples; layout: of maps; threads: torch's own; device: `cpu`, `cuda:0`.
        whole: seconds of one forward of the dense network as it is deployed: lowered, in the layout; where stages are.
        runtime: in which whole networks are compared; stages are timed where `staged_in` says.
        known: seconds by what was timed; what is missing is timed when it is asked for.
    """

    weights_hash: str
    batch: int
    layout: str
    threads: int
    device: str
    whole: float
    runtime: str = EAGER
    known: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(model: nn.Module, inputs: Any, runtime: str = EAGER) -> "Clock":
        """For a dense network on a batch, in the layout in which it is fastest.

        Args: runtime: `eager`, `compile`, `onnxruntime` or `cuda-graph`.
        Raises: TenfoldError if it cannot run on the inputs, or in the runtime.
        """
        check_runtime(runtime)
        given, form, layout = inputs_for(model, inputs), lower(model), CONTIGUOUS
        if runtime not in BLOCKS:
            form, layout = in_fastest_layout(form, given)
        device = str(device_of(model) or "cpu")
        found = Clock(weights_hash(model), given.size, layout, torch.get_num_threads(), device, 0.0, runtime)
        with evaluating(form):
            forward = prepared(runtime, form, given)  # refused now, if at all
            forward = forward if staged_in(runtime) == runtime else prepared(staged_in(runtime), form, given)
            found.whole = found.timed("the dense network", lambda: [forward], WHOLE)
        return found

    def is_for(self, model: nn.Module, batch: int, runtime: str = EAGER) -> bool:
        """Whether what was timed holds for a network on so many samples in a runtime here and now."""
        here = weights_hash(model), batch, torch.get_num_threads(), str(device_of(model) or "cpu"), runtime
        return here == (self.weights_hash, self.batch, self.threads, self.device, self.runtime)

    def speedup(self, model: nn.Module, small: nn.Module, inputs: Any, key: str) -> float:
        """How many times as long a dense network takes as a compressed one, both deployed in the layout.

        Raises: TenfoldError where one of them does not run in the runtime.
        """
        if key not in self.known:
            forms = {"dense": laid_out(lower(model), self.layout), "small": laid_out(lower(small), self.layout)}
            times, refused = runtime_timings(forms, inputs, [self.runtime], repeats=ROUNDS)
            if refused:
                raise TenfoldError(next(iter(refused.values())))
            self.known[key] = ratio(times["dense", self.runtime], times["small", self.runtime]).median
        return self.known[key]

    # ---- stages
    def seconds(self, form: Form, rounds: int = FEWEST) -> float:
        """One call of a stage; the fastest of a few, because what else the machine does only adds."""
        return self.timed(repr(form), lambda: self.call(form), rounds) / CALLS.get(staged_in(self.runtime), 1)

    def call(self, form: Form) -> Calls:
        """A call of a stage on an input, both in the layout, and what is to be taken off."""
        return STAGES[staged_in(self.runtime)](form, self.layout, torch.device(self.device))

    def moved(self, elements: int, dtype: torch.dtype) -> float:
        """Seconds to copy so many numbers into another order."""
        side = max(1, math.isqrt(elements))
        x = torch.empty(0, dtype=dtype, device=self.device)
        return self.timed(f"moved {side} {dtype}", lambda: [x.new_zeros(side, side).mT.contiguous])

    def timed(self, key: str, made: Callable[[], Calls], rounds: int = FEWEST) -> float:
        """The seconds kept under a key; or those of the first call now, less those of the others.

        All by turns with the yardstick, whose first time counts: what slows the machine down for a while slows it, too.
        """
        if key not in self.known:
            with torch.no_grad():
                found, *others, yard = fastest([*made(), self.yardstick], rounds)
            self.known[key] = max(found - sum(others), LEAST) / yard * self.known.setdefault(YARD, yard)
        return self.known[key]

    @cached_property
    def yardstick(self) -> Callable[[], object]:
        """A product that takes a fraction of a millisecond."""
        a = torch.zeros(SIDE, SIDE, device=self.device)
        return lambda: a @ a

    def between(self, form: Form, sizes: Ints, varies: Sequence[bool]) -> Array:
        """Seconds of a stage at many sizes: those of a few nodes, straight lines between them.

        A size that is no multiple of eight takes as long as the next one.

        Args:
            form: at groups 1, one row of its own batch, channels not counted.
            sizes: (4, n): groups, channels before and after in each, labels that ride in the batch.
            varies: which of the four have ranks in them; the others are the same everywhere, and timed as they are.
        """
        along = [k for k, each in enumerate(varies) if each]
        wanted = np.where(sizes[along] > EIGHT, -(-sizes[along] // EIGHT) * EIGHT, sizes[along])
        high = np.searchsorted(NODES, wanted)
        low = np.where(NODES[high] == wanted, high, high - 1)
        share = (wanted - NODES[low]) / np.maximum(NODES[high] - NODES[low], 1)
        total = np.zeros(sizes.shape[1])
        for corner in itertools.product((False, True), repeat=len(along)):
            upper = np.array(corner, bool)[:, None]
            weight = np.prod(np.where(upper, share, 1 - share), axis=0)
            (used,) = np.nonzero(weight)
            at = np.where(upper, high, low)[:, used]
            codes, first, back = np.unique(CODE[: len(along)] @ at, return_index=True, return_inverse=True)
            nodes = np.repeat(sizes[:, :1], len(codes), axis=1)
            nodes[along] = NODES[at[:, first]]
            each = np.array([self.seconds(sized(form, *node)) for node in nodes.T.tolist()])
            total[used] += weight[used] * each[back] if len(used) else 0.0
        return total

    def multiple(self, form: Form, given: int) -> int:
        """The multiple of ranks that stages like this one take no longer for: 8, 16, 32, or the least.

        Args: form: of a stage without a window; given: channels of the weight.
        """

        def pair(rank: int) -> float:
            return self.seconds(sized(form, 1, given, rank, 1)) + self.seconds(sized(form, 1, rank, given, 1))

        return max(
            (multiple for multiple, (below, at) in LIKED.items() if CLEARLY * pair(at) <= pair(below)),
            default=self.least_multiple,
        )

    @property
    def least_multiple(self) -> int:
        """The multiple without which ranks take much longer, which the clock does not see between nodes.

        In onnxruntime 134 channels of a depthwise stage take 7 times as long as 136; a GPU's matrix units want rows of
        16 bytes: half of a 4096 x 4096 matrix in bfloat16, cut at an odd rank, took 3 times as long as all of it.
        """
        return UNITS if self.device.startswith("cuda") else BLOCKS.get(self.runtime, 1)

    # ---- kept
    def to_json(self) -> str:
        """For `clock.json` beside the profile."""
        return documents.to_json({"schema": SCHEMA, **asdict(self)}, indent=None)

    @staticmethod
    def from_json(text: str) -> "Clock":
        """Read it back.

        Raises: TenfoldError for another version, or a damaged file.
        """
        return documents.from_json(text, Clock, "a file of times", SCHEMA)


def sized(form: Form, groups: int, given: int, made: int, carried: int) -> Form:
    """A stage with so many groups, channels before and after in each, and labels in the batch."""
    return replace(
        form, step=form.step.grouped(groups), given=groups * given, made=groups * made, rows=form.rows * carried
    )


def fastest(calls: Sequence[Callable[[], object]], fewest: int) -> list[float]:
    """Seconds of the fastest of a few rounds of calls, each."""
    for call in calls:
        call()
    rounds: list[list[float]] = []
    while len(rounds) < fewest or (len(rounds) < MOST and sum(first for first, *_ in rounds) < ENOUGH):
        rounds.append([seconds_of(call) for call in calls])
    return [min(each) for each in zip(*rounds, strict=True)]
