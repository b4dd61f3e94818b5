"""Plans carried out on whole networks: nothing else changes, ties hold, every mistake is one sentence."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as hooked_spectral_norm

from tenfold import surgery
from tenfold.fitting import Metric
from tenfold.formats import format_named
from tenfold.layers import Layer
from tenfold.protocols import Progress, TenfoldError, listed
from tenfold.surgery import Plan, Row, fresh, matching, room, sites
from tenfold.surgery.carry_out import skeleton


def planned(
    model: nn.Module, name: str, kind: str = "svd", ranks: Sequence[int | None] | None = None, **options: Any
) -> Row:
    """A row for a site, at full rank unless ranks are given, in the format's default modes."""
    axes = sites(model)[name].axes
    form = format_named(kind, **options)
    modes = {axis: tuple(sizes) for axis, sizes in form.default_modes(axes).items()}
    found = form.network(axes, None, modes).ranks if ranks is None else tuple(ranks)
    return Row(name, kind, modes, found, options=options)


def compressed(model: nn.Module, *rows: Row, **arguments: Any) -> nn.Module:
    return surgery.decompose(model, Plan({row.name: row for row in rows}), **arguments)


def everywhere(model: nn.Module, kind: str = "svd", **options: Any) -> nn.Module:
    """Every free site at full rank."""
    free = [name for name, site in sites(model).items() if site.obstacle is None]
    return compressed(model, *(planned(model, name, kind, **options) for name in free))


def shaken(model: nn.Module) -> nn.Module:
    """The network in eval mode, its batch norms with statistics of their own."""
    draw = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
    return model.eval()


