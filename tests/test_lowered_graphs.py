"""Lowered networks go where dense ones go: traced, scripted, in another layout of memory, and without a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import rnn

import tenfold
from tenfold import formats
from tenfold.formats import Format
from tenfold.inputs import call
from tenfold.layers.recurrence import LoweredRecurrence
from tenfold.surgery import decompose, sites
from test_layers import KERNEL_FORMATS, made, noise
from test_matrix import EXAMPLES, planned, tensors_in

pytestmark = pytest.mark.filterwarnings(  # torch's own
    "ignore:.torch.jit:DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)
OWN_LOOPS = ("Attention", "Encoder")  # TorchScript does not know the Python that they are in
UNTRACED = ("Conv1D", "Attention", "Cell", "experts")  # nor can the dense ones be traced by `torch.fx`

GRAPHS: dict[str, Callable[[nn.Module, tuple[Any, ...]], nn.Module]] = {
    "trace": lambda model, inputs: torch.jit.trace(model, inputs, check_trace=False),
    "fx": lambda model, inputs: fx.symbolic_trace(model),
    "script": lambda model, inputs: torch.jit.script(model),
}
SKIPPED = {"script": (*OWN_LOOPS, "Conv1D"), "fx": UNTRACED, "trace": ()}
NAMES = ("svd", "tt", "str")
CAPTURED = [  # every graph of every example, and either with every format
    (example, graph, NAMES[(row + column) % len(NAMES)])
    for row, example in enumerate(EXAMPLES)
    for column, graph in enumerate(GRAPHS)
    if not any(word in example for word in SKIPPED[graph])
]


@pytest.mark.parametrize(("example", "graph", "name"), CAPTURED)
def test_a_lowered_network_is_captured_as_the_dense_one_is(example: str, graph: str, name: str) -> None:
    build, inputs = EXAMPLES[example]
    torch.manual_seed(0)
    plain = lowered(nn.Sequential(build()) if len(inputs) == 1 else build(), name)
    assert_the_same(GRAPHS[graph](plain, inputs), plain, inputs)


def lowered(model: nn.Module, form: str) -> nn.Module:
    """A network whose weights are of a format where it suits them, at ranks of at most 2, as plain modules."""
    model = model.double().eval()
    answers = {site: site.obstacle or site.suit(formats.format_named(form)) for site in sites(model).values()}
    makers = {site: answer for site, answer in answers.items() if isinstance(answer, Format)}
    return tenfold.lower(decompose(model, planned(makers, most=2)))


def assert_the_same(captured: nn.Module, plain: nn.Module, inputs: tuple[Any, ...]) -> None:
    found, wanted = (tensors_in(call(model, inputs)) for model in (captured, plain))
    for one, other in zip(found, wanted, strict=True):
        assert torch.dist(one, other) <= 1e-8 * other.norm()  # a traced square root is of single precision


class Sentences(nn.Module):
    """Sequences of several lengths, and then all of them again with the state that these left."""

    def __init__(self, run: nn.Module) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed, state = self.run(rnn.pack_padded_sequence(x, lengths, True, False))
        y, _ = self.run(x, state)
        return rnn.pad_packed_sequence(packed, True)[0], y


@pytest.mark.parametrize("form", ["svd", "tt"])  # torch's kernel has the last stage, or the steps are ours
@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True),
        lambda: nn.LSTM(6, 8, proj_size=4, bias=False, batch_first=True),
        lambda: nn.GRU(6, 4, bidirectional=True, batch_first=True),
        lambda: nn.RNN(6, 4, nonlinearity="relu", batch_first=True),
    ],
)
def test_recurrences_are_scripted_with_packed_sequences_and_states(build: Callable[[], nn.Module], form: str) -> None:
    torch.manual_seed(0)
    plain = lowered(Sentences(build()), form)
    assert isinstance(plain.run, LoweredRecurrence)
    inputs = noise(3, 5, 6), torch.tensor([3, 5, 4])
    assert_the_same(torch.jit.script(plain), plain, inputs)
    alone = torch.jit.script(nn.Sequential(plain.run))
    assert_the_same(alone, nn.Sequential(plain.run), (noise(5, 6),))


LAYOUTS = [
    (lambda: nn.Conv2d(4, 6, 3), torch.channels_last, (2, 4, 5, 5)),
    (lambda: nn.Conv3d(4, 6, 2), torch.channels_last_3d, (2, 4, 3, 3, 3)),
]


@pytest.mark.parametrize("form", KERNEL_FORMATS, ids=repr)
@pytest.mark.parametrize(("build", "layout", "shape"), LAYOUTS)
def test_a_layout_of_memory_is_for_images_alone(
    form: Format, build: Callable[[], nn.Module], layout: torch.memory_format, shape: tuple[int, ...]
) -> None:
    dense, x = build().double(), noise(*shape)
    layer = made(dense, form).eval()
    plain, wanted = layer.lower(), layer(x)
    strides = [core.stride() for core in layer.weight.cores]
    for module in (layer, plain):
        module.to(memory_format=layout)
        found = module(x.to(memory_format=layout))
        assert torch.dist(found, wanted) <= 1e-12 * wanted.norm()
    assert [core.stride() for core in layer.weight.cores] == strides


def test_tables_keep_their_layout() -> None:
    layer = made(nn.Embedding(12, 8), formats.TT(layout="pairs", order=2))
    for module in (layer, layer.lower()):
        wanted = [parameter.stride() for parameter in module.parameters()]
        module.to(memory_format=torch.channels_last).to(torch.float64)
        assert [parameter.stride() for parameter in module.parameters()] == wanted
        assert all(parameter.dtype == torch.float64 for parameter in module.parameters())
