"""Training from scratch: new cores have the dense weight's deviation, whatever the format, and can be trained."""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tenfold.formats import BUILT_IN, format_named
from tenfold.layers import FactoredWeight, Layer
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, fresh, sites

INITS = ["dense", "cores"]
seeds = st.integers(0, 2**16)
CLOSED = [name for name, kind in BUILT_IN.items() if not kind.iterates]


def small(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """Convolutions (one grouped) and linear layers for 3x6x6 inputs and five classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(192, 30),
            nn.ReLU(),
            nn.Linear(30, 5),
        ).to(dtype)


def row(model: nn.Module, name: str, kind: str, rank: int | None = None, group: str | None = None) -> Row:
    """A site in a format or what stands in for it, at one rank or at full rank, in its default modes."""
    axes = sites(model)[name].axes
    form = format_named(kind) if group else format_named(kind).suit(axes)
    form = form if not isinstance(form, str) else format_named("svd")
    modes = {axis: tuple(sizes) for axis, sizes in form.default_modes(axes).items()}
    ranks = form.network(axes, None, modes).ranks
    named = next(name for name, known in BUILT_IN.items() if type(form) is known)
    return Row(name, named, modes, ranks if rank is None else tuple(min(rank, r) for r in ranks), group=group)


def everywhere(model: nn.Module, kind: str, rank: int | None = None) -> Plan:
    return Plan({name: row(model, name, kind, rank) for name in sites(model)})


def weights(model: nn.Module) -> dict[str, FactoredWeight]:
    return {name: part.weight for name, part in model.named_modules() if isinstance(part, Layer)}


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same parameters, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def loss_of(model: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(16, 3, 6, 6, generator=draw).to(dtype), torch.randint(5, (16,), generator=draw)
    return functional.cross_entropy(model(x), y)


# ---- deviation
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", BUILT_IN)
@settings(max_examples=3)
@given(rank=st.sampled_from([1, 2, 3, None]), gain=st.floats(1e-3, 30), seed=seeds)
def test_a_rebuilt_weight_has_the_deviation_of_the_dense_one(
    kind: str, init: str, rank: int | None, gain: float, seed: int
) -> None:
    model = small()
    with torch.no_grad():
        model[2].weight *= gain
    small_one = fresh(model, everywhere(model, kind, rank), init=init, seed=seed)
    for name, weight in weights(small_one).items():
        dense = sites(model)[name].weight(model)
        assert math.isclose(rms(weight.in_axes()), rms(dense), rel_tol=1e-4), name
        assert not torch.allclose(weight.in_axes(), dense, atol=rms(dense) / 10)  # new, not the old one decomposed


@settings(max_examples=60)
@given(
    st.sampled_from([name for name in BUILT_IN if name != "svd"]),
    st.integers(5, 40),
    st.integers(5, 40),
    st.integers(1, 4),
    seeds,
)
def test_padding_does_not_count(kind: str, o: int, i: int, rank: int, seed: int) -> None:
    model = nn.Linear(i, o, dtype=torch.float64)
    found = fresh(model, Plan({"model": row(model, "model", kind, rank)}), init="cores", seed=seed)
    assert math.isclose(rms(found.weight.in_axes()), rms(model.weight), rel_tol=1e-6)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_is_kept(dtype: torch.dtype, init: str) -> None:
    model = small(dtype)
    found = fresh(model, everywhere(model, "ht", 3), init=init)
    for name, weight in weights(found).items():
        assert weight.dtype is dtype
        cores = [core.double() for core in weight.cores]
        assert math.isclose(rms(weight.net.weight(cores)), rms(sites(model)[name].weight(model)), rel_tol=0.01)


@pytest.mark.parametrize("kind", CLOSED)
def test_at_full_rank_a_drawn_weight_is_gaussian(kind: str) -> None:
    """Products of Gaussian cores are not: their kurtosis is 3 for every bond of rank 1, times over."""
    model = nn.Linear(64, 64)
    full, single = (Plan({"model": row(model, "model", kind, rank)}) for rank in (None, 1))

    def kurtosis(weight: Tensor) -> float:
        return float(weight.pow(4).mean() / weight.square().mean().square())

    drawn = kurtosis(fresh(model, full).weight.in_axes().detach())
    assert abs(drawn - 3) < 5 * math.sqrt(24 / 4096)
    assert kurtosis(fresh(model, single, init="cores").weight.in_axes().detach()) > 4


# ---- cores
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", BUILT_IN)
def test_cores_carry_the_same_norm_and_gradients_reach_each(kind: str, init: str) -> None:
    model = small()
    found = fresh(model, everywhere(model, kind, 3), init=init)
    for weight in weights(found).values():
        norms = [float(core.detach().norm()) for core in weight.cores]
        assert max(norms) < 1.5 * min(norms) * math.sqrt(len(norms)), (weight.net, norms)
    loss_of(found).backward()
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_zero_weight_begins_at_zero_and_leaves_it(kind: str, init: str) -> None:
    model = small()
    nn.init.zeros_(model[5].weight)
    found = fresh(model, Plan({"5": row(model, "5", kind, 3)}), init=init)
    assert not found[5].weight.in_axes().any()
    (found[5].weight.in_axes() - 1).square().sum().backward()
    assert any(core.grad.any() for core in found[5].weight.cores)


# ---- one seed
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", ["tt", "cp", "scada-tucker"])
def test_a_layer_depends_on_the_seed_and_its_name_only(kind: str, init: str) -> None:
    model, before = small(), torch.random.get_rng_state()
    plan = everywhere(model, kind, 2)
    every, again = (fresh(model, plan, init=init, seed=3) for _ in range(2))
    assert same(every, again)
    assert not same(every, fresh(model, plan, init=init, seed=4))
    one = fresh(model, Plan({"5": plan.rows["5"], "0": Row("0")}), init=init, seed=3)
    assert same(one[5], every[5])
    assert torch.equal(one[0].weight, model[0].weight)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("init", INITS)
def test_the_network_given_is_untouched_and_the_rest_is_copied(init: str) -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    found = fresh(model, everywhere(model, "tucker", 2), init=init)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert torch.equal(found[0].bias, model[0].bias)
    assert found[0].bias is not model[0].bias


def test_two_weights_of_one_shape_are_drawn_apart() -> None:
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12))
    for init in INITS:
        found = fresh(model, everywhere(model, "svd"), init=init)
        assert not torch.allclose(found[0].weight.in_axes(), found[1].weight.in_axes())


# ---- several owners
def grouped(sizes: Sequence[int]) -> nn.Module:
    return nn.Sequential(*(nn.Linear(n, m) for n, m in pairwise(sizes)))


@pytest.mark.parametrize("init", INITS)
@settings(max_examples=4)
@given(rank=st.integers(1, 4), seed=seeds)
def test_a_group_shares_its_core(init: str, rank: int, seed: int) -> None:
    model = grouped((12, 9, 15, 6))
    plan = Plan({name: row(model, name, "scada-tucker", rank, "all") for name in sites(model)})
    found = fresh(model, plan, init=init, seed=seed)
    held = weights(found)
    core = next(k for k, labels in enumerate(held["0"].net.cores) if set(labels) <= set(held["0"].net.bonds))
    assert all(weight.cores[core] is held["0"].cores[core] for weight in held.values())
    assert math.isclose(rms(held["0"].cores[core]), 1, rel_tol=1e-5)
    others = [part for weight in held.values() for k, part in enumerate(weight.cores) if k != core]
    assert len({id(part) for part in others}) == len(others)
    for name, weight in held.items():
        assert math.isclose(rms(weight.in_axes()), rms(sites(model)[name].weight(model)), rel_tol=1e-4)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_shared_cores_are_those_that_a_group_is_given(kind: str) -> None:
    model = grouped((16, 16, 16))
    rows = [row(model, name, kind, 2, "all") for name in sites(model)]
    form, axes = rows[0].maker(), {"o": 16, "i": 16}
    nets = [each.network(axes) for each in rows]
    draw = torch.Generator().manual_seed(0)
    first, second = form.decompose_group([m.weight for m in model], nets, [None, None], generator=draw)
    same_one = tuple(k for k, (a, b) in enumerate(zip(first, second, strict=True)) if a is b)
    assert form.shared_cores(nets) == same_one
    assert form.shared_cores(nets[:1]) == ()


@pytest.mark.parametrize("init", INITS)
def test_tied_weights_stay_tied(init: str) -> None:
    model = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))
    model[2].weight = model[0].weight
    found = fresh(model, Plan({"0": row(model, "0", "tt", 2)}), init=init)
    assert found[0].weight is found[2].weight or all(
        a is b for a, b in zip(found[0].weight.cores, found[2].weight.cores, strict=True)
    )


@pytest.mark.parametrize("init", INITS)
def test_a_frozen_weight_stays_frozen(init: str) -> None:
    model = small()
    model[0].weight.requires_grad_(False)
    found = fresh(model, everywhere(model, "tt", 2), init=init)
    assert [core.requires_grad for core in found[0].weight.cores] == [False] * 4
    assert all(core.requires_grad for core in found[5].weight.cores)


# ---- training
@pytest.mark.parametrize(("rank", "init"), [(3, "dense"), (None, "cores")])
@pytest.mark.parametrize("kind", BUILT_IN)
def test_training_at_the_dense_rate_learns(kind: str, rank: int | None, init: str) -> None:
    """At a rate at which cores diverge (10 of 12 cases) without the warm-up and the clipping that `train` does."""
    model = small()
    found = fresh(model, everywhere(model, kind, rank), init=init, seed=3)
    steps = torch.optim.SGD(found.parameters(), lr=0.1, momentum=0.9)
    before = float(loss_of(found).detach())
    for k in range(60):
        for group in steps.param_groups:
            group["lr"] = 0.1 * min(1, (k + 1) / 6) * 0.5 * (1 + math.cos(math.pi * k / 60))
        steps.zero_grad()
        loss_of(found).backward()
        nn.utils.clip_grad_norm_(found.parameters(), 5)
        steps.step()
    assert float(loss_of(found).detach()) < 0.5 * before


# ---- mistakes
def test_mistakes_get_a_sentence() -> None:
    model = small()
    plan = everywhere(model, "svd", 2)
    with pytest.raises(TenfoldError, match="no init is called 'cors'; did you mean 'cores'"):
        fresh(model, plan, init="cors")  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="layer '9': the network has no such layer"):
        fresh(model, Plan({"9": Row("9", "svd", ranks=(2,))}))
    with pytest.raises(TenfoldError, match="layer '0': the weight is on device 'meta' and is not to be built"):
        fresh(copy.deepcopy(model).to("meta"), plan)
    with torch.no_grad():
        model[5].weight[0, 0] = math.nan
    with pytest.raises(TenfoldError, match="layer '5': the weight has values that are not finite"):
        fresh(model, plan)
    mixed = Plan({"0": row(model, "0", "svd", 2, "a"), "2": row(model, "2", "tt", 2, "a")})
    for init in INITS:
        with pytest.raises(TenfoldError, match="group of 0, 2: layers of one group have one format"):
            fresh(small(), mixed, init=init)
