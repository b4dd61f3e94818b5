"""A network's labels: everything derived from them against the plain einsum."""

import math
import string
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold import formats
from tenfold.network import (
    Count,
    Fold,
    Stages,
    TensorNetwork,
    deviation_of,
    full_rank,
    global_bound,
    local_bound,
    partitions_of,
    random_cores,
    unfolding_of,
    useful,
)
from tenfold.protocols import TenfoldError

seeds = st.integers(0, 2**16)


def random(net: TensorNetwork, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in net.shapes]


def einsum(net: TensorNetwork, cores: list[Tensor]) -> Tensor:
    """The dense tensor by one call of torch.einsum."""
    letter = dict(zip(net.sizes, string.ascii_letters, strict=False))
    terms = ",".join("".join(letter[x] for x in core) for core in net.cores)
    return torch.einsum(f"{terms}->{''.join(letter[x] for x in net.modes)}", *cores)


def network(cores: str, axes: str = "", **sizes: int) -> TensorNetwork:
    """A network from `"a b, b c"`; open labels are axes of one mode, in the order of `axes`."""
    labels = tuple(tuple(core.split()) for core in cores.split(","))
    names = axes.split()
    return TensorNetwork(labels, sizes, {x: sizes[x] for x in names}, tuple(Fold((x,), (x,)) for x in names))


@st.composite
def networks(draw: st.DrawFn) -> TensorNetwork:
    """Chains, stars, rings, hyperedges and grouped ones, of any small sizes."""
    each = lambda most: draw(st.integers(1, most))  # noqa: E731
    kind = draw(st.sampled_from(["chain", "star", "ring", "cp", "grouped", "window", "order"]))
    r = {f"r{k}": each(5) for k in range(4)}
    if kind == "chain":
        return network("i r0, r0 h r1, r1 w r2, r2 o", "o i h w", i=each(4), o=each(4), h=each(3), w=each(3), **r)
    if kind == "star":
        return network("i r0, r0 h r1 r2, w r2, r1 o", "o i h w", i=each(4), o=each(4), h=each(3), w=each(3), **r)
    if kind == "ring":
        return network("r0 i r1, r1 h r2, r2 o r0", "o i h", i=each(4), o=each(4), h=each(3), **r)
    if kind == "cp":
        return network("i r0, h r0, w r0, o r0", "o i h w", i=each(4), o=each(4), h=each(3), w=each(3), **r)
    if kind == "grouped":
        return network("g i r0, r0 g h r1, g r1 o", "g o i h", g=each(3), i=each(4), o=each(4), h=each(3), **r)
    if kind == "window":
        return network("i h r0, r0 w r1, r1 o", "o i h w", i=each(4), o=each(4), h=each(3), w=each(3), **r)
    axes = {"o": each(9), "i": each(9)}
    return formats.TT(order=3).network(axes)


# ---- the weight
@settings(max_examples=80)
@given(networks(), seeds)
def test_the_dense_tensor_norm_and_counts_are_those_of_one_einsum(net: TensorNetwork, seed: int) -> None:
    cores = random(net, seed)
    wanted = einsum(net, cores)
    assert torch.dist(net.dense(cores), wanted) <= 1e-12 * (1 + wanted.norm())
    assert torch.isclose(net.norm(cores), wanted.norm(), rtol=1e-7)
    assert net.params == sum(core.numel() for core in cores)
    assert net.weight(cores).shape == tuple(net.axes.values())


FOLDS = [
    ({"o": 5, "i": 6}, (Fold(("o", "i"), ("m1", "m2", "m3")),), (5, 5, 6)),  # 30 in 150: padded, straddled
    ({"o": 5, "i": 6}, (Fold(("o", "i"), ("m1", "m2", "m3")),), (2, 3, 5)),
    ({"o": 5, "i": 6}, (Fold(("i", "o"), ("m1", "m2")),), (6, 5)),
    ({"o": 7, "i": 11}, (Fold(("o",), ("o1", "o2")), Fold(("i",), ("i1", "i2"))), (2, 4, 4, 3)),
    ({"o": 4, "i": 6, "h": 3}, (Fold(("o",), ("o",)), Fold(("h", "i"), ("m1", "m2"))), (4, 2, 10)),
]


