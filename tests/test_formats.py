"""One suite for every format: exact at full rank, true to planted ranks, and a sentence for every mistake."""

import itertools
import math
from collections.abc import Mapping
from itertools import pairwise

import pytest
import tensorly
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.decomposition import parafac, tensor_ring, tensor_train
from tensorly.decomposition import tucker as tensorly_tucker
from torch import Tensor

from tenfold import formats
from tenfold.documents import fits, hints
from tenfold.fitting import degeneracy, energies, leading_vectors, tail
from tenfold.fitting.correction import sensitivity
from tenfold.fitting.spectra import unfolded
from tenfold.formats import (
    BTD,
    BUILT_IN,
    CP,
    HT,
    HT2,
    STR,
    STT,
    SVD,
    TR,
    TT,
    ADATucker,
    Format,
    SCADATucker,
    STTu,
    Tucker,
    Tucker2,
    format_named,
)
from tenfold.formats.ada_tucker import near_hypercube
from tenfold.formats.base import options_of
from tenfold.formats.btd import grouped_cp
from tenfold.formats.tr import rings
from tenfold.models import ZOO
from tenfold.network import Stages, TensorNetwork, partitions_of, random_cores, unfolding_of, useful
from tenfold.protocols import TenfoldError

seeds = st.integers(0, 2**16)