def relative(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float(torch.dist(found, wanted) / wanted.norm())


# ---- sites
def masked(module: nn.Module) -> nn.Module:
    return prune.l1_unstructured(module, "weight", 0.5)


COMPUTED = [parametrizations.weight_norm, parametrizations.spectral_norm, hooked_spectral_norm, masked]


class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


def test_a_weight_tied_to_an_embedding_shares_its_cores() -> None:
    model = TiedEmbedding()
    site = sites(model)["words"]
    assert [(place.module, place.mirrored) for place in site.places] == [("words", False), ("head", True)]
    assert site.obstacle is None
    small = compressed(model, planned(model, "words"))
    assert small.words.weight.cores[0] is small.head.weight.cores[1]
    ids = torch.arange(9)
    assert relative(small(ids), model(ids)) < 1e-5


# ---- lowering
class Rectified(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Halved(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.tanh(), self.bias)


@pytest.mark.parametrize("wrap", COMPUTED)
def test_computed_weights_are_not_folded(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = shaken(nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(surgery.lower(model)(x), model(x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), Rectified(4)),
        nn.Sequential(Halved(3, 4, 3), nn.BatchNorm2d(4)),
    ],
)
def test_a_forward_of_its_own_is_not_folded_away(model: nn.Module) -> None:
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(surgery.lower(shaken(model))(x), model(x))


class Choosy(nn.Module):
    """A forward that no proxy gets through, with a part that can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.gain = {2: 1.0, 4: 2.0}

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * self.gain[x.ndim]


def test_a_forward_that_fails_on_a_proxy_is_lowered_part_by_part() -> None:
    model, x = shaken(Choosy()), torch.randn(2, 3, 6, 6)
    lowered = surgery.lower(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules())
    assert relative(lowered(x), model(x)) < 1e-5


class OwnLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class OwnEncoder(nn.TransformerEncoderLayer):
    """Nobody knows how it applies its weights."""

    def forward(self, src: Tensor) -> Tensor:
        return super().forward(src)


class Zoo(nn.Module):
    """Shared modules, tied weights, depthwise, attention and closed modules in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.alias = self.again
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.normed = parametrizations.weight_norm(nn.Linear(8, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.closed = OwnEncoder(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.alias(self.again(self.stem(x)))
        x = self.grouped(self.depth(x)).flatten(2).mT
        x = self.normed(self.second(self.first(x)))
        return self.head(self.closed(self.encoder(self.attention(x, x, x)[0])).mean(1))


def zoo(dtype: torch.dtype = torch.float64) -> tuple[Zoo, Tensor]:
    torch.manual_seed(0)
    model = Zoo().to(dtype)
    return shaken(model), torch.randn(2, 3, 6, 6, dtype=dtype)


def test_sites_are_the_weights_that_can_be_replaced_tied_ones_once() -> None:
    found = sites(zoo()[0])
    attention = [f"{name}_proj_weight" for name in "qkv"] + ["out_proj.weight"]
    encoder = [*(f"self_attn.{name}" for name in attention), "linear1.weight", "linear2.weight"]
    inner = [*(f"attention.{name}" for name in attention), *(f"encoder.{name}" for name in encoder)]
    assert list(found) == ["stem.0", "again", "depth", "grouped", "first", "normed", *inner, "head"]
    assert [(place.module, place.weight) for place in found["first"].places] == [
        ("first", "weight"),
        ("second", "weight"),
    ]
    assert {name for name, site in found.items() if site.obstacle} == {"depth"}
    assert found["depth"].obstacle.startswith("depthwise: one input and one output channel a group")
    assert found["grouped"].axes == {"g": 2, "o": 4, "i": 4, "h": 3, "w": 3}
    assert found["grouped"].weight(zoo()[0]).shape == (2, 4, 4, 3, 3)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (nn.Embedding(4, 4, scale_grad_by_freq=True), r"\(Embedding\)"),
        (OwnLinear(4, 4), r"\(OwnLinear\)"),
        (OwnEncoder(4, 1, 4), r"\(Linear\)"),
    ],
)
def test_a_weight_tied_to_what_cannot_share_it_says_so(other: nn.Module, words: str) -> None:
    linear = nn.Linear(4, 4)
    if isinstance(other, nn.TransformerEncoderLayer):
        other.linear1.weight = linear.weight
    else:
        other.weight = linear.weight
    with pytest.raises(TenfoldError, match=f"layer '0': tied to '1.*{words}.*, which cannot share its cores"):
        compressed(nn.Sequential(linear, other), Row("0", "svd", ranks=(2,)))


@pytest.mark.parametrize("kind", ["svd", "tucker2", "tt"])
def test_a_full_rank_network_is_the_dense_one(kind: str) -> None:
    model, x = zoo()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = everywhere(model, kind) if kind != "tucker2" else compressed(
        model, *(planned(model, name, "tucker2") for name in ("stem.0", "again", "grouped"))
    )  # fmt: skip
    assert relative(small(x), model(x)) < 1e-12
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(isinstance(module, Layer) for module in model.modules())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in small.parameters()}
    assert not small.training


def test_ties_hold() -> None:
    model, x = zoo()
    small = compressed(model, planned(model, "first", "svd", [3]), planned(model, "again", "tucker2", [3, 3]))
    assert small.first.weight is small.second.weight
    assert small.first.bias is not small.second.bias
    assert small.again is small.alias
    assert type(small.attention) is nn.MultiheadAttention
    assert type(small.encoder) is nn.TransformerEncoderLayer
    names = [name for name, _ in small.named_parameters()]
    assert "first.weight.cores.0" in names
    assert not any(name.startswith(("second.weight", "alias")) for name in names)
    small.train()(x).sum().backward()
    assert all(core.grad is not None for core in small.second.weight.cores)


def test_frozen_weights_dtypes_modes_and_biases_are_kept() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4).to(torch.bfloat16), nn.Conv1d(4, 6, 3)).eval()
    model[0].weight.requires_grad_(False)
    model[2].train()
    small = compressed(model, *(planned(model, name) for name in sites(model)))
    assert [core.requires_grad for core in small[0].weight.cores] == [False, False]
    assert small[0].bias.requires_grad
    assert all(core.requires_grad and core.dtype == torch.bfloat16 for core in small[1].weight.cores)
    assert [module.training for module in small] == [False, False, True]
    assert torch.equal(small[2].bias, model[2].bias)


def test_a_network_that_is_one_layer_is_replaced_as_a_whole() -> None:
    model = nn.Linear(6, 4).double()
    assert list(sites(model)) == ["model"]
    small, x = compressed(model, planned(model, "model")), torch.randn(3, 6, dtype=torch.float64)
    assert isinstance(small, Layer)
    assert relative(small(x), model(x)) < 1e-12
    assert isinstance(surgery.lower(small), nn.Sequential)


