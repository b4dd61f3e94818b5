"""Bits in a plan, in a network, in a folder."""

import copy
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tenfold
from tenfold.api import predicted
from tenfold.layers.coded import codings, decoded, encoded
from tenfold.measure import payload_bytes, state_bytes
from tenfold.protocols import TenfoldError
from tenfold.storage import Document, Origin, save
from tenfold.surgery import Plan, Row, decompose


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Flatten(),
            nn.Linear(8 * 16, 10),
        ).eval()  # fmt: skip


def plan(bits: int = 4, **more: object) -> Plan:
    rows = [
        Row("0", bits=(bits,), **more),  # type: ignore[arg-type]
        Row("3", "tucker2", ranks=(6, 6), bits=(bits,), **more),  # type: ignore[arg-type]
        Row("5", "svd", ranks=(6,), bits=(bits, 32), **more),  # type: ignore[arg-type]
    ]
    return Plan({row.name: row for row in rows})


X = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@given(
    st.sampled_from([(), (4,), (2, 32), (16, 8)]),
    st.sampled_from(["core", "row", 16]),
    st.sampled_from(["uniform", "codebook"]),
)
def test_a_plan_with_bits_comes_back(bits: tuple[int, ...], per: str | int, levels: str) -> None:
    if levels == "codebook" and 16 in bits:
        bits = (3, 2)
    row = Row("fc", "svd", ranks=(3,), bits=bits, scale_per=per, levels=levels)  # type: ignore[arg-type]
    whole = Plan({"fc": row, "conv": Row("conv", bits=bits[:1])})
    assert Plan.from_yaml(whole.to_yaml()) == whole


def test_a_plan_without_bits_is_written_as_before() -> None:
    values = Plan({"fc": Row("fc", "svd", ranks=(3,))}).to_values()
    assert values["layers"] == {"fc": {"format": "svd", "ranks": [3]}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bits: 5", ["layer 'fc'", "5 is no number of bits", "16, 8, 6, 4, 3, 2"]),
        ("bits: [4, -1]", ["layer 'fc'", "bits"]),
        ("bits: 4, scale_per: column", ["layer 'fc'", "scale_per"]),
        ("bits: 8, levels: codebook", ["8 is no number", "6, 4, 3, 2"]),
        ("bits: 4, levels: codebok", ["'codebok'", "codebook"]),
    ],
)
def test_bad_bits_get_a_sentence(text: str, words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        Plan.from_yaml(f"schema: 1\nlayers:\n  fc: {{format: svd, ranks: [3], {text}}}\n")
    assert all(word in str(caught.value) for word in words), caught.value


def test_bits_of_another_number_of_cores_are_refused() -> None:
    with pytest.raises(TenfoldError, match=r"layer '5'.*bits are given for 3 cores and there are 2"):
        decompose(net(), Plan({"5": Row("5", "svd", ranks=(4,), bits=(4, 4, 4))}))


def test_bits_of_short_numbers_are_refused() -> None:
    with pytest.raises(TenfoldError, match=r"layer '5'.*bits are of float32 and float64.*bfloat16"):
        decompose(net().bfloat16(), Plan({"5": Row("5", bits=(4,))}))


def test_bits_of_shared_cores_are_refused() -> None:
    layers = nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24))
    rows = [Row(name, "scada-tucker", ranks=(2, 2), modes={"o i": (24, 24)}, group="a", bits=(4,)) for name in "01"]
    with pytest.raises(TenfoldError, match="cores that layers share have no bits"):
        decompose(layers, Plan({row.name: row for row in rows}))