def normal(axes: Mapping[str, int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(axes.values()), generator=draw, dtype=torch.float64).to(dtype)


def relative(net: TensorNetwork, cores: list[Tensor], weight: Tensor) -> float:
    return float(torch.dist(net.weight([core.double() for core in cores]), weight.double()) / weight.double().norm())


# ---- mistakes
MATRIX, KERNEL, GROUPED = {"o": 6, "i": 5}, {"o": 6, "i": 5, "h": 4, "w": 3}, {"g": 2, "o": 6, "i": 5, "h": 3, "w": 3}


@pytest.mark.parametrize("name", [name for name, kind in BUILT_IN.items() if not kind.reshapes])
def test_modes_that_cross_axes_get_a_sentence(name: str) -> None:
    with pytest.raises(TenfoldError, match="modes of 'o i' cross the borders of axes"):
        format_named(name).network(MATRIX, None, {"o i": (5, 6)})


@pytest.mark.parametrize("name", BUILT_IN)
def test_modes_of_the_groups_get_a_sentence(name: str) -> None:
    with pytest.raises(TenfoldError, match=r"axis 'g' \(the groups\) is not split"):
        format_named(name).network(GROUPED, None, {"g": (2, 1)})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("svd", {"first": 3}, "option 'first' of format 'svd' takes text or nothing, not 3."),
        ("svd", {"frist": "i"}, "format 'svd' has no option 'frist'; did you mean 'first'?"),
        ("tt", {"order": "two"}, "option 'order' of format 'tt' takes a whole number from 1 or nothing, not 'two'."),
        ("tt", {"order": True}, "option 'order' of format 'tt' takes a whole number from 1 or nothing, not True."),
        ("tt", {"order": 0}, "option 'order' of format 'tt' takes a whole number from 1 or nothing, not 0."),
        ("tt", {"layout": "pair"}, "tt has no layout 'pair'; did you mean 'pairs'?"),
        ("cp", {"window": "splitt"}, "cp has no window 'splitt'; use 'joint' or 'split'."),
        ("cp", {"starts": 0}, "option 'starts' of format 'cp' takes a whole number from 1, not 0."),
        ("ht", {"order": 0}, "option 'order' of format 'ht' takes a whole number from 1 or nothing, not 0."),
        (
            "ht",
            {"tree": "(1 2 3)"},
            "'(1 2 3)' is no binary tree; write 'balanced', 'caterpillar', or leaves in "
            "brackets by twos, such as ((1 2) (3 4)).",
        ),
        (
            "ada-tucker",
            {"order": 1},
            "option 'order' of format 'ada-tucker' takes a whole number from 2 or nothing, not 1.",
        ),
        ("btd", {"block": 0}, "option 'block' of format 'btd' takes a whole number from 1 or nothing, not 0."),
        ("tr", {"sweeps": -1}, "option 'sweeps' of format 'tr' takes a whole number from 0, not -1."),
        ("stt", {"t": 0}, "option 't' of format 'stt' takes a whole number from 1, not 0."),
        ("stt", {"layout": "chain"}, "stt has no layout 'chain'; there are split, pairs."),
        ("svdd", {}, "no format is called 'svdd'; did you mean 'svd'?"),
    ],
)
def test_wrong_options_get_a_sentence(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        format_named(name, **options)
    assert str(caught.value) == words


NUMBERS = [(name, option) for name, kind in BUILT_IN.items() for option in hints(kind) if fits(2, hints(kind)[option])]


@pytest.mark.parametrize(("name", "option"), NUMBERS)
@given(value=st.integers(max_value=-1))
def test_every_number_has_a_least_value(name: str, option: str, value: int) -> None:
    words = rf"option '{option}' of format '{name}' takes a whole number from \d( or nothing)?, not {value}\."
    with pytest.raises(TenfoldError, match=words):
        format_named(name, **{option: value})


@pytest.mark.parametrize("first", ["o", "h w", "i i", "i x", "", "i h w o"])
def test_a_first_core_that_cannot_be_gets_a_sentence(first: str) -> None:
    with pytest.raises(TenfoldError, match="SVD's first core cannot hold"):
        SVD(first).network(KERNEL)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_window_axis_in_modes_is_applied_in_one_stage(name: str) -> None:
    net = format_named(name).network(KERNEL, None, {"h": (2, 2)})
    assert [len(partition) for partition in partitions_of(net)] == [1]
    with pytest.raises(TenfoldError, match="split a window are applied in one stage"):
        Stages.of(net, [(k,) for k in range(len(net.cores))])


# ---- corners
@pytest.mark.parametrize("name", BUILT_IN)
def test_one_core_is_the_weight(name: str) -> None:
    net = format_named(name).network(MATRIX, [None] * len(format_named(name).network(MATRIX).bonds))
    assert len(net.cores) == 1
    weight = normal(MATRIX)
    assert torch.equal(net.weight(format_named(name).decompose(weight, net)), weight)


@pytest.mark.parametrize(("window", "rank"), [("joint", 6), ("split", 30)])
def test_the_largest_factor_bounds_the_rank_of_cp(window: str, rank: int) -> None:
    assert CP(window=window).network({"o": 3, "i": 2, "h": 5, "w": 5}).ranks == (rank,)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_zero_weight_can_still_be_trained(name: str) -> None:
    net = format_named(name).network(KERNEL)
    cores = [core.requires_grad_() for core in format_named(name).decompose(torch.zeros(6, 5, 4, 3), net)]
    weight = net.weight(cores)
    assert not weight.any()
    (weight - 1).square().sum().backward()
    assert any(core.grad.any() for core in cores)


# ---- laws for every format on generated weights
AXES = st.one_of(
    st.fixed_dictionaries({"o": st.integers(1, 13), "i": st.integers(1, 13)}),
    st.tuples(
        st.sampled_from(["o i h", "o i h w", "o i d h w", "g o i h", "g o i h w"]),
        st.lists(st.integers(1, 4), min_size=5, max_size=5),
    ).map(lambda given: dict(zip(given[0].split(), given[1], strict=False)) | {"o": 7}),
    st.sampled_from(
        [{"o": 5, "i": 3, "h": 2, "w": 2}, {"o": 4, "i": 6, "h": 4, "w": 3}, {"o": 3, "i": 7, "h": 1, "w": 1}]
    ),
)  # fmt: skip
OPTIONS = {
    "svd": [{}, {"first": "i"}],
    "tucker": [{}, {"sweeps": 2}],
    "tucker2": [{}, {"sweeps": 2}],
    "ada-tucker": [{}, {"order": 4, "sweeps": 0}, {"align": True}, {"order": 2, "align": False}],
    "scada-tucker": [{}],
    "cp": [{}, {"window": "split"}],
    "btd": [{}, {"block": 2, "sweeps": 3, "refine": 2}],
    "tt": [
        {},
        {"layout": "pairs", "order": 2},
        {"layout": "split", "order": 2},
        {"layout": "split", "order": 3, "sweeps": 1},
    ],
    "tr": [{"starts": 2, "sweeps": 12}, {"order": 1, "sweeps": 0}],
    "ht": [{}, {"order": 3}, {"tree": "caterpillar", "order": 3, "sweeps": 1}],
    "ht2": [{}],
    "sttu": [{}, {"sweeps": 1}],
    "stt": [{}, {"layout": "pairs", "order": 3}, {"t": 3, "sweeps": 1}],
    "str": [{"starts": 2, "sweeps": 12}, {"order": 1, "sweeps": 0}],
}
EVERY = [(name, options) for name, choices in OPTIONS.items() for options in choices]
CLOSED = [(name, options) for name, options in EVERY if not BUILT_IN[name].iterates]


def test_every_format_is_here() -> None:
    assert list(OPTIONS) == list(BUILT_IN)
    for name, options in EVERY:
        form = format_named(name.upper(), **options)
        assert (formats.name_of(form), options_of(form)) == (name, options)


@pytest.mark.parametrize(("name", "options"), EVERY)
@settings(max_examples=15)
@given(AXES, seeds)
def test_full_rank_is_exact(name: str, options: dict[str, object], axes: dict[str, int], seed: int) -> None:
    weight = normal(axes, seed)
    for form in format_named(name, **options).variants(axes):
        net = form.network(axes)
        assert net == useful(net)
        assert relative(net, form.decompose(weight, net), weight) < (1e-10 if form.iterates else 1e-12)


@pytest.mark.parametrize(("name", "options"), CLOSED)
@settings(max_examples=15)
@given(AXES, st.integers(1, 3), seeds)
def test_planted_ranks_are_found(
    name: str, options: dict[str, object], axes: dict[str, int], rank: int, seed: int
) -> None:
    form = format_named(name, **options)
    folds = form.network(axes).folds
    modes = {" ".join(fold.axes): form.network(axes).shape(fold.modes) for fold in folds if fold.axes != ("g",)}
    axes = axes | {axis: math.prod(sizes) for axis, sizes in modes.items() if " " not in axis}  # padding raises ranks
    if any(math.prod(sizes) > math.prod(axes[x] for x in axis.split()) for axis, sizes in modes.items()):
        return
    net = form.network(axes, None, modes)
    net = net.with_ranks([min(rank, full) for full in net.ranks])
    weight = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert relative(net, form.decompose(weight, net), weight) < 1e-12


@pytest.mark.parametrize(("name", "options"), EVERY)
@settings(max_examples=6)
@given(AXES, st.integers(1, 3), seeds)
def test_cores_have_the_shapes_of_the_network_and_do_not_change(
    name: str, options: dict[str, object], axes: dict[str, int], rank: int, seed: int
) -> None:
    form, weight = format_named(name, **options), normal(axes, seed)
    net = form.network(axes)
    net = net.with_ranks([rank] * len(net.bonds))  # above the useful ranks, too
    cores, again = form.decompose(weight, net), form.decompose(weight, net)
    assert [tuple(core.shape) for core in cores] == list(net.shapes)
    assert all(torch.equal(core, other) for core, other in zip(cores, again, strict=True))
    assert net.params == sum(core.numel() for core in cores)
    assert relative(net, cores, weight) <= 1 + 1e-12  # no fit is worse than zero


@pytest.mark.parametrize(("name", "options"), CLOSED)
@settings(max_examples=15)
@given(AXES, seeds, st.data())
def test_a_bond_without_a_rank_is_a_bond_at_its_full_rank(
    name: str, options: dict[str, object], axes: dict[str, int], seed: int, data: st.DataObject
) -> None:
    form, weight = format_named(name, **options), normal(axes, seed)
    modes = form.default_modes(axes)
    ranks = [None if data.draw(st.booleans()) else rank for rank in form.network(axes).ranks]
    net = form.network(axes, ranks, modes)
    assert net.ranks == tuple(rank for rank in ranks if rank is not None)
    assert relative(net, form.decompose(weight, net), weight) < 1e-12


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=30)
@given(AXES, st.booleans())
def test_what_stands_in_suits(name: str, axes: dict[str, int], first: bool) -> None:
    found = format_named(name).suit(axes, first=first)
    assert isinstance(found, Format)
    assert found.suit(axes, first=first) == found
    assert found.network(axes).params >= 1
    if name in ("tucker2", "cp", "btd", "ht2") and all(axes.get(x, 1) == 1 for x in "dhw"):
        assert isinstance(found, SVD)