def test_random_starts_depend_on_the_seed_and_the_name_only() -> None:
    model, _ = zoo()  # rank 12: beyond the singular vectors of 8 channels, so every start draws
    rows = {name: planned(model, name, "cp", [12]) for name in ("again", "grouped")}
    alone = compressed(model, rows["again"], seed=3).again
    among = compressed(model, *rows.values(), seed=3).again
    turned = compressed(model, *reversed(rows.values()), seed=3).again
    other = compressed(model, rows["again"], seed=4).again
    for k, core in enumerate(alone.weight.cores):
        assert torch.equal(core, among.weight.cores[k])
        assert torch.equal(core, turned.weight.cores[k])
    assert not all(torch.equal(a, b) for a, b in zip(alone.weight.cores, other.weight.cores, strict=True))


def test_what_concerns_several_layers_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    a, b = torch.eye(6, dtype=torch.float64)[:2]
    border = sum(torch.einsum("i,j,k->ijk", *three) for three in ((a, a, b), (a, b, a), (b, a, a)))
    model = nn.Sequential(*(nn.Conv1d(6, 6, 6, bias=False).double() for _ in range(2)))
    with torch.no_grad():
        for conv in model:
            conv.weight.copy_(border)  # two terms come nearer the more they diverge
    compressed(model, *(planned(model, name, "cp", [2]) for name in "01"))
    assert [record.getMessage().partition("; ")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "0, 1: the terms of cp cancel each other"
    ]


@given(st.lists(st.text("abc", min_size=1), max_size=20))
def test_names_in_a_warning_are_one_line(names: list[str]) -> None:
    told, _, more = listed(names).partition(" and ")
    few = told.split(", ") if told else []
    assert few == names[: len(few)]
    assert len(few) + int(more.removesuffix(" more") or 0) == len(names)
    assert len(few) == min(len(names), 8)


def test_every_layer_that_is_fitted_is_a_step() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Conv2d(3, 4, 3), nn.Linear(4, 4))
    rows = [planned(model, "0"), planned(model, "2", "tt"), planned(model, "1", "cp", ranks=(2,))]
    steps: list[Progress] = []

    def watch(each: Iterator[Progress]) -> Iterator[Progress]:
        for step in each:
            steps.append(step)
            yield step

    compressed(model, *rows, watch=watch)
    assert [(step.title, step.words, step.step, step.steps) for step in steps] == [
        ("decompose", "", 0, 220), ("decompose 0", "1 of 3", 48, 220), ("decompose 2", "2 of 3", 156, 220),
        ("decompose 1", "3 of 3", 220, 220),
    ]  # fmt: skip
    assert len(compressed(model)) == 4  # of which nothing is fitted


def test_a_metric_reaches_its_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4)).double()
    metric = Metric({"i": torch.diag(torch.tensor([1.0, 1, 1e-4, 1e-4, 1e-4, 1e-4]).double())})
    row = planned(model, "0", "svd", [2])
    plain, aware = compressed(model, row), compressed(model, row, metrics={"0": metric})
    error = [metric.squared_error(small[0].weight.in_axes() - model[0].weight, ("o", "i")) for small in (plain, aware)]
    assert error[1] < 1e-3 * error[0]


# ---- plans
PRINTED = st.characters(exclude_categories=["C", "Zl", "Zp"])  # PyYAML loses U+0085 and its like
NAMES = st.text(PRINTED, min_size=1, max_size=12)
RANKS = st.lists(st.one_of(st.none(), st.integers(1, 512)), max_size=4).map(tuple)
STAGES = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), max_size=3).map(tuple)
ROWS = st.one_of(
    st.builds(Row, NAMES, reason=st.text(PRINTED, max_size=30)),
    st.builds(
        Row,
        NAMES,
        format=st.just("tt"),
        modes=st.dictionaries(st.sampled_from(["o", "i", "o i"]), st.lists(st.integers(1, 9), min_size=1).map(tuple)),
        ranks=RANKS,
        stages=STAGES,
        options=st.fixed_dictionaries(
            {}, optional={"layout": st.sampled_from(["chain", "pairs"]), "order": st.integers(1, 4)}
        ),
        group=st.one_of(st.none(), st.text(PRINTED, min_size=1, max_size=5)),
        reason=st.text(PRINTED, max_size=30),
    ),
)