@pytest.mark.parametrize("levels", ["uniform", "codebook"])
def test_training_and_eval_see_the_same_numbers(levels: str) -> None:
    small = decompose(net(), plan(3, levels=levels)).eval()
    with torch.no_grad():
        kept = small(X)
    assert torch.equal(small(X), kept)
    assert torch.allclose(tenfold.lower(small)(X), kept, atol=1e-5)
    assert torch.equal(copy.deepcopy(small)(X), kept)
    weight = small[3].weight
    for core, scheme, scale in zip(weight.numbers, weight.schemes, weight.each_scale, strict=True):
        assert len(core.unique()) <= 8
        assert torch.equal(scheme.on_grid(core, scale), core)


def test_a_step_on_the_scales_changes_what_is_kept() -> None:
    small = decompose(net(), plan()).eval()
    with torch.no_grad():
        before = small(X)
        small[0].weight.scales["0"].mul_(2)
        assert not torch.equal(small(X), before)


def test_gradients_reach_cores_and_scales() -> None:
    small = decompose(net(), plan()).train()
    small(X).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in small.named_parameters() if "scales" in name)
    assert all(p.grad is not None and p.grad.any() for name, p in small.named_parameters() if "cores" in name)


def test_training_with_few_bits_lowers_the_loss() -> None:
    small = tenfold.fresh(net(), plan(2)).train()
    wanted = net()(X).detach()
    optimiser = torch.optim.Adam(small.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (small(X) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


@settings(max_examples=6)
@given(
    st.sampled_from([16, 8, 6, 4, 3, 2]), st.sampled_from(["core", "row", 7]), st.sampled_from(["uniform", "codebook"])
)
def test_a_folder_gives_the_same_outputs_bit_for_bit(bits: int, per: str | int, levels: str) -> None:
    if levels == "codebook" and bits > 6:
        bits = 4
    dense = net()
    small = decompose(dense, plan(bits, scale_per=per, levels=levels)).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(1.03)  # off the grid, as training leaves them
        wanted = small(X)
    with TemporaryDirectory() as place:
        folder = Path(place) / "out"
        document = Document(Origin("given", "Sequential"))
        save(folder, small, plan(bits, scale_per=per, levels=levels), document)
        loaded = tenfold.load(folder, model=net())
        save(folder, loaded, plan(bits, scale_per=per, levels=levels), document, overwrite=True)
        again = tenfold.load(folder, model=net())
        file = (folder / "model.safetensors").stat().st_size
    with torch.no_grad():
        assert torch.equal(loaded(X), wanted)
        assert torch.equal(again(X), wanted)
    assert file == pytest.approx(state_bytes(small), abs=64)  # the format's mark


def test_the_payload_counts_codes_scales_and_all_else() -> None:
    small = decompose(net(), plan(3, scale_per="row"))
    sizes = {"0": [(8, 27)], "3": [(8, 6), (6, 3, 3, 6), (6, 8)], "5": [(128, 6)]}
    codes = sum(math.ceil(math.prod(shape) * 3 / 8) for shapes in sizes.values() for shape in shapes)
    scales = 2 * sum(shape[0] for shapes in sizes.values() for shape in shapes)
    kept = 4 * 6 * 10 + 4 * (8 + 8 + 10) + 4 * 4 * 8 + 8  # the last core, biases, the batch norm and its count
    assert payload_bytes(small) == codes + scales + kept


def test_codes_are_a_pure_function_of_the_state() -> None:
    small = decompose(net(), plan(4))
    state = dict(small.state_dict())
    once, twice = (encoded(state, codings(small)) for _ in range(2))
    assert all(torch.equal(once[name], twice[name]) for name in state)
    assert once["0.weight.cores.0"].dtype == torch.uint8
    assert torch.equal(once["5.weight.cores.1"], state["5.weight.cores.1"])


def test_a_plan_of_other_bits_is_not_saved(tmp_path: Path) -> None:
    document = Document(Origin("given", "Sequential"))
    with pytest.raises(TenfoldError, match=r"layer '0'.*other bits than the plan's"):
        save(tmp_path / "out", decompose(net(), plan(4)), plan(3), document)


# ---- plans
PROFILE = tenfold.inspect(net(), X, repeats=1)


def test_bits_alone_keep_every_weight_whole() -> None:
    found = tenfold.plan(net(), PROFILE, bits=4)
    assert {row.format for row in found.rows.values()} == {"dense"}
    assert {row.bits for row in found.rows.values()} == {(4,)}
    assert Plan.from_yaml(found.to_yaml()) == found
    small = decompose(net(), found)
    assert 6 < tenfold.inspect(net()).bytes / stored(small) < 8


def stored(small: nn.Module) -> int:
    """Bytes of what the folder holds of parameters."""
    return payload_bytes(small) - sum(x.numel() * x.element_size() for x in small.buffers())


@pytest.mark.parametrize("asked", [{"ranks": 4}, {"energy": 0.8}, {"params": "2x"}])
def test_every_rule_and_budget_takes_bits(asked: dict[str, object]) -> None:
    found = tenfold.plan(net(), PROFILE, bits=8, format="svd", **asked)  # type: ignore[arg-type]
    plain = tenfold.plan(net(), PROFILE, format="svd", **asked)  # type: ignore[arg-type]
    assert {row.bits for row in found.rows.values()} == {(8,)}
    assert [row.ranks for row in found.rows.values()] == [row.ranks for row in plain.rows.values()]


@pytest.mark.parametrize("bits", [4, "auto"])
@pytest.mark.parametrize("ratio", [6, 10])
def test_a_budget_of_bytes_counts_bits(bits: int | str, ratio: int) -> None:
    found = tenfold.plan(net(), PROFILE, bits=bits, bytes=ratio, format="svd,tucker2", max_error=1.0)
    small = decompose(net(), found)
    assert PROFILE.bytes / stored(small) >= ratio
    assert PROFILE.bytes / stored(small) == pytest.approx(predicted(net(), found, PROFILE).ratio.bytes)


def test_ranks_and_bits_together_err_less_than_either() -> None:
    lost = {}
    for name, asked in {"ranks": {"format": "svd"}, "both": {"format": "svd", "bits": "auto"}}.items():
        found = tenfold.plan(net(), PROFILE, bytes="5x", max_error=1.0, **asked)  # type: ignore[arg-type]
        with torch.no_grad():
            lost[name] = float((decompose(net(), found).eval()(X) - net()(X)).square().sum())
    assert lost["both"] < 0.5 * lost["ranks"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"bits": 5}, ["5 is no number of bits", "16, 8, 6, 4, 3, 2"]),
        ({"bits": "many"}, ["bits 'many' are no whole number", "auto"]),
        ({"bits": "auto"}, ["--bits auto spends a budget of bytes", "--bytes 20x"]),
        ({"bits": "auto", "params": "4x"}, ["--bits auto spends a budget of bytes"]),
        ({"bits": 16, "bytes": "40x", "format": "svd"}, ["bytes 40x cannot be met"]),
    ],
)
def test_bits_that_cannot_be_get_a_sentence(asked: dict[str, object], words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        tenfold.plan(net(), PROFILE, **asked)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_is_excluded_keeps_its_numbers() -> None:
    found = tenfold.plan(net(), PROFILE, bits=4, exclude=["5"])
    assert found.rows["5"].is_dense
    assert found.rows["3"].bits == (4,)


def test_a_depthwise_kernel_lies_in_few_bits() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Conv2d(8, 8, 1))
    found = tenfold.plan(model, tenfold.inspect(model), bits=4)
    small = decompose(model, found)
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    assert found.rows["0"].bits == (4,)
    assert (small(x) - model(x)).norm() < 0.3 * model(x).norm()


