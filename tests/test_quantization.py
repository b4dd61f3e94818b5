"""Codes and scales: laws of every scheme, of packing, and of cores rounded one after the other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.fitting import Metric
from tenfold.formats import format_named
from tenfold.protocols import TenfoldError
from tenfold.quantization import SCHEMES, Scheme, Uniform, pack, rounded, scheme_named, unpack

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)
SEEDS = st.integers(0, 99)
PER = st.sampled_from(["core", "row", 1, 5, 64])


def numbers(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def schemes(give: st.DrawFn) -> Scheme:
    name = give(st.sampled_from(sorted(SCHEMES)))
    return scheme_named(name, give(st.sampled_from(SCHEMES[name].widths)), give(PER))


@given(st.integers(1, 16), SHAPES, SEEDS)
def test_packing_has_an_exact_inverse(bits: int, shape: tuple[int, ...], seed: int) -> None:
    codes = torch.randint(2**bits, shape, generator=draw(seed), dtype=torch.int32)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == math.ceil(codes.numel() * bits / 8)
    assert torch.equal(unpack(packed, bits, shape), codes)


@given(schemes(), SHAPES, SEEDS, st.sampled_from([torch.float32, torch.float64]), st.sampled_from([0.0, 1e-3, 40.0]))
def test_what_is_on_the_grid_stays_bit_for_bit(
    scheme: Scheme, shape: tuple[int, ...], seed: int, dtype: torch.dtype, size: float
) -> None:
    x = size * numbers(shape, seed, dtype)
    scales = scheme.fitted(x)
    once = scheme.on_grid(x, scales)
    codes = scheme.codes(x, scales)
    assert scales.shape == (scheme.groups(shape), scheme.scales)
    assert torch.equal(scales, scales.bfloat16().to(dtype))  # what the file holds
    assert 0 <= int(codes.min()) <= int(codes.max()) < 2**scheme.bits
    assert torch.equal(scheme.numbers(codes, scales), once)
    assert torch.equal(scheme.on_grid(once, scales), once)
    assert torch.equal(scheme.learnt(x, scales), once)
    assert scheme.stored_bytes(shape) == len(pack(codes, scheme.bits)) + 2 * scales.numel()


@given(st.sampled_from([2, 3, 4, 6, 8, 16]), SEEDS)
def test_a_step_by_error_beats_one_by_the_largest_value(bits: int, seed: int) -> None:
    x, scheme = numbers((300,), seed), Uniform(bits)
    largest = x.abs().max().reshape(1, 1) / (scheme.bounds[1] + scheme.offset)
    errors = [float((scheme.on_grid(x, s) - x).square().sum()) for s in (scheme.fitted(x), largest)]
    assert errors[0] <= errors[1] * (1 + 1e-9)


def test_two_bits_of_a_gaussian_err_as_the_best_even_levels_do() -> None:
    x = numbers((100_000,), 0)
    error = float((Uniform(2).on_grid(x, Uniform(2).fitted(x)) - x).square().mean())
    assert error == pytest.approx(0.1188, abs=2e-3)  # Max, IRE Trans. Inf. Theory 6 (1960), table II


@given(st.sampled_from([2, 3, 4]), SEEDS)
def test_a_codebook_errs_no_more_than_even_levels(bits: int, seed: int) -> None:
    x = numbers((200,), seed) ** 3
    each = [scheme_named(name, bits) for name in ("codebook", "uniform")]
    book, even = (float((s.on_grid(x, s.fitted(x)) - x).square().sum()) for s in each)
    assert book <= even * 1.01  # levels are stored in 16 bits


def test_weights_move_the_step_to_what_costs_most() -> None:
    x = torch.tensor([1.0, 1.1, 0.9, 100.0], dtype=torch.float64)
    step = Uniform(2).fitted(x, torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64))
    assert float((Uniform(2).on_grid(x, step) - x)[:3].abs().max()) <= 0.11


@given(st.sampled_from([2, 4, 8]), st.sampled_from(["core", "row", 4]), SEEDS)
def test_gradients_are_those_of_learned_steps(bits: int, per: str | int, seed: int) -> None:
    """LSQ by hand: straight through inside the grid, nothing outside; the step as in equation 3, scaled as in 2.2."""
    scheme = Uniform(bits, per)  # type: ignore[arg-type]
    x = numbers((3, 5), seed).requires_grad_()
    scales = (0.5 * scheme.fitted(x.detach())).requires_grad_()
    back = numbers((3, 5), seed + 1)
    scheme.learnt(x, scales).backward(back)
    step = scheme.spread(scales.detach(), x.shape).squeeze(-1)
    at, (low, high) = x.detach() / step - scheme.offset, scheme.bounds
    inside = (at >= low) & (at <= high)
    assert torch.allclose(x.grad, back * inside)
    slope = torch.where(inside, at.round() - at, at.clamp(low, high) + scheme.offset)
    gain = (scheme.sharing(x.shape) * (high + scheme.offset)) ** -0.5
    assert torch.allclose(scales.grad.flatten(), gain * scheme.grouped(slope * back).sum(1))


KERNEL = {"o": 6, "i": 6, "h": 3, "w": 3}
NETS = [("svd", {"o": 8, "i": 9}), ("tr", {"o": 6, "i": 8}), *((name, KERNEL) for name in ("tucker2", "tt", "cp"))]


@pytest.mark.parametrize(("name", "axes"), NETS)
@pytest.mark.parametrize("bits", [3])
def test_rounding_one_after_the_other_beats_rounding_each_alone(name: str, axes: dict[str, int], bits: int) -> None:
    maker = format_named(name)
    net, better = maker.network(axes, [3] * len(maker.network(axes).bonds)), 0
    for seed in range(2):
        weight, each = numbers(tuple(axes.values()), seed), [Uniform(bits)] * len(net.cores)
        cores = maker.decompose(weight, net)
        ours, scales = rounded(weight, net, cores, each, generator=draw(seed))
        alone = [s.on_grid(core, s.fitted(core)) for s, core in zip(each, cores, strict=True)]
        lost = [float((net.weight(found) - weight).square().sum()) for found in (ours, alone)]
        better += lost[0] < lost[1]
        for scheme, core, scale in zip(each, ours, scales, strict=True):
            assert scale is not None
            assert torch.equal(scheme.on_grid(core, scale), core)
    assert better == 2


@pytest.mark.parametrize("name", ["tucker2", "tt", "cp"])
def test_groups_are_rounded_no_worse_than_each_core_alone(name: str) -> None:
    maker, axes = format_named(name), {"g": 3, "o": 4, "i": 5, "h": 3, "w": 3}
    net, weight = maker.network(axes, [3] * len(maker.network(axes).bonds)), numbers(tuple(axes.values()), 0)
    cores, each = maker.decompose(weight, net), [Uniform(3)] * len(net.cores)
    ours, _ = rounded(weight, net, cores, each, generator=draw(0))
    alone = [s.on_grid(core, s.fitted(core)) for s, core in zip(each, cores, strict=True)]
    lost = [float((net.weight(found) - weight).square().sum()) for found in (ours, alone)]
    assert lost[0] <= lost[1]


def test_rounding_sees_the_metric() -> None:
    maker, axes = format_named("svd"), {"o": 12, "i": 16}
    net, weight = maker.network(axes, [16 - 4]), numbers((12, 16), 0)
    moment = torch.diag(torch.logspace(-3, 1, 16, dtype=torch.float64))
    metric = Metric({"i": moment})
    each = [Uniform(3), Uniform(3)]
    cores = maker.decompose(weight, net, metric)
    lost = []
    for known in (metric, None):
        found, _ = rounded(weight, net, cores, each, known, generator=draw(0))
        lost.append(metric.squared_error(net.weight(found) - weight, tuple(axes)))
    assert lost[0] < 0.8 * lost[1]


def test_a_core_without_a_scheme_makes_up_for_one_that_is_rounded() -> None:
    maker, axes = format_named("svd"), {"o": 12, "i": 16}
    net, weight = maker.network(axes, [6]), numbers((12, 16), 0)
    cores = maker.decompose(weight, net)
    kept, scales = rounded(weight, net, cores, [Uniform(2), None], generator=draw(0))
    both, _ = rounded(weight, net, cores, [Uniform(2), Uniform(2)], generator=draw(0))
    assert scales[1] is None
    assert (net.weight(kept) - weight).norm() < 0.9 * (net.weight(both) - weight).norm()


@pytest.mark.parametrize(
    ("name", "bits", "per", "words"),
    [
        ("uniform", 5, "core", ["5 is no number of bits", "16, 8, 6, 4, 3, 2"]),
        ("codebook", 8, "core", ["8 is no number", "6, 4, 3, 2"]),
        ("uniform", 4, "column", ["per 'column'", "core, row"]),
        ("uniform", 4, 0, ["per '0'"]),
        ("unifrom", 4, "core", ["'unifrom'", "uniform"]),
    ],
)
def test_bad_schemes_get_a_sentence(name: str, bits: int, per: str, words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        scheme_named(name, bits, per)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)