@pytest.mark.parametrize(
    ("name", "options", "dtype"),
    [(*each, dtype) for each, dtype in zip(EVERY, itertools.cycle([torch.bfloat16, torch.float16]), strict=False)],
)
def test_half_weights_are_accepted(name: str, options: dict[str, object], dtype: torch.dtype) -> None:
    weight = normal(KERNEL, dtype=dtype)
    form = format_named(name, **options)
    net = form.network(KERNEL)
    net = net.with_ranks([max(1, rank // 2) for rank in net.ranks])
    cores = form.decompose(weight, net)
    assert all(core.dtype == dtype for core in cores)
    exact = relative(net, form.decompose(weight.double(), net), weight)
    assert relative(net, cores, weight) <= exact + 4 * torch.finfo(dtype).eps  # a rounding a core


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_weight_that_cannot_be_gets_a_sentence(name: str) -> None:
    form = format_named(name)
    net, bonds = form.network(KERNEL), form.network(KERNEL).bonds
    with pytest.raises(TenfoldError, match="values that are not finite; check the file"):
        form.decompose(torch.full((6, 5, 4, 3), math.nan), net)
    with pytest.raises(TenfoldError, match=r"shape \(5, 6, 4, 3\) has not the axes {'o': 6, 'i': 5, 'h': 4, 'w': 3}"):
        form.decompose(torch.ones(5, 6, 4, 3), net)
    wanted = f"{len(bonds) + 1} ranks given, {len(bonds)} wanted, for the bonds {', '.join(bonds)}."
    with pytest.raises(TenfoldError, match=wanted):
        form.network(KERNEL, [1] * (len(bonds) + 1))
    with pytest.raises(TenfoldError, match=f"no rank 0 for bond '{bonds[0]}'; ranks are 1 or more."):
        form.network(KERNEL, [0] * len(bonds))
    with pytest.raises(TenfoldError, match="modes 2 x 2 of axis 'o' make 4, not 6; their product must be 6 or more"):
        form.network(KERNEL, None, {"o": (2, 2), "i": (5, 1)})
    with pytest.raises(TenfoldError, match="modes are given for axis 'x'; the weight has the axes o i h w"):
        form.network(KERNEL, None, {"x": (2, 2)})


# ---- equalities between independent routes (METHODS 0.6)
def test_tensor_train_of_two_modes_is_svd_is_tucker() -> None:
    weight = normal({"o": 9, "i": 7})
    optimum = tail(torch.linalg.svdvals(weight).square())[3].sqrt() / weight.norm()
    for form in (SVD(), TT(layout="split", order=1)):
        net = form.network({"o": 9, "i": 7}, [3])
        assert abs(relative(net, form.decompose(weight, net), weight) - optimum) < 1e-12
    both = Tucker().network({"o": 9, "i": 7}, [3, 3])
    assert abs(relative(both, Tucker().decompose(weight, both), weight) - optimum) < 1e-12
    absorbed = Tucker().network({"o": 9, "i": 7}, [3, None])
    assert absorbed.cores == (("i", "r1"), ("r1", "o"))


def test_a_superdiagonal_core_makes_tucker_cp() -> None:
    cp = CP().network({"o": 5, "i": 4, "h": 3}, [3])
    tucker = Tucker().network({"o": 5, "i": 4, "h": 3}, [3, 3, 3])
    i, h, o = random_cores(cp, 1.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    core = torch.zeros(3, 3, 3, dtype=torch.float64)
    core[range(3), range(3), range(3)] = 1
    assert torch.dist(tucker.weight([i, h, core, o.mT]), cp.weight([i, h, o])) < 1e-12


def test_cp_of_the_product_of_all_axes_but_the_largest_is_exact() -> None:
    axes = {"o": 7, "i": 2, "h": 3}
    weight, net = normal(axes), CP().network(axes)
    assert net.ranks == (6,)
    hot = torch.eye(6, dtype=torch.float64).reshape(2, 3, 6)  # factors that are one at the pair of a term
    i, h = hot.amax(1), hot.amax(0)
    assert torch.dist(net.weight([i, h, weight.reshape(7, 6)]), weight) == 0
    assert relative(net, CP().decompose(weight, net), weight) < 1e-14


def test_tucker2_is_tucker_without_the_factors_of_the_window() -> None:
    weight = normal(KERNEL)
    tucker = Tucker().network(KERNEL, [3, None, None, 4])
    other = Tucker2().network(KERNEL, [3, 4])
    assert [set(core) for core in tucker.cores] == [{"i", "r1"}, {"h", "w", "r1", "r4"}, {"r4", "o"}]
    assert torch.dist(
        tucker.weight(Tucker().decompose(weight, tucker)), other.weight(Tucker2().decompose(weight, other))
    ) < 1e-12 * weight.norm()  # fmt: skip


def test_ht2_is_the_tensor_train_of_i_h_w_o_and_its_corners_are_the_other_formats() -> None:
    ht2, train = HT2().network(KERNEL, [3, 8, 4]), TT().network(KERNEL, [3, 8, 4])
    assert ht2.cores == train.cores == (("i", "r1"), ("r1", "h", "r2"), ("r2", "w", "r3"), ("r3", "o"))
    assert [set(unfolding_of(ht2, bond)[0]) for bond in ht2.bonds] == [{"i"}, {"i", "h"}, {"i", "h", "w"}]
    merged = HT2().network(KERNEL, [3, None, 4])
    assert [set(core) for core in merged.cores] == [{"i", "r1"}, {"r1", "h", "w", "r3"}, {"r3", "o"}]  # Tucker-2
    spatial = HT2().network(KERNEL, [None, 8, None])
    assert [set(core) for core in spatial.cores] == [{"i", "h", "r2"}, {"r2", "w", "o"}]
    first = HT2().network(KERNEL, [None, None, 4])
    assert [set(core) for core in first.cores] == [{"i", "h", "w", "r3"}, {"r3", "o"}]
    weight = normal(KERNEL)
    for net, form, twin in ((spatial, SVD("i h"), [8]), (first, SVD("i h w"), [4])):
        other = form.network(KERNEL, twin)
        assert torch.dist(
            net.weight(HT2().decompose(weight, net)), other.weight(form.decompose(weight, other))
        ) < 1e-12 * weight.norm()  # fmt: skip
    hosvd = Tucker2().network(KERNEL, [3, 4])
    assert relative(merged, HT2().decompose(weight, merged), weight) < 1.05 * relative(
        hosvd, Tucker2(sweeps=20).decompose(weight, hosvd), weight
    )


def test_both_channel_factors_of_ht2_come_from_the_kernel_itself() -> None:
    weight, net = normal(KERNEL), HT2().network(KERNEL, [2, 4, 3])
    first, *_, last = HT2().decompose(weight, net)
    for factor, axis in ((first, 1), (last.mT, 0)):
        wanted = leading_vectors(unfolded(weight, [axis]), factor.shape[1])
        found = torch.linalg.qr(factor).Q
        assert torch.dist(found @ found.mT, wanted @ wanted.mT) < 1e-10


def test_the_worked_count() -> None:
    axes = {"o": 64, "i": 64, "h": 3, "w": 3}
    assert HT2().network(axes, [24, 40, 24]).params == 8832


def test_a_kernel_of_one_position_in_pairs_is_the_matrix_in_pairs() -> None:
    kernel, matrix = {"o": 6, "i": 4, "h": 1, "w": 1}, {"o": 6, "i": 4}
    weight, modes = normal(matrix), {"i": (2, 2), "o": (3, 2)}
    form = TT(layout="pairs")
    one = form.network(kernel, [None, 3], modes)
    two = form.network(matrix, [3], modes)
    found = one.weight(form.decompose(weight.reshape(6, 4, 1, 1), one)).reshape(6, 4)
    assert torch.dist(found, two.weight(form.decompose(weight, two))) < 1e-12


def test_a_sum_of_indices_has_tensor_train_ranks_two() -> None:
    axes = {"o": 4, "i": 3, "h": 5}
    weight = (torch.arange(4)[:, None, None] + torch.arange(3)[:, None] + torch.arange(5)).double()
    exact, short = TT().network(axes, [2, 2]), TT().network(axes, [2, 1])
    assert relative(exact, TT().decompose(weight, exact), weight) < 1e-12
    assert relative(short, TT().decompose(weight, short), weight) > 1e-2
    spectrum = energies(unfolded(exact.to_modes(weight), [1]))
    assert (spectrum > 1e-12 * spectrum[0]).sum() == 2


# ---- the tensor ring
RINGED = {"o": 6, "i": 8, "h": 3, "w": 3}
RING_MODES = {"i": (2, 4), "o": (3, 2)}


def test_a_ring_whose_closing_bond_is_one_is_the_tensor_train() -> None:
    weight, ranks = normal(RINGED), [2, 5, 4, 2]
    ring, train = TR(sweeps=0).network(RINGED, [1, *ranks], RING_MODES), TT(layout="split")
    assert [set(core) for core in ring.without(("r0",)).cores] == [
        set(core) for core in train.network(RINGED, ranks, RING_MODES).cores
    ]
    net = train.network(RINGED, ranks, RING_MODES)
    best = relative(net, train.decompose(weight, net), weight)
    assert relative(ring, TR(sweeps=0).decompose(weight, ring), weight) <= best * (1 + 1e-12)  # one of its starts
    assert ring.params == net.params


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_ring_is_found(seed: int) -> None:
    net = TR().network(RINGED, [2] * 5, RING_MODES)
    weight = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert relative(net, TR(sweeps=100).decompose(weight, net), weight) < 1e-6


@pytest.mark.parametrize(("sizes", "seed"), [((12, 10, 5, 3, 2, 3), 9), ((5, 7, 5, 2, 4, 2), 2)], ids=str)
def test_a_planted_ring_that_one_start_misses_is_found_from_several(sizes: tuple[int, ...], seed: int) -> None:
    axes = dict(zip("oih", sizes, strict=False))
    net = TR(order=1).network(axes, sizes[3:])
    weight = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    one, several = (
        relative(net, form.decompose(weight, net, generator=torch.Generator().manual_seed(9)), weight)
        for form in (TR(order=1, starts=1), TR(order=1))
    )
    assert several < 1e-9 < one


@settings(max_examples=10)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), seeds)
def test_more_starts_of_a_ring_are_never_worse(one: int, two: int, starts: int, seed: int) -> None:
    axes = {"g": 2, "o": 4, "i": 5, "h": 3}
    weight, net = normal(axes, seed), TR(order=1).network(axes, [one, two, 2])
    errors = [
        relative(net, TR(order=1, starts=n, sweeps=8).decompose(weight, net), weight) for n in (starts, starts + 1)
    ]
    assert errors[1] <= errors[0] * (1 + 1e-9)


def test_a_ring_errs_less_with_sweeps_and_less_than_that_of_tensorly() -> None:
    axes = {"o": 6, "i": 8, "h": 5}
    weight, net = normal(axes), TR(order=1).network(axes, [2, 4, 3])
    none, some = (relative(net, TR(order=1, sweeps=n).decompose(weight, net), weight) for n in (0, 30))
    theirs = tensor_ring(weight.permute(1, 2, 0).numpy(), rank=[2, 4, 3, 2])
    wanted = torch.from_numpy(tensorly.tr_to_tensor(theirs)).permute(2, 0, 1)
    assert some < none <= float(torch.dist(wanted, weight) / weight.norm()) * (1 + 1e-12)


def test_the_counts_of_tr_nets() -> None:
    axes = {"o": 64, "i": 64, "h": 3, "w": 3}
    net = TR().network(axes, [10] * 7)
    assert net.params == 10**2 * (12 + 9 + 12)  # r^2 (sum i + kh kw + sum o), METHODS E.5
    matrix = TR().network({"o": 300, "i": 784}, [5] * 8, {"i": (4, 7, 4, 7), "o": (3, 4, 5, 5)})
    assert matrix.params == 5**2 * (22 + 17)


# ---- rings of whole axes
RING = {"o": 12, "i": 10, "h": 3, "w": 3}


def lopsided(axes: Mapping[str, int], seed: int = 0) -> Tensor:
    """A weight whose unfoldings have a decay, as trained ones do."""
    near = TR(ring="i hw o").network(axes, [2, 4, 3])
    made = near.weight(random_cores(near, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return made + 0.2 * normal(axes, seed)


def test_a_ring_of_whole_axes_is_tucker2_or_ht2_where_its_closing_bond_is_one() -> None:
    weight = normal(RING)
    for words, twin, ranks in (("i hw o", Tucker2(), [3, 4]), ("i h w o", TT(), [3, 6, 4])):
        net, other = TR(ring=words).network(RING, [1, *ranks]), twin.network(RING, ranks)
        assert [set(core) for core in net.without(("r0",)).cores] == [set(core) for core in other.cores]
        best = relative(other, twin.decompose(weight, other), weight)
        assert relative(net, TR(ring=words).decompose(weight, net), weight) <= best * (1 + 1e-12)
    assert TR(ring="i h o w").network(RING, [2] * 4).cores == (
        ("r0", "i", "r1"), ("r1", "h", "r2"), ("r2", "o", "r3"), ("r3", "w", "r0"),
    )  # fmt: skip


def test_the_circular_orders_are_those_that_no_turn_or_mirror_makes_the_same() -> None:
    assert rings(RING)[0] == "i hw o"
    turns = {frozenset(frozenset((a, b)) for a, b in pairwise((*ring.split(), "i"))) for ring in rings(RING)}
    assert len(turns) == 4
    assert rings({"o": 3, "i": 4, "h": 3}) == ("i h o",)


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_ring_of_whole_axes_is_found(seed: int) -> None:
    net = TR(ring="i hw o").network(RING, [2, 3, 2])
    weight = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert relative(net, TR(ring="i hw o", sweeps=200).decompose(weight, net), weight) < 1e-6


@pytest.mark.parametrize(("error", "seed"), [(0.15, 0), (0.4, 1)])
def test_a_searched_ring_keeps_the_error_with_no_more_numbers_than_one_that_is_given(error: float, seed: int) -> None:
    weight = lopsided(RING, seed)
    form, net = TR(starts=1).for_error(weight, RING, error)
    assert form.network(RING, net.ranks) == net
    assert relative(net, form.decompose(weight, net), weight) <= error
    assert net.params <= TR(sweeps=0).for_error(weight, RING, error)[1].params  # TR-SVD alone
    for fixed in (TR(ring="i h w o", closing=4), TR(ring="i hw o", closing=4), TR(ring="i h o w", sweeps=0)):
        kept, other = fixed.for_error(weight, RING, error)
        assert kept.ring == fixed.ring
        assert fixed.closing in (None, other.sizes["r0"])
        assert relative(other, kept.decompose(weight, other), weight) <= error
        assert net.params <= other.params


def test_a_matrix_has_a_searched_ring_too() -> None:
    weight = normal(MATRIX)
    form, net = TR().for_error(weight, MATRIX, 0.3)
    assert relative(net, form.decompose(weight, net), weight) <= 0.3


def test_rings_that_cannot_be_get_a_sentence() -> None:
    with pytest.raises(
        TenfoldError, match="ring 'i h o' does not hold each of the axes i h w o once, on 2 cores or more"
    ):
        TR(ring="i h o").network(RING)
    with pytest.raises(TenfoldError, match="ring 'i hw o' leaves the axes whole; give it without an order"):
        TR(ring="i hw o", order=2)
    with pytest.raises(TenfoldError, match="takes a whole number from 1 or nothing, not 0"):
        format_named("tr", closing=0)
    with pytest.raises(TenfoldError, match=r"no relative error 1.5; use one above 0 and below 1"):
        TR().for_error(normal(RING), RING, 1.5)
    with pytest.raises(TenfoldError, match="in 2 groups has a ring for each; give one group at a time"):
        TR().for_error(normal(GROUPED), GROUPED, 0.5)
    assert TR(ring="i hw o").suit(MATRIX) == TR()
    assert list(TR(ring="i hw o", closing=8).common_ranks(TR(ring="i hw o").network(RING), 5)) == [8, 5, 5]


# ---- block terms
BLOCKY = {"o": 9, "i": 8, "h": 3, "w": 3}


def test_one_block_is_tucker2_and_blocks_of_one_are_cp() -> None:
    weight = normal(BLOCKY)
    one, tucker = BTD(sweeps=0).network(BLOCKY, [1, 3, 4]), Tucker2().network(BLOCKY, [3, 4])
    found, wanted = one.weight(BTD(sweeps=0).decompose(weight, one)), tucker.weight(Tucker2().decompose(weight, tucker))
    assert torch.dist(found, wanted) < 1e-12 * weight.norm()
    terms, cp = BTD().network(BLOCKY, [5, 1, 1]), CP().network(BLOCKY, [5])
    assert [set(core) - {"r1", "r2"} for core in terms.cores] == [
        {"n" if x == "r1" else x for x in core} for core in cp.cores
    ]
    assert relative(terms, BTD().decompose(weight, terms), weight) < 1.03 * relative(
        cp, CP().decompose(weight, cp), weight
    )


@pytest.mark.parametrize("seed", range(3))
def test_planted_block_terms_are_found(seed: int) -> None:
    net = BTD().network(BLOCKY, [2, 2, 2])
    weight = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert relative(net, BTD(sweeps=200, refine=100).decompose(weight, net), weight) < 1e-5


def test_the_starts_of_block_terms_are_cp_and_the_split_of_tucker2() -> None:
    weight, draw = normal(BLOCKY), torch.Generator().manual_seed(0)
    for ranks in ([3, 2, 2], [2, 3, 1], [2, 2, 4]):
        net = BTD().network(BLOCKY, ranks)
        grouped = grouped_cp(net.to_modes(weight), net, draw)
        assert [tuple(core.shape) for core in grouped] == list(net.shapes)
        terms = CP().network(BLOCKY, [ranks[0] * min(ranks[1:])])
        best = relative(terms, CP(sweeps=200).decompose(weight, terms), weight)
        assert best * 0.99 < relative(net, grouped, weight) < 1
        split, fitted = (relative(net, BTD(sweeps=n).decompose(weight, net), weight) for n in (0, 20))
        assert fitted < split < 1


def test_blocks_become_the_groups_of_a_convolution() -> None:
    net = BTD(block=2).network(BLOCKY, [3, 2, 2])
    first, window, last = Stages.of(net, [(0,), (1,), (2,)]).each
    assert (first.new, window.groups, window.summed, window.new) == (("n", "r1"), ("n",), ("r1",), ("r2",))
    assert (last.summed, window.window) == (("n", "r2"), ("h", "w"))
    assert net.params == 3 * (8 * 2 + 2 * 9 * 2 + 2 * 9)
    assert list(BTD(block=4).common_ranks(BTD().network(BLOCKY), 7)) == [7, 4, 4]


# ---- ADA-Tucker
def test_modes_are_nearly_equal_and_hardly_padded() -> None:
    assert near_hypercube(784 * 300, 3) == (56, 60, 70)
    assert near_hypercube(784 * 300, 4) == (20, 20, 21, 28)  # METHODS B.2
    assert near_hypercube(30, 3) == (2, 3, 5)
    for size, count in ((500 * 800, 3), (64 * 64 * 9, 5), (512 * 512 * 9, 4), (10 * 500, 2), (9973, 3)):
        sizes = near_hypercube(size, count)
        assert size <= math.prod(sizes) <= 1.02 * size
        assert sizes[-1] <= 1.5 * sizes[0]


def test_ada_tucker_of_the_axes_is_two_factors_and_a_core() -> None:
    axes = {"o": 9, "i": 7}
    weight, net = normal(axes), ADATucker().network(axes, [3, 3], {})
    assert [set(core) for core in net.cores] == [{"i", "r1"}, {"r1", "r2"}, {"r2", "o"}]
    best = tail(torch.linalg.svdvals(weight).square())[3].sqrt() / weight.norm()
    assert abs(relative(net, ADATucker().decompose(weight, net), weight) - best) < 1e-12
    assert [len(partition) for partition in partitions_of(ADATucker(align=False).network(axes))] == [1]


def test_aligned_modes_have_stages_and_are_the_default_where_they_are_even() -> None:
    axes = {"o": 300, "i": 784}
    net = ADATucker(order=4).network(axes)
    assert (net.shape(net.modes), net.modes) == ((15, 20, 28, 28), ("o1", "o2", "i1", "i2"))
    assert max(len(partition) for partition in partitions_of(net)) == 5
    kernel = {"o": 64, "i": 64, "h": 3, "w": 3}
    for each, order in ((axes, 3), (kernel, 4), (kernel, 3)):  # 28 x 28 x 300; 64 x 64 x 3 x 3
        assert ADATucker(order=order).network(each).straddles
        assert not ADATucker(order=order, align=True).network(each).straddles
    assert ADATucker(order=4, align=False).network(axes).straddles
    assert ADATucker(order=6, align=True).default_modes(kernel) == {"o": (8, 8), "i": (8, 8), "h": (3,), "w": (3,)}
    pointwise = {"o": 64, "i": 64, "h": 1, "w": 1}
    assert ADATucker(order=4).default_modes(pointwise) == {"o": (8, 8), "i": (8, 8), "h": (1,), "w": (1,)}


def test_orthogonal_iterations_lower_the_error() -> None:
    weight, net = normal(KERNEL), ADATucker(order=3).network(KERNEL)
    net = net.with_ranks([3, 3, 3])
    errors = [relative(net, ADATucker(sweeps=n).decompose(weight, net), weight) for n in (0, 1, 10)]
    assert errors[0] > errors[1] >= errors[2]
    theirs = tensorly_tucker(net.to_modes(weight).numpy(), rank=[3, 3, 3], n_iter_max=200, tol=1e-9)
    wanted = torch.from_numpy(tensorly.tucker_to_tensor(theirs))
    assert errors[2] < 1.01 * float(torch.dist(wanted, net.to_modes(weight)) / weight.norm())


# ---- SCADA-Tucker
def grouped(*layers: Mapping[str, int], ranks: int, seed: int) -> tuple[list[TensorNetwork], list[Tensor]]:
    """Networks and weights of layers that were made with one core."""
    form, draw = SCADATucker(), torch.Generator().manual_seed(seed)
    nets = [form.network(axes).with_ranks([ranks] * 3) for axes in layers]
    core = torch.randn(ranks, ranks, ranks, generator=draw, dtype=torch.float64)
    weights = []
    for net in nets:
        cores = random_cores(net, 1.0, generator=draw, dtype=torch.float64)
        factors = [torch.linalg.qr(each).Q for each in cores[:3]]
        weights.append(net.weight([*factors, core]))
    return nets, weights


def test_a_group_of_one_is_ada_tucker() -> None:
    weight = normal(KERNEL)
    net = SCADATucker(sweeps=5).network(KERNEL).with_ranks([3, 3, 3])
    draw = torch.Generator().manual_seed(0)
    (one,) = SCADATucker(sweeps=5).decompose_group([weight], [net], [None], generator=draw)
    other = ADATucker(sweeps=5).decompose(weight, net)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@settings(max_examples=10)
@given(st.integers(2, 4), st.integers(0, 10**6))
def test_a_planted_shared_core_is_found_and_is_one_tensor(ranks: int, seed: int) -> None:
    layers = {"o": 24, "i": 24}, {"o": 10, "i": 6, "h": 3, "w": 3}, {"o": 12, "i": 12}
    nets, weights = grouped(*layers, ranks=ranks, seed=seed)
    weights[1] *= 100  # scale-free
    draw = torch.Generator().manual_seed(0)
    found = SCADATucker(sweeps=1, starts=1).decompose_group(weights, nets, [None] * 3, generator=draw)
    assert len({id(cores[3]) for cores in found}) == 1
    for net, cores, weight in zip(nets, found, weights, strict=True):
        assert [tuple(core.shape) for core in cores] == list(net.shapes)
        assert relative(net, cores, weight) < 1e-7


def test_more_sweeps_never_lower_what_a_group_explains() -> None:
    weights = [normal(KERNEL, 1), normal(MATRIX, 2)]
    nets = [SCADATucker().network(dict(axes)).with_ranks([2, 2, 2]) for axes in (KERNEL, MATRIX)]
    errors = []
    for sweeps in (1, 10, 50):
        draw = torch.Generator().manual_seed(0)
        found = SCADATucker(sweeps=sweeps, starts=2).decompose_group(weights, nets, [None] * 2, generator=draw)
        errors.append(sum(relative(n, c, w) ** 2 for n, c, w in zip(nets, found, weights, strict=True)))
    assert errors[0] > errors[2]
    assert errors[2] < 2


def test_layers_that_cannot_share_a_core_get_a_sentence() -> None:
    nets = [SCADATucker().network(dict(axes)) for axes in (KERNEL, MATRIX)]
    weights = [normal(KERNEL), normal(MATRIX)]
    draw = torch.Generator()
    with pytest.raises(TenfoldError, match=r"cannot be one of .*; give all layers of a group the same ranks"):
        SCADATucker().decompose_group(weights, nets, [None] * 2, generator=draw)
    high = [net.with_ranks([6, 6, 6]) for net in nets]
    with pytest.raises(TenfoldError, match="are above the size of a mode"):
        SCADATucker().decompose_group(weights, high, [None] * 2, generator=draw)


# ---- semi-tensor formats
@pytest.mark.parametrize("layout", ["split", "pairs"])
def test_semi_tensor_formats_of_ratio_one_are_the_plain_ones(layout: str) -> None:
    weight = normal(RINGED)
    twins = [
        (STT(layout=layout, t=1), TT(layout=layout)), (STTu(t=1), Tucker()), (STR(t=1, sweeps=3), TR(sweeps=3)),
    ]  # fmt: skip
    for semi, plain in twins:
        wide, net = semi.network(RINGED), plain.network(RINGED)
        ranks = [min(rank, 2) for rank in net.ranks]
        wide, net = wide.with_ranks(ranks), net.with_ranks(ranks)
        assert wide.params == net.params
        found, wanted = wide.weight(semi.decompose(weight, wide)), net.weight(plain.decompose(weight, net))
        assert torch.dist(found, wanted) < 1e-10 * weight.norm()


def test_the_semi_tensor_product_is_a_contraction_with_a_kronecker_factor() -> None:
    axes, modes = {"o": 4, "i": 6}, {"i": (6, 1), "o": (2, 2)}
    net = STT(order=1).network(axes, [3], modes)
    assert net.cores == (("i1", "o2", "i2", "r1"), ("r1", "o1"))  # rank 6 = (3, t) in the paper
    left, right = random_cores(net, 1.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = left.reshape(6, 2, 3).permute(0, 2, 1).reshape(6, 6)  # columns (b slow, s fast)
    product = a @ torch.kron(right, torch.eye(2, dtype=torch.float64))  # (i, (o', s)), METHODS C.1
    assert torch.dist(net.weight([left, right]), product.mT) < 1e-12
    sttu = STTu().network(axes, [2, 1])
    assert sttu.cores == (("i1", "r1"), ("r1", "i2", "r2", "o2"), ("r2", "o1"))
    i, core, o = random_cores(sttu, 1.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    whole = torch.kron(i, eye) @ core.reshape(4, 2) @ torch.kron(o, eye)
    assert torch.dist(sttu.weight([i, core, o]), whole.mT) < 1e-12


@pytest.mark.parametrize(("network", "plain", "semi"), [("resnet20", 2.5, 9.4), ("resnet32", 2.7, 9.8)])
def test_the_counts_of_the_paper_on_cifar_resnets(network: str, plain: float, semi: float) -> None:
    factors = {3: (3, 1, 1), 16: (4, 2, 2), 32: (4, 4, 2), 64: (4, 4, 4)}
    halves = {n: tuple(x for f in sizes for x in (f // 2, 2)) for n, sizes in factors.items() if n > 3}
    kernels = [p.shape for p in ZOO[network].build().parameters() if p.ndim == 4]
    rest = 64 * 10 + 10  # the linear layer; batch norms are not counted
    for form, rank, outputs, wanted in (
        (TT(layout="pairs"), 14, factors, plain),
        (STT(layout="pairs"), 7, halves, semi),
    ):
        count = rest
        for o, i, h, w in kernels:
            net = form.network({"o": o, "i": i, "h": h, "w": w}, [rank] * 3, {"i": factors[i], "o": outputs[o]})
            count += net.params  # ranks are not capped: METHODS C.3
        assert abs((sum(map(math.prod, kernels)) + rest) / count - wanted) < 0.07


def test_bonds_that_lead_into_a_window_or_an_odd_mode_are_not_split() -> None:
    axes = {"o": 15, "i": 16, "h": 3, "w": 3}
    assert STT(order=2).default_modes(axes) == {"i": (4, 1, 2, 2), "o": (5, 1, 3, 1)}
    assert STR(order=2).default_modes(axes) == {"i": (2, 2, 2, 2), "o": (5, 1, 3, 1)}
    assert STT(order=2).default_modes({"o": 16, "i": 16}) == {"i": (4, 1, 2, 2), "o": (2, 2, 2, 2)}
    assert STT(layout="pairs", order=2).default_modes(axes | {"o": 16}) == {"i": (4, 4), "o": (2, 2, 2, 2)}
    with pytest.raises(TenfoldError, match="two digits each, slow and fast; 3 were given; add a digit of 1"):
        STT().network(axes, None, {"i": (4, 2, 2)})


# ---- hierarchical Tucker
LINE = {"o": 1, "i": 120}  # its leaves are the modes of i
FACTORS = {"o": (1, 1, 1, 1), "i": (4, 3, 2, 5)}


def test_full_transfers_make_ht_tucker() -> None:
    weight, ranks = normal(LINE), {"r1": 2, "r2": 2, "r3": 2, "r4": 3, "r1.2": 4, "r3.4": 4}
    names = HT(order=4).network(LINE, None, FACTORS).bonds
    assert names == ("r1", "r2", "r1.2", "r3.4", "r3", "r4")
    net = HT(order=4).network(LINE, [ranks[bond] for bond in names], FACTORS)
    other = Tucker().network(LINE, [2, 2, 2, 3, 1], {"i": FACTORS["i"]})
    cores, twin = HT(order=4).decompose(weight, net), Tucker().decompose(weight, other)
    assert torch.dist(net.weight(cores), other.weight(twin)) < 1e-12 * weight.norm()
    assert net.params - other.params == 4 * 4 + 2 * 2 * 4 + 2 * 3 * 4 - 2 * 2 * 2 * 3 - 1  # transfers for the core


def test_ht_on_the_caterpillar_with_whole_leaves_is_the_tensor_train() -> None:
    form = HT(tree="caterpillar")
    names = form.network(LINE, None, FACTORS).bonds
    assert names == ("r1", "r2.3.4", "r2", "r3.4", "r3", "r4")
    train = TT(layout="pairs").network(LINE, [3, 4, 2], FACTORS)
    net = form.network(LINE, [3, None, None, 4, None, 2], FACTORS)
    assert [sorted(shape) for shape in net.shapes] == [sorted(shape) for shape in train.shapes]
    weight = train.weight(random_cores(train, 1.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert relative(net, form.decompose(weight, net), weight) < 1e-12


@settings(max_examples=25)
@given(st.sampled_from(["balanced", "caterpillar", "((1 3) (4 2))"]), st.integers(1, 3), seeds)
def test_ht_errs_at_most_by_the_root_of_2d_minus_3(tree: str, rank: int, seed: int) -> None:
    form, small = HT(tree=tree), normal(LINE, seed + 1)
    net = form.network(LINE, None, FACTORS)
    net = net.with_ranks([min(rank, full) for full in net.ranks])
    near = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    weight = near + 0.1 * small  # a candidate is near: the best cannot be farther
    found = form.decompose(weight, net)
    assert torch.dist(net.weight(found), weight) <= math.sqrt(2 * 4 - 3) * torch.dist(near, weight)
    cuts = {frozenset(unfolding_of(net, bond)): (bond, rank) for bond, rank in zip(net.bonds, net.ranks, strict=True)}
    assert len(cuts) == 2 * 4 - 3  # the two bonds of the root are one cut
    lost = sum(
        float(
            tail(energies(unfolded(net.to_modes(weight), [net.modes.index(x) for x in unfolding_of(net, bond)[0]])))[r]
        )
        for bond, r in cuts.values()
    )
    assert torch.dist(net.weight(found), weight).square() <= lost * (1 + 1e-9)


def test_a_kernel_in_ht_has_its_window_as_the_first_leaf() -> None:
    net = HT().network({"o": 6, "i": 4, "h": 3, "w": 3}, [2] * 4)
    assert net.cores == (
        ("h", "w", "r1"), ("r1", "r2.3"), ("i1", "o1", "r2"), ("r2", "r3", "r2.3"), ("i2", "o2", "r3"),
    )  # fmt: skip
    with pytest.raises(TenfoldError, match=r"tree '\(1 2\)' does not hold each of the 3 leaves of this weight once"):
        HT(tree="(1 2)").network({"o": 6, "i": 4, "h": 3, "w": 3})


# ---- tensorly as oracle
def test_the_tensor_train_is_that_of_tensorly() -> None:
    weight, net = normal(KERNEL), TT().network(KERNEL, [4, 9, 5])
    theirs = tensor_train(weight.permute(1, 2, 3, 0).numpy(), rank=[1, 4, 9, 5, 1])
    wanted = torch.from_numpy(tensorly.tt_to_tensor(theirs)).permute(3, 0, 1, 2)
    assert torch.dist(net.weight(TT().decompose(weight, net)), wanted) < 1e-10 * weight.norm()


def test_tucker_with_sweeps_errs_as_little_as_that_of_tensorly() -> None:
    weight, net = normal(KERNEL), Tucker(sweeps=50).network(KERNEL, [3, 2, 2, 4])
    theirs = tensorly_tucker(weight.permute(1, 2, 3, 0).numpy(), rank=[3, 2, 2, 4], n_iter_max=200, tol=1e-9)
    wanted = torch.from_numpy(tensorly.tucker_to_tensor(theirs)).permute(3, 0, 1, 2)
    found = relative(net, Tucker(sweeps=50).decompose(weight, net), weight)
    assert found < 1.02 * float(torch.dist(wanted, weight) / weight.norm())


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_cp_errs_as_little_as_that_of_tensorly(rank: int) -> None:
    weight, net = normal(KERNEL), CP(window="split").network(KERNEL, [rank])
    theirs = parafac(weight.numpy(), rank=rank, n_iter_max=200, init="random", random_state=0)
    wanted = float(torch.dist(torch.from_numpy(tensorly.cp_to_tensor(theirs)), weight) / weight.norm())
    assert relative(net, CP(window="split").decompose(weight, net), weight) < 1.03 * wanted


@settings(max_examples=5)
@given(st.sampled_from(["joint", "split"]), st.integers(2, 6), st.booleans(), st.booleans(), seeds)
def test_more_starts_of_cp_never_end_worse(window: str, rank: int, grouped: bool, border: bool, seed: int) -> None:
    axes = {"o": 6, "i": 5, "h": 3, "w": 2}
    weight, net = normal(axes, seed), CP(window=window).network(axes, [rank])
    if border:  # terms grow and cancel, and are corrected
        x, y = torch.eye(6, dtype=torch.float64)[:2]
        pairs = ((x, x, y), (x, y, x), (y, x, x))
        weight = 0.05 * weight + sum(torch.einsum("o,i,h->oih", a, b[:5], c[:3]) for a, b, c in pairs)[..., None]
    if grouped:
        weight = torch.stack([weight, normal(axes, seed + 1)])
        net = CP(window=window).network({"g": 2, **axes}, [rank])
    errors = []
    for count in (1, 2, 3):
        found = net.weight(CP(window=window, starts=count, sweeps=10).decompose(weight, net)) - weight
        errors.append([float(each.norm()) for each in (found if grouped else found[None])])
    assert all(more <= less + 1e-12 for fewer, many in pairwise(errors) for less, more in zip(fewer, many, strict=True))


def test_starts_of_cp_do_not_lose_to_their_own_first() -> None:
    axes, lost = {"o": 8, "i": 6, "h": 3, "w": 3}, []
    for seed in range(4):
        weight, net = normal(axes, seed), CP().network(axes, [8])
        one, three = (relative(net, CP(starts=n).decompose(weight, net), weight) for n in (1, 3))
        lost.append(three / one)
    assert max(lost) <= 1 + 1e-12
    assert min(lost) < 0.99  # and win where there is something to win


@pytest.mark.parametrize(("seed", "warned"), [(2, True), (3, True), (5, True), (7, False)])
def test_terms_that_cancel_are_brought_back_at_the_same_error(seed: int, warned: bool) -> None:
    axes = {"o": 6, "i": 6, "h": 6}
    a, b = torch.eye(6, dtype=torch.float64)[:2]
    border = sum(torch.einsum("i,j,k->ijk", *three) for three in ((a, a, b), (a, b, a), (b, a, a)))
    weight = border + 0.05 * normal(axes, seed)  # two terms come nearer the more they diverge
    net = CP().network(axes, [2])
    plain, better = (CP(correct=correct).decompose(weight, net) for correct in (False, True))
    assert degeneracy(net, plain) > 5 * degeneracy(net, better)
    assert relative(net, plain, weight) <= relative(net, better, weight) <= 1.01 * relative(net, plain, weight)
    assert sensitivity(net, plain) > 2 * sensitivity(net, better)
    concern = CP().concern(net, better)
    assert (concern is not None) == warned == (degeneracy(net, better) > 10)
    assert concern is None or "take a smaller rank, btd or tucker2" in concern
    group = CP().network({"g": 2, **axes}, [2])
    paired = [torch.stack([core, core], labels.index("g")) for core, labels in zip(better, group.cores, strict=True)]
    assert CP().concern(group, paired) == concern  # of the worst group, not of their sum


def test_the_measures_of_cp_are_what_noise_and_single_terms_say() -> None:
    net = CP().network(KERNEL, [3])
    draw = torch.Generator().manual_seed(0)
    cores = random_cores(net, 1.0, generator=draw, dtype=torch.float64)
    one = net.with_ranks([1])
    norms = [float(one.weight([c.narrow(n.index("r1"), r, 1) for c, n in zip(cores, net.cores, strict=True)]).norm())
             for r in range(3)]  # fmt: skip
    assert math.isclose(degeneracy(net, cores), sum(n**2 for n in norms) / float(net.weight(cores).norm()) ** 2)
    assert math.isclose(degeneracy(one, random_cores(one, 1.0, generator=draw, dtype=torch.float64)), 1.0)
    small = 1e-4
    moved = [[core + small * torch.randn(core.shape, generator=draw, dtype=torch.float64) for core in cores]
             for _ in range(400)]  # fmt: skip
    mean = sum(float((net.weight(each) - net.weight(cores)).square().sum()) for each in moved) / 400 / small**2
    assert abs(mean / sensitivity(net, cores) - 1) < 0.1


@settings(max_examples=20)
@given(st.sampled_from(["joint", "split"]), st.integers(1, 2), seeds)
def test_cp_finds_small_planted_ranks(window: str, rank: int, seed: int) -> None:
    net = CP(window=window).network(KERNEL, [rank])
    weight = net.weight(random_cores(net, 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    assert relative(net, CP(window=window, starts=2, sweeps=500).decompose(weight, net), weight) < 1e-6