@settings(max_examples=60)
@given(st.lists(ROWS, max_size=4, unique_by=lambda row: row.name))
def test_a_plan_comes_back_from_its_file(rows: list[Row]) -> None:
    plan = Plan({row.name: row for row in rows})
    assert Plan.from_yaml(plan.to_yaml()) == plan
    assert Plan.from_yaml(plan.to_yaml()).to_yaml() == plan.to_yaml()


WRONG_PLANS = [
    ("a: [", "not a YAML file: while parsing a flow node"),
    ("[1, 2]", "not a plan: a plan has 'schema' and 'layers'."),
    ("schema: 2\nlayers: {}", "schema 2 is not known; this version reads schema 1."),
    ("schema: 1\nlayers: {a: {reason: 2020-13-45}}", "not a YAML file: month must be in 1..12"),
    ("schema: 1\nlayers: {a: 3}", "layer 'a': 3 stands where a mapping with format, modes, ranks, stages, options,"),
    ("schema: 1\nlayers: {a: {frmat: tt}}", "layer 'a': nothing is called 'frmat'; did you mean 'format'?"),
    ("schema: 1\nlayers: {a: {format: tuker}}", "layer 'a': no format is called 'tuker'; did you mean 'tucker'"),
    (
        "schema: 1\nlayers: {a: {format: 3}}",
        "layer 'a': 'format': 3 stands where the name of a format or 'dense' belongs.",
    ),
    (
        "schema: 1\nlayers: {a: {format: tt, ranks: [0]}}",
        "layer 'a': 'ranks': entry 1: 0 stands where a whole number from 1 or 'full'",
    ),
    ("schema: 1\nlayers: {a: {format: tt, ranks: [1.5]}}", "'ranks': entry 1: 1.5 stands where a whole number from"),
    ("schema: 1\nlayers: {a: {format: tt, ranks: [true]}}", "'ranks': entry 1: True stands where a whole number from"),
    ("schema: 1\nlayers: {a: {format: tt, ranks: 8}}", "layer 'a': 'ranks': 8 stands where a list belongs."),
    (
        "schema: 1\nlayers: {a: {format: tt, stages: [[-1]]}}",
        "'stages': entry 1: entry 1: -1 stands where a whole number from 0 belongs.",
    ),
    ("schema: 1\nlayers: {a: {format: tt, stages: [0]}}", "'stages': entry 1: 0 stands where a list belongs."),
    ("schema: 1\nlayers: {a: {format: tt, modes: [4, 4]}}", "'modes': [4, 4] stands where a mapping belongs."),
    (
        "schema: 1\nlayers: {a: {format: tt, modes: {i: [0]}}}",
        "layer 'a': 'modes': 'i': entry 1: 0 stands where a whole number from 1 belongs.",
    ),
    (
        "schema: 1\nlayers: {a: {format: tt, options: {layuot: pairs}}}",
        "has no option 'layuot'; did you mean 'layout'?",
    ),
    ("schema: 1\nlayers: 3", "'layers': 3 stands where a mapping belongs."),
    ("schema: 1", "'layers' is missing."),
    ("schema: 1\nlayers: {a: {}, b: {}, a: {}}", "not a YAML file: key 'a' stands twice"),
    ("schema: 1\nlayers: {0: {format: tt, ranks: [1], ranks: [2]}}", "key 'ranks' stands twice"),
    ("schema: 1\nlayers: {1: {}, '1': {}}", "key '1' stands twice"),
    ("schema: 1\nlayers: {a: {ranks: [3]}}", "a dense layer has no ranks, stages, modes or options; name a format"),
]


