"""Numbers on cores: exact where closed, bounded where truncated, never worse where iterated."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold import formats
from tenfold.fitting import (
    Metric,
    alternating_least_squares,
    balanced,
    energies,
    leading_vectors,
    orthogonal_iterations,
    quasi_newton,
    spectra,
    tail,
    tree_decomposition,
)  # fmt: skip
from tenfold.fitting.als import sweep, updated
from tenfold.fitting.hooi import renewed, walk
from tenfold.fitting.spectra import unfolded
from tenfold.formats.scada_tucker import summed_error
from tenfold.network import Fold, TensorNetwork, full_rank, random_cores, side_of, unfolding_of, useful
from tenfold.protocols import TenfoldError

seeds = st.integers(0, 2**16)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def ring(sizes: tuple[int, ...], rank: int) -> TensorNetwork:
    """A tensor ring with one mode a core."""
    count, names = len(sizes), tuple(f"n{k}" for k in range(len(sizes)))
    cores = tuple((f"b{k}", names[k], f"b{(k + 1) % count}") for k in range(count))
    axes = dict(zip(names, sizes, strict=True))
    bonds = {f"b{k}": rank for k in range(count)}
    return TensorNetwork(cores, {**axes, **bonds}, axes, tuple(Fold((n,), (n,)) for n in names))


def relative(net: TensorNetwork, cores: list[Tensor], tensor: Tensor) -> float:
    return float(torch.dist(net.dense(cores), tensor) / tensor.norm())


# ---- alternating least squares
def test_sweeps_go_on_while_the_error_falls() -> None:
    net = formats.CP().network({"o": 6, "i": 5, "h": 3}, (3,))
    tensor = net.dense(random_cores(net, 1.0, generator=generator(1), dtype=torch.float64))
    start = random_cores(net, 1.0, generator=generator(2), dtype=torch.float64)
    _, once = alternating_least_squares(tensor, net, start, sweeps=1)
    _, often = alternating_least_squares(tensor, net, start, sweeps=50)
    assert often < 0.1 * once


@settings(max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=3, max_size=4), st.integers(1, 3), st.booleans(), seeds)
def test_a_sweep_never_raises_the_error(sizes: list[int], rank: int, looped: bool, seed: int) -> None:
    axes = dict(zip("dhwo" if len(sizes) == 4 else "ihw", sizes, strict=True))
    net = ring(tuple(sizes), rank) if looped else tucker_network(sizes).with_ranks([rank] * len(axes))
    tensor, cores = normal(*sizes, seed=seed), random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64)
    before = relative(net, cores, tensor)
    for _ in range(4):
        cores, reported = alternating_least_squares(tensor, net, cores, sweeps=1)
        after = relative(net, cores, tensor)
        assert after <= before + 1e-7
        assert abs(after**2 - reported) < 1e-7
        before = after


def tucker_network(sizes: list[int] | tuple[int, ...]) -> TensorNetwork:
    names = tuple(f"n{k}" for k in range(len(sizes)))
    axes = dict(zip(names, sizes, strict=True))
    bonds = tuple(f"r{k}" for k in range(len(sizes)))
    cores = (*zip(names, bonds, strict=True), bonds)
    return TensorNetwork(cores, {**axes, **dict.fromkeys(bonds, 1)}, axes, tuple(Fold((n,), (n,)) for n in names))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_planted_cp_is_found_from_the_best_of_several_starts(rank: int) -> None:
    net = formats.CP().network({"o": 6, "i": 5, "h": 4}, (rank,))
    tensor = net.dense(random_cores(net, 1.0, generator=generator(rank), dtype=torch.float64))
    starts = [random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64) for seed in range(5)]
    found = [alternating_least_squares(tensor, net, start, sweeps=1000, tolerance=1e-9)[0] for start in starts]
    assert min(relative(net, cores, tensor) for cores in found) < 1e-6


def test_a_planted_ring_is_found() -> None:
    net = ring((5, 6, 4), 2)
    tensor = net.dense(random_cores(net, 1.0, generator=generator(3), dtype=torch.float64))
    starts = [random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64) for seed in range(5)]
    found = [alternating_least_squares(tensor, net, start, sweeps=1000, tolerance=1e-9)[0] for start in starts]
    assert min(relative(net, cores, tensor) for cores in found) < 1e-6


@settings(max_examples=15)
@given(st.sampled_from(["cp", "ring"]), st.integers(1, 3), seeds)
def test_several_starts_at_once_are_each_by_itself(kind: str, rank: int, seed: int) -> None:
    net = ring((4, 3, 5), rank) if kind == "ring" else formats.CP().network({"o": 4, "i": 3, "h": 5}, (rank,))
    tensor, draw = normal(*net.shape(net.modes), seed=seed), generator(seed)
    starts = [random_cores(net, 1.0, generator=draw, dtype=torch.float64) for _ in range(3)]
    starts[2][1] = torch.zeros_like(starts[2][1])  # a start of which nothing is seen
    together, errors = sweep(tensor, net, [torch.stack(each) for each in zip(*starts, strict=True)])
    for at, start in enumerate(starts):
        alone, error = sweep(tensor, net, start)
        assert torch.allclose(errors[at], error, rtol=1e-9, atol=1e-9)
        found = [core[at] for core in together]
        assert torch.dist(net.dense(found), net.dense(alone)) < 1e-6 * tensor.norm()


def test_a_sweep_leaves_an_exact_fit_exact() -> None:
    net = full_rank(tucker_network((4, 3, 2)))
    cores = random_cores(net, 1.0, generator=generator(0), dtype=torch.float64)
    tensor = net.dense(cores)
    assert relative(net, alternating_least_squares(tensor, net, cores, sweeps=2)[0], tensor) < 1e-12


def test_the_zero_tensor_has_zero_error() -> None:
    net = tucker_network((3, 4))
    start = random_cores(net, 1.0, generator=generator(0), dtype=torch.float64)
    cores, error = alternating_least_squares(torch.zeros(3, 4, dtype=torch.float64), net, start, sweeps=3)
    assert error == 0
    assert not net.dense(cores).any()


# ---- quasi-Newton
@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.integers(1, 3), st.booleans(), seeds)
def test_quasi_newton_steps_never_end_worse(sizes: list[int], rank: int, weighed: bool, seed: int) -> None:
    net, weight = ring(tuple(sizes), rank), normal(*sizes, seed=seed)
    metric = Metric({"n0": moment(sizes[0], seed)} if weighed else {})
    cores = random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64)
    errors = []
    for steps in (0, 3, 20):
        found, error = quasi_newton(weight, net, cores, steps=steps, metric=metric)
        cost = metric.squared_error(net.weight(found) - weight, tuple(net.axes))
        assert math.isclose(cost, error * metric.squared_error(weight, tuple(net.axes)), rel_tol=1e-9, abs_tol=1e-20)
        errors.append(error)
    assert errors[0] >= errors[1] >= errors[2] * (1 - 1e-12)


def test_quasi_newton_reaches_what_sweeps_do_and_beats_svd_in_no_metric() -> None:
    net = formats.SVD().network({"o": 6, "i": 5}, [2])
    weight, metric = normal(6, 5), Metric({"i": moment(5, 1), "o": moment(6, 2)})
    best = metric.squared_error(net.weight(formats.SVD().decompose(weight, net, metric)) - weight, ("o", "i"))
    start = random_cores(net, 1.0, generator=generator(0), dtype=torch.float64)
    found, _ = quasi_newton(weight, net, start, steps=300, metric=metric)
    cost = metric.squared_error(net.weight(found) - weight, ("o", "i"))
    assert best * (1 - 1e-9) <= cost <= best * 1.001


def test_quasi_newton_leaves_a_zero_weight_and_an_exact_fit() -> None:
    net = ring((3, 4, 2), 2)
    cores = random_cores(net, 1.0, generator=generator(0), dtype=torch.float64)
    assert quasi_newton(torch.zeros(3, 4, 2), net, cores, steps=5)[1] == 0
    assert quasi_newton(net.weight(cores), net, cores, steps=5)[1] < 1e-28


# ---- spectra
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=60)
@given(SHAPES, st.integers(1, 12), seeds)
def test_leading_vectors_span_what_the_full_decomposition_does(shape: tuple[int, int], rank: int, seed: int) -> None:
    matrix = normal(*shape, seed=seed)
    vectors, u = leading_vectors(matrix, rank), torch.linalg.svd(matrix).U
    kept = min(rank, *shape)
    assert vectors.shape == (shape[0], rank)
    assert torch.dist(vectors.mT @ vectors, torch.eye(rank).double() * (torch.arange(rank) < kept)) < 1e-12
    projected = vectors @ vectors.mT @ matrix
    assert torch.dist(projected, u[:, :kept] @ u[:, :kept].mT @ matrix) < 1e-10 * matrix.norm()


@settings(max_examples=40)
@given(SHAPES, st.integers(1, 8), st.floats(0, 12), seeds)
def test_vectors_in_single_precision_leave_out_hardly_more(
    shape: tuple[int, int], rank: int, fall: float, seed: int
) -> None:
    """Where what is left out is small, they are found in double precision."""
    u, _, v = torch.linalg.svd(normal(*shape, seed=seed), full_matrices=False)
    matrix = u * 10 ** (-fall * torch.linspace(0, 1, min(shape), dtype=torch.float64)) @ v
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra, "LARGE", 1)
        vectors = leading_vectors(matrix, rank)
    kept = min(rank, *shape)
    assert torch.dist(vectors.mT @ vectors, torch.eye(rank).double() * (torch.arange(rank) < kept)) < 1e-11
    left = (matrix - vectors @ (vectors.mT @ matrix)).square().sum()
    least = torch.linalg.svdvals(matrix).square()[kept:].sum()
    assert left <= least * 1.01 + 1e-20 * matrix.square().sum()


@settings(max_examples=40)
@given(SHAPES, st.integers(1, 5), seeds)
def test_a_gram_matrix_in_strips_is_its_lower_triangle_and_decomposes_as_the_whole(
    shape: tuple[int, int], strip: int, seed: int
) -> None:
    matrix = normal(*shape, seed=seed)
    whole = matrix @ matrix.mT if shape[0] <= shape[1] else matrix.mT @ matrix
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra, "STRIP", strip)
        lower, vectors, energy = spectra.gram(matrix), leading_vectors(matrix, 1), energies(matrix)
    assert torch.allclose(lower.tril(), whole.tril(), rtol=0, atol=1e-13 * float(whole.trace()))
    assert torch.allclose(energy, torch.linalg.svdvals(matrix).square(), rtol=0, atol=1e-12 * float(whole.trace()))
    assert (vectors.mT @ matrix).square().sum() >= (1 - 1e-12) * energy[0]


def test_a_long_matrix_costs_no_long_factor() -> None:
    matrix = normal(4, 200_000)  # a full SVD would want 300 GB
    assert leading_vectors(matrix, 2).shape == (4, 2)
    assert leading_vectors(matrix.mT, 2).shape == (200_000, 2)


@settings(max_examples=40)
@given(SHAPES, seeds)
def test_energies_are_squared_singular_values_and_tails_what_is_lost(shape: tuple[int, int], seed: int) -> None:
    matrix = normal(*shape, seed=seed)
    energy = energies(matrix)
    values = torch.linalg.svdvals(matrix).square()
    assert torch.allclose(energy, values, atol=1e-12 * float(values[0]))
    lost = tail(energy)
    assert len(lost) == min(shape) + 1
    assert lost[-1] == 0
    for r in range(min(shape) + 1):
        assert math.isclose(lost[r], values[r:].sum(), abs_tol=1e-12 * float(values.sum()))


# ---- trees
def hierarchical(sizes: tuple[int, int, int, int]) -> TensorNetwork:
    """HT of four modes: leaves, two transfers, a root matrix."""
    names = ("m1", "m2", "m3", "m4")
    axes = dict(zip(names, sizes, strict=True))
    bonds = ("a1", "a2", "a3", "a4", "c12", "c34")
    cores = (
        ("m1", "a1"),
        ("m2", "a2"),
        ("a1", "a2", "c12"),
        ("c12", "c34"),
        ("c34", "a3", "a4"),
        ("a3", "m3"),
        ("a4", "m4"),
    )
    return TensorNetwork(cores, {**axes, **dict.fromkeys(bonds, 1)}, axes, tuple(Fold((n,), (n,)) for n in names))


TREES: dict[str, formats.Format | None] = {
    "svd": formats.SVD(), "tt": formats.TT(), "tucker": formats.Tucker(), "tucker2": formats.Tucker2(),
    "ht2": formats.HT2(), "sttu": formats.STTu(), "stt": formats.STT(order=1), "ht": None,
}  # fmt: skip


def tree(name: str, sizes: tuple[int, int, int, int]) -> tuple[TensorNetwork, int]:
    form = TREES[name]
    if form is None:
        return hierarchical(sizes), 3
    net = form.network(dict(zip("oihw", sizes, strict=True)))
    hub = max(range(len(net.cores)), key=lambda k: sum(x in net.bonds for x in net.cores[k]))
    return net, hub


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", TREES)
@settings(max_examples=25)
@given(st.tuples(*[st.integers(1, 5)] * 4), st.lists(st.integers(1, 4), min_size=6, max_size=6), seeds)
def test_the_error_of_a_tree_is_at_most_the_sum_of_the_tails(
    together: bool, name: str, sizes: tuple[int, int, int, int], ranks: list[int], seed: int
) -> None:
    net, root = tree(name, sizes)
    wanted = useful(net.with_ranks(ranks[: len(net.bonds)])) if name == "ht" else net.with_ranks(
        [min(a, b) for a, b in zip(ranks, net.ranks, strict=False)]
    )  # fmt: skip
    tensor = normal(*wanted.shape(wanted.modes), seed=seed)
    cores = tree_decomposition(tensor, wanted, root, together=together)
    rows = [[wanted.modes.index(x) for x in unfolding_of(wanted, bond)[0]] for bond in wanted.bonds]
    lost = sum(
        float(tail(energies(unfolded(tensor, at)))[min(rank, min(unfolded(tensor, at).shape))])
        for at, rank in zip(rows, wanted.ranks, strict=True)
    )
    assert torch.dist(wanted.dense(cores), tensor).square() <= lost + 1e-10 * tensor.square().sum()
    for k, core in enumerate(cores):
        if k != root:
            bond = next(x for x in wanted.cores[k] if x in wanted.bonds and towards(wanted, k, root, x))
            flat = core.movedim(wanted.cores[k].index(bond), -1).reshape(-1, wanted.sizes[bond])
            gram = flat.mT @ flat  # an isometry, or one with columns of zeros
            assert torch.dist(gram @ gram, gram) < 1e-10


def towards(net: TensorNetwork, core: int, root: int, bond: str) -> bool:
    side = side_of(net, bond)
    assert side is not None
    return (core in side) != (root in side)


@pytest.mark.parametrize("name", TREES)
@settings(max_examples=20)
@given(st.lists(st.integers(1, 3), min_size=6, max_size=6), seeds)
def test_a_tree_with_these_ranks_comes_back(name: str, ranks: list[int], seed: int) -> None:
    net, root = tree(name, (5, 4, 3, 3))
    net = net.with_ranks(ranks[: len(net.bonds)])
    tensor = net.dense(random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64))
    for together in (False, True):
        assert relative(net, tree_decomposition(tensor, net, root, together=together), tensor) < 1e-12


@pytest.mark.parametrize("name", TREES)
@settings(max_examples=15)
@given(st.tuples(*[st.integers(1, 5)] * 4), st.lists(st.integers(1, 4), min_size=6, max_size=6), seeds)
def test_a_sweep_over_a_tree_leaves_every_core_the_best_for_the_others(
    name: str, sizes: tuple[int, int, int, int], ranks: list[int], seed: int
) -> None:
    net, root = tree(name, sizes)
    net = net.with_ranks(ranks[: len(net.bonds)])  # above the useful ranks, too
    tensor = normal(*net.shape(net.modes), seed=seed)
    total, cores = float(tensor.square().sum()), tree_decomposition(tensor, net, root)
    least = float(torch.dist(net.dense(cores), tensor).square())
    for leaf, heir in walk(net, root):
        cores[leaf], cores[heir] = renewed(tensor, net, cores, leaf, heir)
        lost = float(torch.dist(net.dense(cores), tensor).square())
        assert lost <= least + 1e-12 * total
        assert abs(lost - (total - float(cores[heir].square().sum()))) < 1e-12 * total
        best, error = updated(tensor, net, cores, heir)  # the same least squares by normal equations
        assert torch.dist(best, cores[heir]) < 1e-9 * tensor.norm()
        assert abs(error + total - lost) < 1e-9 * total
        least = lost
    (bond, *_) = net.bonds
    flat = unfolded(tensor, [net.modes.index(x) for x in unfolding_of(net, bond)[0]])
    assert least >= tail(energies(flat))[min(net.sizes[bond], *flat.shape)] - 1e-12 * total  # Eckart and Young


@pytest.mark.parametrize("name", TREES)
def test_sweeps_over_a_tree_win_until_nothing_is_left_to_win(name: str) -> None:
    net, root = tree(name, (6, 5, 4, 3))
    net = net.with_ranks([max(1, rank // 2) for rank in net.ranks])
    tensor = normal(*net.shape(net.modes))
    start = tree_decomposition(tensor, net, root)
    errors = [relative(net, orthogonal_iterations(tensor, net, start, root, sweeps=n), tensor) for n in (0, 1, 5, 200)]
    assert all(later <= before + 1e-12 for before, later in pairwise(errors))
    assert (errors[3] < errors[0]) == (len(net.bonds) > 1)
    swept, _ = alternating_least_squares(tensor, net, start, sweeps=200, tolerance=0.0)
    assert errors[3] <= relative(net, swept, tensor) * 1.001


# ---- balance
@settings(max_examples=40)
@given(st.sampled_from(["ring", "cp", "tucker", "tt"]), st.integers(1, 3), seeds)
def test_balancing_keeps_the_weight_and_evens_the_slices(kind: str, rank: int, seed: int) -> None:
    axes = {"o": 4, "i": 3, "h": 2}
    net = ring((4, 3, 2), rank) if kind == "ring" else formats.format_named(kind).network(axes)
    net = net.with_ranks([min(rank, full) for full in net.ranks])
    cores = random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64)
    cores[0] = cores[0] * 1e4
    even = balanced(net, cores)
    assert torch.dist(net.dense(even), net.dense(cores)) < 1e-12 * net.dense(cores).norm()
    for bond in net.bonds:
        norms = [even[k].movedim(net.cores[k].index(bond), 0).flatten(1).norm(dim=1) for k in net.holders[bond]]
        assert all(torch.allclose(norm, norms[0], rtol=0.05) for norm in norms)


def test_balancing_leaves_dead_slices_dead() -> None:
    net = formats.SVD().network({"o": 3, "i": 2})
    cores = [torch.tensor([[1.0, 0], [2, 0]]).double(), torch.ones(2, 3).double()]
    even = balanced(net, cores)
    assert torch.allclose(net.dense(even), net.dense(cores), rtol=1e-14)
    assert all(torch.isfinite(core).all() for core in even)


# ---- metric
def moment(size: int, seed: int) -> Tensor:
    factor = normal(size, 3 * size, seed=seed) * torch.logspace(0, 1, size).double()[:, None]
    return factor @ factor.mT / (3 * size)


@pytest.mark.parametrize("name", formats.BUILT_IN)
@settings(max_examples=3)
@given(st.booleans(), st.integers(1, 3), seeds)
def test_a_fit_in_a_metric_never_errs_more_in_it_than_one_without(name: str, both: bool, rank: int, seed: int) -> None:
    few = {"starts": 2, "sweeps": 12} if name in ("tr", "str") else {}
    form, axes = formats.format_named(name, **few), {"o": 5, "i": 6, "h": 2, "w": 3}
    weight = normal(*axes.values(), seed=seed)
    net = form.network(axes, modes={})
    net = net.with_ranks([rank] * len(net.bonds))
    metric = Metric({"i": moment(6, seed)} | ({"o": moment(5, seed + 1)} if both else {}))
    cores, plain = form.decompose(weight, net, metric), form.decompose(weight, net)
    cost = [metric.squared_error(net.weight(each) - weight, tuple(axes)) for each in (cores, plain)]
    assert cost[0] <= cost[1] * (1 + 1e-9) + 1e-20
    assert [tuple(core.shape) for core in cores] == list(net.shapes)


@settings(max_examples=5)
@given(seeds)
def test_nor_does_a_group_with_one_core(seed: int) -> None:
    axes = [{"o": 5, "i": 6, "h": 3}, {"o": 4, "i": 7, "h": 3}]
    form = formats.SCADATucker(sweeps=10, starts=2)
    nets = [form.network(each, [2, 2, 2], {}) for each in axes]
    weights = [normal(*each.values(), seed=seed + k) for k, each in enumerate(axes)]
    metrics = [Metric({"i": moment(6, seed)}), None]
    found = [form.decompose_group(weights, nets, each, generator=generator(0)) for each in (metrics, [None, None])]
    costs = [summed_error(weights, nets, [metrics[0], Metric({})], cores) for cores in found]
    assert costs[0] <= costs[1] * (1 + 1e-9)


def test_a_metric_makes_svd_the_best_in_that_metric() -> None:
    axes, left, right = {"o": 5, "i": 7}, moment(5, 1), moment(7, 2)
    weight, net = normal(5, 7), formats.SVD().network(axes, [2])
    metric = Metric({"o": left, "i": right})
    cost = metric.squared_error(net.weight(formats.SVD().decompose(weight, net, metric)) - weight, ("o", "i"))
    factors = [torch.linalg.cholesky(each) for each in (left, right)]  # another root than the symmetric one
    whitened = factors[0].mT @ weight @ factors[1]
    assert math.isclose(cost, float(tail(torch.linalg.svdvals(whitened).square())[2]), rel_tol=1e-9)


def test_the_cost_of_a_difference_is_the_error_of_the_outputs() -> None:
    inputs, difference = normal(50, 7, seed=1), normal(5, 7, seed=2)
    metric = Metric({"i": inputs.mT @ inputs})
    wanted = (inputs @ difference.mT).square().sum()
    assert math.isclose(metric.squared_error(difference, ("o", "i")), wanted, rel_tol=1e-12)
    assert math.isclose(Metric({}).squared_error(difference, ("o", "i")), difference.square().sum(), rel_tol=1e-12)


KEYS = st.sampled_from([("o", "i h w"), ("i h w", "o"), ("o h", "i w"), ("w i", "o"), ("h",), ("o w h i",), ()])


@settings(max_examples=25)
@given(KEYS, st.permutations("oihw"), st.lists(st.booleans(), min_size=2, max_size=2), seeds)
def test_the_cost_is_the_quadratic_form_of_the_kronecker_product(
    keys: tuple[str, ...], order: list[str], diagonal: list[bool], seed: int
) -> None:
    sizes = {"o": 3, "i": 4, "h": 2, "w": 3}
    axes = {axis: sizes[axis] for axis in order}
    difference = normal(*axes.values(), seed=seed)
    full = {key: moment(math.prod(sizes[a] for a in key.split()), seed + k) for k, key in enumerate(keys)}
    given_as = {key: m.diagonal() if d else m for (key, m), d in zip(full.items(), diagonal, strict=False)}
    held = [axis for key in keys for axis in key.split()]
    rest = [axis for axis in axes if axis not in held]
    matrix = torch.eye(math.prod(sizes[axis] for axis in rest)).double()
    for key in keys[::-1]:
        matrix = torch.kron(given_as[key].diag() if given_as[key].ndim == 1 else full[key], matrix)
    flat = difference.permute([list(axes).index(axis) for axis in (*held, *rest)]).flatten()
    assert math.isclose(Metric(given_as).squared_error(difference, tuple(axes)), flat @ matrix @ flat, rel_tol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
def test_each_group_has_a_moment_of_its_own(diagonal: bool) -> None:
    axes = {"g": 2, "o": 3, "i": 4, "h": 2}
    difference, each = normal(*axes.values()), torch.stack([moment(8, 1), moment(8, 2)])
    rows = each.diagonal(dim1=-2, dim2=-1)
    metric = Metric({"g i h": rows.flatten()} if diagonal else {"i h": each})
    wanted = 0.0
    for part, own, row in zip(difference.flatten(2), each, rows, strict=True):
        wanted += float(((part @ (row.diag() if diagonal else own)) * part).sum())
    assert math.isclose(metric.squared_error(difference, tuple(axes)), wanted, rel_tol=1e-12)


@settings(max_examples=25)
@given(st.sampled_from(["tt", "svd", "cp", "ht2"]), st.booleans(), st.booleans(), seeds)
def test_factors_are_partial_traces_of_the_whole(name: str, split: bool, diagonal: bool, seed: int) -> None:
    """Their product has its trace, and is all of a moment that is a product."""
    form, axes = formats.format_named(name), {"o": 4, "i": 6, "h": 2, "w": 3}
    net = form.network(axes, modes={"i": [2, 3]} if split and name == "tt" else {})
    parts = [moment(mode, seed + k) for k, mode in enumerate(net.shape(x for x in net.modes if x[0] in "ihw"))]
    product = torch.ones(1, 1).double()
    for part in parts:
        product = torch.kron(product, part)
    for whole, exact in ((product, True), (moment(36, seed), False)):
        held = whole.diagonal() if diagonal else whole
        factors = Metric({"i h w": held}).factors(net)
        assert [mode for modes in factors for mode in modes] == [mode for mode in net.modes if mode[0] in "ihw"]
        assert set(factors) >= {("i", "h", "w")} if name == "svd" else True
        back = torch.ones(1, 1).double()
        for factor in factors.values():
            back = torch.kron(back, factor.diag() if diagonal else factor)
        assert math.isclose(back.trace(), whole.trace(), rel_tol=1e-10)
        if exact:
            assert torch.allclose(back, held.diag() if diagonal else held, rtol=1e-9)


@settings(max_examples=25)
@given(st.sampled_from(["svd", "tt", "cp"]), st.booleans(), st.booleans(), seeds)
def test_a_metric_that_is_a_product_is_all_in_the_whitened_weight(
    name: str, left: bool, diagonal: bool, seed: int
) -> None:
    axes = {"o": 4, "i": 5}
    net, weight = formats.format_named(name).network(axes, modes={}), normal(4, 5, seed=seed)
    moments = {"i": moment(5, seed)} | ({"o": moment(4, seed + 1)} if left else {})
    metric = Metric({key: m.diagonal() if diagonal else m for key, m in moments.items()})
    assert metric.is_product(net)
    cost = metric.squared_error(weight, tuple(axes))
    assert math.isclose(float(metric.whitened_weight(weight, net).square().sum()), cost, rel_tol=1e-9)
    assert not metric.is_product(formats.TT(order=2).network({"o": 4, "i": 4}))
    joint = Metric({"i h": moment(6, seed)})
    assert joint.is_product(formats.SVD().network({"o": 4, "i": 3, "h": 2}))
    assert not joint.is_product(formats.TT().network({"o": 4, "i": 3, "h": 2}))


@settings(max_examples=10)
@given(st.integers(1, 4), seeds)
def test_a_kernel_cut_once_is_the_best_of_its_rank_in_the_whole_metric(rank: int, seed: int) -> None:
    axes, net = {"o": 5, "i": 3, "h": 2, "w": 2}, formats.SVD().network({"o": 5, "i": 3, "h": 2, "w": 2}, [rank])
    weight, left, right = normal(5, 3, 2, 2, seed=seed), moment(5, seed), moment(12, seed + 1)
    metric = Metric({"o": left, "i h w": right})
    cost = metric.squared_error(net.weight(formats.SVD().decompose(weight, net, metric)) - weight, tuple(axes))
    roots = [torch.linalg.cholesky(each) for each in (left, right)]
    spectrum = torch.linalg.svdvals(roots[0].mT @ weight.flatten(1) @ roots[1]).square()
    assert math.isclose(cost, float(tail(spectrum)[rank]), rel_tol=1e-6, abs_tol=1e-12)


@settings(max_examples=8)
@given(st.sampled_from(["tt", "svd", "cp", "tucker"]), st.booleans(), seeds)
def test_a_diagonal_is_the_matrix_that_it_stands_for(name: str, split: bool, seed: int) -> None:
    """In whitening, back again, and in fits; without a matrix of its size."""
    axes = {"o": 4, "i": 7}
    form = formats.TT(order=2) if split and name == "tt" else formats.format_named(name)
    net = form.network(axes)
    net = net.with_ranks([min(2, rank) for rank in net.ranks])
    rows = moment(7, seed).diagonal()
    thin, thick = Metric({"i": rows}), Metric({"i": rows.diag()})
    assert all(factor.ndim == 1 for factor in thin.factors(net).values())
    weight = normal(4, 7, seed=seed)
    assert torch.allclose(thin.whitened_weight(weight, net), thick.whitened_weight(weight, net), rtol=1e-9)
    cores = random_cores(net, 1.0, generator=generator(seed), dtype=torch.float64)
    for one, other in zip(thin.unwhitened(cores, net), thick.unwhitened(cores, net), strict=True):
        assert torch.allclose(one, other, rtol=1e-9)
    errors = [
        thick.squared_error(net.weight(form.decompose(weight, net, each)) - weight, ("o", "i"))
        for each in (thin, thick, None)
    ]
    assert errors[0] <= errors[2] * (1 + 1e-9)
    assert math.isclose(errors[0], errors[1], rel_tol=0.05)


def test_a_wide_diagonal_costs_no_matrix() -> None:
    rows = torch.linspace(0, 1, 200_000, dtype=torch.float64)  # (a matrix of them would take 320 GB)
    net = formats.SVD().network({"o": 2, "i": 200_000}, [1])
    metric, weight = Metric({"i": rows}), normal(2, 200_000)
    cores = formats.SVD().fit(metric.whitened(net.to_modes(weight), net), net, generator(0))
    found, plain = (net.weight(each) for each in (metric.unwhitened(cores, net), formats.SVD().decompose(weight, net)))
    error, other = (metric.squared_error(each - weight, ("o", "i")) for each in (found, plain))
    assert 0 < error < other
    assert math.isclose(metric.squared_error(weight, ("o", "i")), float((weight.square() * rows).sum()), rel_tol=1e-9)


def test_directions_that_no_input_has_are_cut_first() -> None:
    basis = normal(2, 6, seed=3)
    metric = Metric({"i": basis.mT @ basis})
    weight, net = normal(4, 6), formats.SVD().network({"o": 4, "i": 6}, [2])
    cost = metric.squared_error(net.weight(formats.SVD().decompose(weight, net, metric)) - weight, ("o", "i"))
    assert cost < 1e-5 * metric.squared_error(weight, ("o", "i"))


def test_a_metric_that_cannot_be_gets_a_sentence() -> None:
    weight = normal(6, 8)
    net = formats.SVD().network({"o": 6, "i": 8})
    with pytest.raises(TenfoldError, match="second moment of axis 'i' is zero; calibrate on inputs that reach"):
        formats.SVD().decompose(weight, net, Metric({"i": torch.zeros(8, 8)}))
