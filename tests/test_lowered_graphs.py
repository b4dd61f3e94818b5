"""Lowered networks go where dense ones go: traced, scripted, in another layout of memory, and without a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import rnn

import tenfold
from tenfold import formats
from tenfold.formats import Format
from tenfold.inputs import call
from tenfold.layers.kinds.encoder import PlainEncoderLayer
from tenfold.layers.multihead import PlainAttention
from tenfold.layers.plain import GroupedLinear, StandIn
from tenfold.layers.recurrence import LoweredRecurrence
from tenfold.surgery import decompose, sites
from test_layers import KERNEL_FORMATS, made, noise
from test_matrix import EXAMPLES, planned, tensors_in

pytestmark = pytest.mark.filterwarnings(  # torch's own
    "ignore:.torch.jit:DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)
UNTRACED = ("Conv1D", "Attention", "Cell", "experts")  # nor can the dense ones be traced by `torch.fx`

GRAPHS: dict[str, Callable[[nn.Module, tuple[Any, ...]], nn.Module]] = {
    "trace": lambda model, inputs: torch.jit.trace(model, inputs, check_trace=False),
    "fx": lambda model, inputs: fx.symbolic_trace(model),
    "script": lambda model, inputs: torch.jit.script(model),
}
SKIPPED = {"script": ("Conv1D",), "fx": UNTRACED, "trace": ()}
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
    with torch.jit.optimized_execution(False):  # (which takes seconds, and is not ours)
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


class Attending(nn.Module):
    """Attention asked for all that it gives, with masks of both kinds, and of one sample."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, padding: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        y, weights = self.attention(q, k, v, key_padding_mask=padding, attn_mask=mask)
        z, _ = self.attention(q[0], k[0], v[0], padding[0], need_weights=False)
        return y, weights, z


@pytest.mark.parametrize("form", ["svd", "tt"])
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 8, "vdim": 4}])
def test_attention_is_scripted_with_its_masks(options: dict[str, Any], form: str) -> None:
    torch.manual_seed(0)
    plain = lowered(Attending(**options), form)
    assert isinstance(plain.attention, PlainAttention)
    mask, padding = torch.ones(3, 4, dtype=torch.bool).triu(2), torch.arange(4) >= torch.tensor([[4], [3]])
    inputs = noise(2, 3, 6), noise(2, 4, options.get("kdim", 6)), noise(2, 4, options.get("vdim", 6)), mask, padding
    assert_the_same(torch.jit.script(plain), plain, inputs)


class Padded(nn.Module):
    """An encoder, which nests its input where gradients are off."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.run = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, **options), 2)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.run(x, src_key_padding_mask=padding).masked_fill(padding.unsqueeze(-1), 0.0)


@pytest.mark.parametrize(("form", "options"), [("svd", {}), ("tt", {"norm_first": True, "activation": "gelu"})])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning", "ignore:enable_nested:UserWarning")
def test_encoders_are_scripted_and_nest_their_input(form: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = lowered(Padded(**options), form)
    assert isinstance(plain.run.layers[0], PlainEncoderLayer)
    inputs = noise(2, 4, 6), torch.arange(4) >= torch.tensor([[4], [3]])
    scripted = torch.jit.script(plain)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert_the_same(scripted, plain, inputs)


class Reading(nn.Module):
    """A network that multiplies by itself."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 12, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y, bias = functional.linear(x, self.fc.weight), self.fc.bias
        return y if bias is None else y + bias


@pytest.mark.parametrize("form", ["svd", "tt"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_weight_of_a_linear_layer_is_read_in_a_script(form: str, bias: bool) -> None:
    torch.manual_seed(0)
    plain = lowered(Reading(bias), form)
    assert_the_same(torch.jit.script(plain), plain, (noise(3, 8),))


def test_blocks_of_a_matrix_are_read_in_a_script() -> None:
    plain = Reading(True)
    plain.fc = StandIn(GroupedLinear(noise(6, 2), noise(6), groups=2))
    plain.fc.columns = 4
    x = noise(3, 4)
    assert torch.dist(torch.jit.script(plain)(x), plain.fc(x)) <= 1e-12


def test_a_script_refuses_to_read_the_weight_of_a_convolution() -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(6, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + self.conv.weight.sum()

    plain = lowered(Looking(), "tt")
    with pytest.raises(torch.jit.Error, match="only weights of linear layers are rebuilt"):
        torch.jit.script(plain)(noise(2, 6, 7))


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


class Branches(nn.Module):
    """Activations of what is read once, of what is read twice, of a view; one that stands in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.norm = nn.BatchNorm2d(4)
        self.once, self.twice, self.input, self.shared, self.sum = (nn.ReLU() for _ in range(5))
        self.view = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.once(self.norm(self.convs[0](self.input(x))))
        kept = self.convs[1](maps)
        beside = self.shared(self.convs[2](self.twice(kept) - kept))
        below = self.view(beside.flatten(2)[:, 1:])
        return self.shared(self.convs[3](self.sum(beside + maps))).flatten(2)[:, 1:] + below + beside.flatten(2)[:, 1:]


def test_activations_write_over_what_they_alone_read() -> None:
    torch.manual_seed(0)
    model = Branches().eval().double()
    lowered = tenfold.lower(model)
    in_place = {name for name, module in lowered.named_modules() if getattr(module, "inplace", False)}
    assert in_place == {"once", "shared", "sum"}
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    before = x.detach().clone()
    wanted, found = model(x), lowered(x)
    assert torch.equal(x, before)
    assert torch.allclose(found, wanted, atol=1e-12)
    grads = [torch.autograd.grad(each.square().sum(), x)[0] for each in (wanted, found)]
    assert torch.allclose(*grads, atol=1e-10)
    assert not any(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))


class Before(nn.Module):
    """An activation that it may share with others, of what is read again."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.activation = nn.Conv2d(4, 4, 3, padding=1), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.activation(x)) - x


class ByParts(nn.Module):
    """Traced by its parts only; two of them share an activation, and the second reads again what that is given."""

    def __init__(self) -> None:
        super().__init__()
        activation = nn.ReLU()
        self.first, self.second = nn.Sequential(nn.Conv2d(4, 4, 1), activation), Before(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(-self.first(x * 2 if float(x.sum()) > 1e9 else x))


class Optional(nn.Module):
    """Reads what it activates once more where an input is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.activation = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        y: Tensor = self.conv(x)
        return self.activation(y) - y if scale is None else self.activation(y) * scale


class Named(nn.Module):
    """Gives a module its input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same, self.activation = nn.Conv2d(4, 4, 1), nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.same(input=self.conv(x)))


@pytest.mark.parametrize("build", [ByParts, Optional, Named])
def test_activations_write_over_nothing_that_was_not_seen(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(2, 4, 5, 5)
    assert torch.equal(tenfold.lower(model)(x), model(x))