@pytest.mark.parametrize(("text", "words"), WRONG_PLANS)
def test_a_wrong_plan_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        Plan.from_yaml(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row("fcl"), "layer 'fcl': the network has no such layer; did you mean 'fc1'?"),
        (Row("fc1", "svd"), "layer 'fc1': Linear o=4 i=6: 0 ranks given, 1 wanted, for the bonds r1."),
        (Row("fc1", "svd", ranks=(0,)), "layer 'fc1': Linear o=4 i=6: no rank 0 for bond 'r1'; ranks are 1 or more."),
        (
            Row("fc1", "tt", {"i": (2, 2), "o": (2, 2)}, (2,)),
            "modes 2 x 2 of axis 'i' make 4, not 6; their product must be 6",
        ),
        (
            Row("fc1", "tt", {"i": (2, 3)}, (2,)),
            "layout 'pairs' joins the modes of 'i' and 'o' one by one; there are 2 and 1",
        ),
        (Row("fc1", "svd", ranks=(2,), stages=((0,),)), "stages ((0,),) do not hold each of the 2 cores once."),
        (Row("fc1", "svd", {"h": (2,)}, (2,)), "modes are given for axis 'h'; the weight has the axes o i."),
        (Row("fc1", "tucker", {"o i": (4, 6)}, (2, 2), ((0,), (1, 2))), "modes that straddle axes or split a window"),
    ],
)
def test_a_plan_that_does_not_fit_gets_a_sentence(row: Row, words: str) -> None:
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(6, 4))
    with pytest.raises(TenfoldError) as caught:
        compressed(model, row)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"layer '{row.name}': ")


BEYOND = [
    Row("fc1", "svd", ranks=(10**9,)),
    Row("fc1", "tucker", ranks=(10**6, 10**6)),
    Row("fc1", "cp", ranks=(10**30,)),
    Row("fc1", "tucker", {"i": (10**6, 10**6)}, (1, 1, 1)),
    Row("fc1", "tt", {"i": (2, 10**9), "o": (2, 2)}, (2,)),
]


@pytest.mark.parametrize("row", BEYOND)
@pytest.mark.parametrize("carried", [surgery.decompose, fresh, skeleton])
def test_what_memory_cannot_hold_is_refused_by_name(
    row: Row, carried: Callable[[nn.Module, Plan], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "memory_bytes", lambda: 16 * 10**9)
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(6, 4))
    words = r"^layer 'fc1': Linear o=4 i=6: cores, .* GB and this machine has 16 GB; give smaller ranks or modes\.$"
    with pytest.raises(TenfoldError, match=words):
        carried(model, Plan({row.name: row}))


@given(st.integers(7, 200))
def test_ranks_above_the_useful_ones_are_carried_out_where_they_fit(rank: int) -> None:
    model = nn.Sequential(nn.Linear(6, 4).double())
    assert relative(compressed(model, Row("0", "svd", ranks=(rank,)))[0].weight.in_axes(), model[0].weight) < 1e-12


def test_the_memory_of_this_machine_is_known_or_not() -> None:
    there = room.memory_bytes()
    assert there is None or there > 2**28


def test_a_group_has_one_format() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(6, 4))
    rows = Row("0", "svd", ranks=(2,), group="a"), Row("1", "tucker", ranks=(2, 2), group="a")
    with pytest.raises(TenfoldError, match="group of 0, 1: layers of one group have one format with the same options"):
        compressed(model, *rows)
    small = compressed(model, rows[0], Row("1", "svd", ranks=(3,), group="a"))
    assert [module.weight.net.ranks for module in small] == [(2,), (3,)]


def test_a_straddled_weight_is_rebuilt() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3)).double()
    modes = {"o i h w": (6, 6, 6)}
    small = compressed(model, Row("0", "tucker", modes, (6, 6, 6)))
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    assert small[0].weight.stages.rebuilds
    assert relative(small(x), model(x)) < 1e-12


def test_skeletons_have_the_shapes_that_decomposition_gives() -> None:
    model, x = zoo()
    plan = Plan({name: planned(model, name, "svd", [2]) for name in ("again", "first", "grouped")})
    small, empty = surgery.decompose(model, plan), skeleton(model, plan)
    empty.load_state_dict(small.state_dict())
    assert torch.equal(empty(x), small(x))