@pytest.mark.parametrize(("axes", "folds", "sizes"), FOLDS)
def test_modes_and_axes_are_inverse_and_padding_is_zero(
    axes: dict[str, int], folds: tuple[Fold, ...], sizes: tuple[int, ...]
) -> None:
    modes = [mode for fold in folds for mode in fold.modes]
    net = TensorNetwork((tuple(modes),), dict(zip(modes, sizes, strict=True)), axes, folds)
    weight = torch.randn(tuple(axes.values()))
    tensor = net.to_modes(weight)
    assert tensor.shape == sizes
    assert torch.equal(net.to_axes(tensor), weight)
    assert torch.equal(net.weight([tensor]), weight)
    assert math.isclose(tensor.norm(), weight.norm(), rel_tol=1e-5)  # nothing but zeros was added
    if len(folds) == 1:
        flat = weight.permute([list(axes).index(axis) for axis in folds[0].axes]).flatten()
        assert torch.equal(tensor.flatten()[: flat.numel()], flat)


def test_an_index_of_an_axis_is_the_mixed_radix_number_of_its_modes() -> None:
    net = TensorNetwork(
        (("o1", "o2"), ("i",)),
        {"o1": 3, "o2": 4, "i": 2},
        {"o": 11, "i": 2},
        (Fold(("o",), ("o1", "o2")), Fold(("i",), ("i",))),
    )
    weight = torch.arange(22.0).reshape(11, 2)
    tensor = net.to_modes(weight)
    for a, b, i in product(range(3), range(4), range(2)):
        assert tensor[a, b, i] == (weight[4 * a + b, i] if 4 * a + b < 11 else 0)


# ---- bonds
def test_bonds_and_unfoldings_of_a_star() -> None:
    net = network("i a, a h w b, b o", "o i h w", i=6, a=3, h=2, w=4, b=5, o=7)
    assert net.bonds == ("a", "b")
    assert net.ranks == (3, 5)
    assert unfolding_of(net, "a") == (("i",), ("o", "h", "w"))
    assert unfolding_of(net, "b") == (("i", "h", "w"), ("o",))
    assert (global_bound(net, "a"), global_bound(net, "b")) == (6, 7)
    assert (local_bound(net, "a"), local_bound(net, "b")) == (6, 7)  # of 2*4*5 and 6; of 3*2*4 and 7
    assert full_rank(net).ranks == (6, 7)


def test_a_ring_and_a_hyperedge_have_no_unfolding() -> None:
    ring = network("a i b, b h c, c o a", "o i h", i=2, h=3, o=4, a=5, b=6, c=7)
    assert [unfolding_of(ring, bond) for bond in ring.bonds] == [None] * 3
    assert global_bound(ring, "a") == 24
    assert local_bound(ring, "a") == 12  # b i = 12, c o = 28
    cp = network("i a, h a, o a", "o i h", i=2, h=3, o=4, a=5)
    assert unfolding_of(cp, "a") is None
    assert cp.is_hyperedge("a")
    assert global_bound(cp, "a") == local_bound(cp, "a") == 6


def test_groups_count_in_no_bound() -> None:
    net = network("g i a, a g o", "g o i", g=8, i=3, o=4, a=9)
    assert net.batched == ("g",)
    assert net.bonds == ("a",)
    assert unfolding_of(net, "a") == (("i",), ("o",))
    assert full_rank(net).ranks == (3,)


@settings(max_examples=80)
@given(networks(), seeds)
def test_clipped_is_a_fixed_point_that_holds_every_weight(net: TensorNetwork, seed: int) -> None:
    clipped = useful(net)
    assert clipped == useful(clipped)
    assert all(a <= b for a, b in zip(clipped.ranks, net.ranks, strict=True))
    assert clipped.params <= net.params
    for bond in net.bonds:
        assert 1 <= clipped.sizes[bond] <= min(global_bound(clipped, bond), local_bound(clipped, bond))
    if all(
        unfolding_of(net, bond) is not None for bond in net.bonds
    ):  # a tree: the smaller one holds the weight exactly
        weight, cores = net.dense(random(net, seed)), tree_cores(net, clipped, seed)
        assert torch.dist(clipped.dense(cores), weight) <= 1e-10 * (1 + weight.norm())


