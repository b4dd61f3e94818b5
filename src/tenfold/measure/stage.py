"""One stage as it runs (`Form`), and how it is called in each runtime to be timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenfold.layers.plain import filled
from tenfold.layers.sliding import MODULES
from tenfold.layers.staged import Step
from tenfold.measure.graphs import POOLS, written
from tenfold.measure.runtimes import Forward, exported, in_session, recorded
from tenfold.surgery.layout import laid, with_kernels
from tenfold.surgery.plan import CUDA_GRAPH, EAGER, ONNXRUNTIME


@dataclass(frozen=True)
class Form:
    """One stage as it runs.

    Attributes:
        step: what it does; given, made: channels before and after.
        rows: samples, the labels that ride with them included; positions: before its window.
    """

    step: Step
    given: int
    made: int
    rows: int
    positions: tuple[int, ...]
    dtype: torch.dtype

    def module(self, device: torch.device) -> nn.Module:
        """The plain module, its numbers zero."""
        shape = self.step.shape(self.given, self.made)
        weight, bias = (torch.zeros(s, dtype=self.dtype, device=device) for s in (shape, (self.made,)))
        return self.step.module(weight, bias).eval()

    def input(self, device: torch.device) -> Tensor:
        """What it is given."""
        return torch.zeros(self.rows, self.given, *self.positions, dtype=self.dtype, device=device)


Calls = list[Forward]  # of a stage; and what else this call does, to be taken off
Called = Callable[[Form, str, torch.device], Calls]


def by_torch(form: Form, layout: str, device: torch.device) -> Calls:
    """The module on its input, both in the layout."""
    module, x = with_kernels(form.module(device), layout), laid(form.input(device), layout)
    return [lambda: module(x)]


def by_cuda_graph(form: Form, layout: str, device: torch.device) -> Calls:
    """A graph of many calls of the module, and one of half of them: what is left launches nothing."""
    (call,) = by_torch(form, layout, device)
    return [recorded(lambda: [call() for _ in range(2 * GRAPHED)]), recorded(lambda: [call() for _ in range(GRAPHED)])]


def by_onnxruntime(form: Form, layout: str, device: torch.device) -> Calls:
    """Where there are positions, between a convolution that makes its input and a mean of its output; and these alone.

    By itself a convolution turns its input into blocks of channels and its output back, which takes up to twice as long
    as a 1x1 stage; in a network its neighbours have them in blocks, too.
    """
    del layout
    module, x = form.module(device), form.input(device)
    if not form.positions:
        return [session(module, x)]
    axes = len(form.positions)
    weight, bias = (torch.zeros(s, dtype=form.dtype) for s in ((form.given, 1, *[1] * axes), (form.given,)))
    head = filled(MODULES[axes](1, form.given, 1, device="meta"), weight, bias)
    mean = POOLS[axes - 1](1)
    chains = nn.Sequential(head, module, mean).eval(), nn.Sequential(head, mean).eval()
    return [session(chain, x[:, :1]) for chain in chains]


def session(module: nn.Module, x: Tensor) -> Forward:
    """A chain of plain modules in onnxruntime."""
    return in_session(written(module, x) or exported(module, x), x)


STAGES: dict[str, Called] = {EAGER: by_torch, ONNXRUNTIME: by_onnxruntime, CUDA_GRAPH: by_cuda_graph}
GRAPHED = 16
CALLS = {CUDA_GRAPH: GRAPHED}  # of a stage, in what is timed; else one


def staged_in(runtime: str) -> str:
    """Where stages are timed for a runtime: there, or in eager, for what they take in proportion, where they cannot be.

    Compiling a stage takes seconds, and there are hundreds.
    """
    return runtime if runtime in STAGES else EAGER