def test_compress_counts_and_saves_few_bits(tmp_path: Path) -> None:
    result = tenfold.compress(net(), inputs=X, bits=3, bytes="8x", format="svd,tucker2", max_error=1.0)
    assert result.report.compressed.payload_bytes == payload_bytes(result.model)
    assert result.report.ratio.payload_bytes is not None
    tenfold.save(result, tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(tenfold.load(tmp_path / "out", model=net())(X), result.model(X))


@pytest.mark.parametrize("bits", [2, 4])
def test_every_kind_of_layer_takes_bits(bits: int) -> None:
    """Tables, recurrences, attention, transposed kernels: what trains is what is kept, and what is lowered."""
    models = {
        "embedding": (nn.Embedding(30, 16), torch.arange(30).reshape(2, 15)),
        "lstm": (nn.LSTM(8, 12, batch_first=True), torch.randn(2, 5, 8)),
        "transposed": (nn.ConvTranspose2d(8, 6, 3), torch.randn(2, 8, 5, 5)),
        "linear": (nn.Linear(20, 12), torch.randn(3, 20)),
    }
    for model, x in models.values():
        profile = tenfold.inspect(model, x, repeats=1)
        small = decompose(model, tenfold.plan(model, profile, bits=bits)).eval()
        trained = first(small(x))
        with torch.no_grad():
            assert torch.allclose(first(small(x)), trained, atol=1e-6)
            assert torch.allclose(first(tenfold.lower(small)(x)), trained, atol=1e-5)
        trained.sum().backward()
        assert all(p.grad is not None for name, p in small.named_parameters() if "scales" in name)


def first(result: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


def test_codes_of_another_length_are_one_sentence() -> None:
    small = decompose(net(), plan(4))
    known, state = codings(small), encoded(small.state_dict(), codings(small))
    coding = known["0.weight.cores.0"]
    scales = state[coding.scales].float()
    assert torch.equal(decoded(state["0.weight.cores.0"], scales, coding), small[0].weight.numbers[0])
    for codes, scale in [(state["0.weight.cores.0"][1:], scales), (state["0.weight.cores.0"], scales[:0])]:
        with pytest.raises(TenfoldError, match="are not those of 4 bits in a core of 8 x 3 x 3 x 3"):
            decoded(codes, scale, coding)


def test_format_dense_without_bits_is_refused() -> None:
    with pytest.raises(TenfoldError, match=r"format 'dense' leaves every weight whole; give --bits 4"):
        tenfold.plan(net(), PROFILE, params="2x", format="dense")


def test_blocks_are_refined_in_few_bits() -> None:
    """Solved, refined and distilled: the error falls, and every core is still on its grid."""
    batches = [torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(k)) for k in range(8)]
    dense = net()
    small = decompose(dense, plan(3))
    before = float((small.eval()(X) - dense(X)).detach().square().sum())
    tenfold.reconstruct(dense, small, batches, samples=64)
    after = float((small.eval()(X) - dense(X)).detach().square().sum())
    assert after < 0.9 * before
    weight = small[3].weight
    for core, scheme, scale in zip(weight.numbers, weight.schemes, weight.each_scale, strict=True):
        assert torch.equal(scheme.on_grid(core, scale), core)


def test_what_has_no_bits_of_its_own_is_stored_in_the_type_asked_for(tmp_path: Path) -> None:
    result = tenfold.compress(net(), inputs=X, bits=4, dtype="bf16")
    whole = tenfold.compress(net(), inputs=X, bits=4)
    vectors = sum([8, 8, 10, 8, 8, 8, 8])  # biases, and a batch norm with its means and variances
    assert payload_bytes(whole.model) - payload_bytes(result.model) == 2 * vectors
    tenfold.save(result, tmp_path / "out")
    loaded = tenfold.load(tmp_path / "out", model=net())
    with torch.no_grad():
        assert torch.equal(loaded(X), result.model(X))
    assert {tensor.dtype for name, tensor in loaded.state_dict().items() if "tracked" not in name} == {torch.float32}
    assert predicted(net(), result.plan, PROFILE).ratio.bytes > predicted(net(), whole.plan, PROFILE).ratio.bytes
