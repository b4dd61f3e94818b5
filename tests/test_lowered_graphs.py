"""Lowered networks go where dense ones go: traced, scripted, in another layout of memory, and without a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

import tenfold
from tenfold import formats
from tenfold.formats import Format
from tenfold.inputs import call
from tenfold.surgery import decompose, sites
from test_layers import KERNEL_FORMATS, made, noise
from test_matrix import EXAMPLES, planned, tensors_in

pytestmark = pytest.mark.filterwarnings(  # torch's own
    "ignore:.torch.jit:DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)
OWN_LOOPS = ("LSTM", "GRU", "RNN", "Attention", "Encoder")  # TorchScript does not know the Python that they are in
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
    model = nn.Sequential(build()).double().eval() if len(inputs) == 1 else build().double().eval()
    answers = {site: site.obstacle or site.suit(formats.format_named(name)) for site in sites(model).values()}
    makers = {site: answer for site, answer in answers.items() if isinstance(answer, Format)}
    plain = tenfold.lower(decompose(model, planned(makers, most=2)))
    captured = GRAPHS[graph](plain, inputs)
    for found, wanted in zip(tensors_in(call(captured, inputs)), tensors_in(call(plain, inputs)), strict=True):
        assert torch.dist(found, wanted) <= 1e-8 * wanted.norm()  # a traced square root is of single precision


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