def tree_cores(net: TensorNetwork, clipped: TensorNetwork, seed: int) -> list[Tensor]:
    from tenfold.fitting import tree_decomposition

    tensor = net.dense(random(net, seed))
    if not net.batched:
        return tree_decomposition(tensor, clipped, root=0)
    mode = net.batched[0]
    drop = lambda labels: tuple(x for x in labels if x != mode)  # noqa: E731
    slim = TensorNetwork(
        tuple(map(drop, clipped.cores)), clipped.sizes, {x: n for x, n in net.axes.items() if x != mode},
        tuple(fold for fold in net.folds if fold.axes != (mode,)),
    )  # fmt: skip
    parts = [tree_decomposition(part, slim, root=0) for part in tensor.unbind(net.modes.index(mode))]
    return [
        torch.stack(each, core.index(mode)) for each, core in zip(zip(*parts, strict=True), clipped.cores, strict=True)
    ]


@settings(max_examples=80)
@given(networks(), seeds)
def test_merging_keeps_the_weight(net: TensorNetwork, seed: int) -> None:
    cores = random(net, seed)
    for bond in net.bonds:
        if net.is_hyperedge(bond):
            with pytest.raises(TenfoldError, match=f"bond '{bond}' joins {len(net.holders[bond])} cores"):
                net.merged(bond)
            continue
        merged, fewer = net.merged(bond), net.merge(cores, bond)
        assert bond not in merged.bonds
        assert [tuple(core.shape) for core in fewer] == list(merged.shapes)
        assert torch.dist(merged.dense(fewer), net.dense(cores)) <= 1e-12 * (1 + net.dense(cores).norm())


POSITIONS = {"h": (9, 4), "w": (7, 7)}


@settings(max_examples=80)
@given(networks())
def test_merging_a_bond_at_its_bound_never_costs(net: TensorNetwork) -> None:
    net = full_rank(net)
    for bond in net.bonds:
        if net.is_hyperedge(bond) or unfolding_of(net, bond) is None or net.sizes[bond] < local_bound(net, bond):
            continue
        merged = net.merged(bond)
        assert merged.params <= net.params
        first, second = net.holders[bond]
        rest = [(k,) for k in range(len(net.cores)) if k not in (first, second)]
        at = sum(1 for (k,) in rest if k < first)
        if second == first + 1:
            two = Stages.of(net, [*rest[:at], (first,), (second,), *rest[at:]])
            one = Stages.of(net, [*rest[:at], (first, second), *rest[at:]])
            assert one.macs(POSITIONS) <= two.macs(POSITIONS) or one.rebuilds


# ---- drawing
@settings(max_examples=40)
@given(networks(), st.floats(0.01, 10), seeds)
def test_a_draw_has_the_deviation_and_is_the_same_again(net: TensorNetwork, deviation: float, seed: int) -> None:
    draws = [
        random_cores(net, deviation, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for _ in range(2)
    ]
    weight = net.weight(draws[0])
    assert math.isclose(weight.square().mean().sqrt(), deviation, rel_tol=1e-6)
    assert math.isclose(deviation_of(net, draws[0]), deviation, rel_tol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))


def test_a_draw_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    assert (
        random_cores(network("i a, a o", "o i", i=2, o=3, a=2), 1.0, generator=torch.Generator())[0].dtype
        == torch.float32
    )
    assert torch.equal(torch.rand(1), wanted)


# ---- stages
@settings(max_examples=60)
@given(networks(), seeds)
def test_stage_tensors_of_every_partition_are_the_same_network(net: TensorNetwork, seed: int) -> None:
    cores = random(net, seed)
    wanted = net.dense(cores)
    for partition in partitions_of(net):
        stages = Stages.of(net, partition)
        tensors = stages.tensors(cores)
        assert stages.params == sum(tensor.numel() for tensor in tensors)
        if stages.rebuilds:
            assert torch.equal(
                net.to_axes(net.to_modes(tensors[0].reshape(tuple(net.axes.values())))), net.to_axes(wanted)
            )
            continue
        labels = tuple(stage.labels for stage in stages.each)
        small = TensorNetwork(labels, net.sizes, net.axes, net.folds)
        shaped = [tensor.reshape(small.shape(each)) for tensor, each in zip(tensors, labels, strict=True)]
        assert torch.dist(small.dense(shaped), wanted) <= 1e-12 * (1 + wanted.norm())


@settings(max_examples=60)
@given(networks())
def test_one_stage_costs_what_the_dense_layer_does(net: TensorNetwork) -> None:
    partitions = list(partitions_of(net))
    assert len(partitions) == 2 ** (len(net.cores) - 1)
    assert partitions[0] == (tuple(range(len(net.cores))),)
    places = {axis: POSITIONS.get(axis, (3, 3)) for axis in net.axes if axis in "dhw"} or {"tokens": (3, 3)}
    assert Stages.of(net, partitions[0]).macs(places) == math.prod(net.axes.values()) * math.prod(
        after for _, after in places.values()
    )