# ---- patterns
LAYERS = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "fc"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("fc", ["fc"]),
        ("layer1.*", LAYERS[:2]),
        ("*conv1", ["layer1.0.conv1", "layer2.0.conv1"]),
        (r"re:layer\d\.0\.conv2", ["layer1.0.conv2"]),
        ("*", LAYERS),
    ],
)
def test_patterns_name_layers(pattern: str, found: list[str]) -> None:
    assert matching(pattern, LAYERS) == found


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("layer1.0.conv3", "no layer matches 'layer1.0.conv3'; did you mean 'layer1.0.conv2' or 'layer1.0.conv1'"),
        ("re:(", "'re:(' is no regular expression: missing ), unterminated subpattern at position 0."),
        ("re:conv", "no layer matches 're:conv'; there are layer1.0.conv1, layer1.0.conv2, layer2.0.conv1, fc."),
    ],
)
def test_patterns_that_name_none_get_a_sentence(pattern: str, words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        matching(pattern, LAYERS)
    assert words in str(caught.value)


# ---- whole networks lowered
@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("fold", [False, True])
def test_a_lowered_network_gives_the_same_outputs(dtype: torch.dtype, share: float, fold: bool) -> None:
    model, x = zoo(dtype)
    small = compressed(model, planned(model, "stem.0", "tucker2", [2, 4]), planned(model, "again", "cp", [5]),
                       planned(model, "grouped", "tt", [2, 3, 2]), planned(model, "first", "svd", [3]))  # fmt: skip
    keys = list(small.state_dict())
    lowered = surgery.lower(small, fold=fold)
    assert relative(lowered(x), small(x)) < share
    assert list(small.state_dict()) == keys
    assert any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules()) != fold
    assert not any(isinstance(module, Layer) for module in lowered.modules())
    assert not lowered.training
    assert relative(copy.deepcopy(lowered)(x), small(x)) < share


class Reread(nn.Module):
    """Convolutions whose outputs, or which themselves, are used more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.twice, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.alone, self.last = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.rectified, self.late = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.read(x)
        x = y + self.norm(y)
        x = self.one(self.twice(x)) + self.two(self.twice(x))
        return self.late(self.rectified(self.last(self.alone(x))).relu())


def test_a_norm_is_folded_only_where_nothing_else_sees_the_convolution() -> None:
    torch.manual_seed(0)
    model = shaken(Reread().double())
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    lowered = surgery.lower(model)
    left = [name for name, module in lowered.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["norm", "one", "two", "late"]
    assert relative(lowered(x), model(x)) < 1e-12


class Branching(nn.Module):
    """Control flow that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))
        self.other = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) if x.sum() > 0 else self.other(x)


def test_a_network_that_cannot_be_traced_is_lowered_in_parts() -> None:
    model = shaken(Branching().double())
    small = everywhere(model)
    lowered = surgery.lower(small)
    assert not any(isinstance(module, Layer | nn.BatchNorm2d) for module in lowered.modules())
    for x in (torch.ones(1, 3, 2, 2).double(), -torch.ones(1, 3, 2, 2).double()):
        assert relative(lowered(x), model(x)) < 1e-12


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_lowered_network_exports_and_compiles(compiler: None) -> None:
    model = shaken(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)))
    small = compressed(model, planned(model, "0", "tucker2", [2, 4]), planned(model, "4", "tt", order=2))
    x = torch.randn(2, 3, 4, 4)
    for network in (small, surgery.lower(small)):
        wanted = network(x)
        assert relative(torch.export.export(network, (x,)).module()(x), wanted) < 1e-6
        assert relative(torch.compile(network, fullgraph=True, backend="eager")(x), wanted) < 1e-6


def test_a_module_may_hold_arrays() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].stride = np.ones(2)
    twin = surgery.copied(model)
    assert np.array_equal(twin[0].stride, np.ones(2))
    assert twin[0].stride is not model[0].stride


def test_a_copy_without_some_numbers_keeps_their_shapes_and_all_else() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LSTM(5, 6))
    left = [model[0].weight, model[1].weight_ih_l0]
    result = surgery.copied(model, without=left)
    for (name, old), new in zip(model.named_parameters(), result.parameters(), strict=True):
        assert new is not old
        assert (new.shape, new.dtype, new.requires_grad) == (old.shape, old.dtype, old.requires_grad)
        if any(old is each for each in left):
            assert new.untyped_storage().nbytes() == new.element_size(), name
        else:
            assert torch.equal(new, old)