def test_stages_of_a_kernel_by_hand() -> None:
    net = network("i a, a h b, b w c, c o", "o i h w", i=8, a=3, h=3, b=4, w=5, c=2, o=6)
    stages = Stages.of(net, [(0,), (1,), (2,), (3,)])
    assert [stage.window for stage in stages.each] == [(), ("h",), ("w",), ()]
    places = {"h": (10, 5), "w": (12, 12)}  # the first stage sees the input, the second still all of w
    assert stages.macs(places) == 120 * 8 * 3 + 5 * 12 * 3 * 3 * 4 + 60 * 4 * 5 * 2 + 60 * 2 * 6
    cp = Stages.of(network("i a, h w a, o a", "o i h w", i=8, a=3, h=3, w=3, o=6), [(0,), (1,), (2,)])
    assert [stage.groups for stage in cp.each] == [(), ("a",), ()]  # depthwise in the middle
    assert [stage.summed for stage in cp.each] == [("i",), (), ("a",)]


@settings(max_examples=40)
@given(networks(), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_a_count_of_arrays_is_the_array_of_counts(net: TensorNetwork, ranks: list[int]) -> None:
    stages = Stages.of(net, [(k,) for k in range(len(net.cores))])
    for count in (net.param_count, stages.param_count, stages.mac_count(POSITIONS)):
        assert isinstance(count, Count)
        found = count({**net.sizes, **{bond: np.array(ranks) for bond in net.bonds}})
        wanted = [count({**net.sizes, **dict.fromkeys(net.bonds, rank)}) for rank in ranks]
        assert np.array_equal(np.broadcast_to(found, 3), wanted)


# ---- shared cores
def test_a_core_of_two_networks_gets_both_gradients() -> None:
    one, two = network("i a, a b, b o", "o i", i=3, a=2, b=2, o=4), network("i a, a b, b o", "o i", i=5, a=2, b=2, o=6)
    shared = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    weights = [net.weight([random(net)[0], shared, random(net)[2]]) for net in (one, two)]
    grads = [torch.autograd.grad(weight.sum(), shared, retain_graph=True)[0] for weight in weights]
    (weights[0].sum() + weights[1].sum()).backward()
    assert torch.allclose(shared.grad, grads[0] + grads[1])


# ---- mistakes
def test_mistakes_get_a_sentence() -> None:
    with pytest.raises(TenfoldError, match="label 'a' has size 0; sizes and ranks are 1 or more"):
        network("i a, a o", "o i", i=2, a=0, o=3)
    with pytest.raises(TenfoldError, match="label 'a' has size None"):
        network("i a, a o", "o i", i=2, o=3)
    with pytest.raises(TenfoldError) as caught:
        TensorNetwork((("o1", "o2"),), {"o1": 4, "o2": 3}, {"o": 16}, (Fold(("o",), ("o1", "o2")),))
    assert str(caught.value) == (
        "modes 4 x 3 of axis 'o' make 12, not 16; their product must be 16 or more (the rest is padded with zeros)."
    )
    net = network("i a, a o", "o i", i=2, a=2, o=3)
    with pytest.raises(TenfoldError, match=r"a weight of shape \(2, 3\) has not the axes {'o': 3, 'i': 2}"):
        net.to_modes(torch.ones(2, 3))
    for partition in ([(0,)], [(0,), (0, 1)], [(0, 1), ()], [(0,), (1,), (2,)]):
        with pytest.raises(TenfoldError, match="do not hold each of the 2 cores once"):
            Stages.of(net, partition)
    with pytest.raises(TenfoldError, match="no deviation 0; use a positive number"):
        random_cores(net, 0, generator=torch.Generator())
    straddled = TensorNetwork(
        (("m1", "a"), ("a", "m2")), {"m1": 5, "m2": 6, "a": 2}, {"o": 5, "i": 6}, (Fold(("o", "i"), ("m1", "m2")),)
    )
    with pytest.raises(TenfoldError, match="modes that straddle axes"):
        Stages.of(straddled, [(0,), (1,)])
    assert list(partitions_of(straddled)) == [((0, 1),)]
