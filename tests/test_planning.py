"""What every plan keeps to: budgets, ranks, costs; and how what is asked for is read."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold.api import predicted
from tenfold.formats import CP, HT2, SVD, TT, Format, Tucker2, available, format_named, name_of
from tenfold.layers import available as kinds
from tenfold.measure import Profile, inspect, weights_hash
from tenfold.network import full_rank, local_bound, partitions_of, unfolding_of
from tenfold.planning import BUDGETS, ErrorCurves, plan
from tenfold.planning.allocation import SHARES, SMALL, Limits, clipped
from tenfold.planning.asked import formats_asked, override_from, overrides_asked, ranks_asked
from tenfold.planning.budgets import Cost, limit
from tenfold.planning.candidates import levels, round_up
from tenfold.planning.choices import Curve, pareto
from tenfold.planning.search import Allocation, Search
from tenfold.protocols import Progress, TenfoldError
from tenfold.surgery import Plan, sites

X = torch.zeros(1, 3, 12, 12)


def network() -> nn.Sequential:
    """A small convolutional network whose weights have falling spectra, as trained ones do."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 1),
        nn.Flatten(),
        nn.Linear(32 * 36, 24),
        nn.ReLU(),
        nn.Linear(24, 10),
    )
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for site in sites(model).values():
            module = model.get_submodule(site.places[0].module)
            weight = torch.randn(module.weight.shape, generator=draw)
            for axis, size in enumerate(weight.shape[:2]):
                mixing = torch.linalg.qr(torch.randn(size, size, generator=draw))[0]
                falling = mixing * torch.exp(-4 * torch.arange(size) / size)
                weight = torch.tensordot(weight, falling, dims=([axis], [1])).movedim(-1, axis)
            module.weight.copy_(weight / weight.norm())
    return model.eval()


MODEL = network()
PROFILE = inspect(MODEL, X, repeats=1)
CURVES = ErrorCurves(PROFILE.weights_hash)  # shared: what is found once serves every test


def planned(profile: Profile = PROFILE, **asked: object) -> Plan:
    return plan(MODEL, profile, curves=CURVES, **asked)  # type: ignore[arg-type]


def errors(made: Plan) -> float:
    """Sum of the squared relative errors that the curves promise."""
    total = 0.0
    for name, row in made.rows.items():
        if row.is_dense:
            continue
        site = sites(MODEL)[name]
        net = row.network(site.axes)
        maker = row.maker()
        weight = site.weight(MODEL)
        if all(unfolding_of(net, bond) is not None for bond in net.bonds):
            total += sum(float(CURVES.tail(name, weight, net, bond)[net.sizes[bond]]) for bond in net.bonds)
        else:
            fits = CURVES.fit(name, weight, maker, full_rank(net), torch.Generator().manual_seed(0))
            total += float(np.interp(net.ranks[0], [r for r, _ in fits], [e for _, e in fits]))
    return total


def dense_of(profile: Profile, budget: str) -> float | None:
    """What the dense network costs under a budget."""
    whole = Cost(profile.params, profile.bytes, profile.params, profile.macs)
    found: float | None = BUDGETS[budget].of(whole)
    return found


RATIOS = st.sampled_from(["1.3x", "50%", "3x", "4x", 5])
ASKED = st.fixed_dictionaries(
    {"params": RATIOS}, optional={"macs": st.sampled_from(["1.5x", "2x", "3x"]), "bytes": st.just("2.5x")}
)
LIGHT = st.sampled_from(["svd", "tucker2", "tt", "ht2", "svd,tucker2", "svd,tucker2,tt,ht2", "conv=ht2,linear=svd"])


# ---- laws of a plan
@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(10, 1000), st.floats(0.1, 5)), min_size=2, max_size=5),
    st.sampled_from([1.5, 3.0, 6.0]),
)
def test_clipped_curves_keep_to_their_share_where_they_can(each: list[tuple[int, float]], ratio: float) -> None:
    whole = np.array([float(sum(size for size, _ in each))])
    limits = Limits({"params": BUDGETS["params"]}, whole / ratio, np.zeros(1), whole)
    subject = Search(MODEL, PROFILE, (), (), (), {}, formats_asked("svd"), CURVES, 0, lean=False, metrics={}).subjects[
        "0"
    ]
    curves = []
    for size, gain in each:
        kept = np.linspace(1.0, 0.05, 12)
        curves.append(
            Curve(subject, (), (), gain * (1 - kept) ** 2, (size * kept)[:, None], np.zeros((12, 3), np.int64))
        )
    for curve, within in zip(curves, clipped(curves, limits), strict=True):
        got = within.costs[:, 0] / (curve.costs[0, 0] / ratio)
        assert len(got) >= 1
        if curve.costs[0, 0] >= SMALL * whole[0] and len(got) > 1:
            assert ((got >= SHARES[0] - 1e-9) & (got <= SHARES[1] + 1e-9)).all()
        assert set(within.costs[:, 0]) <= set(curve.costs[:, 0])


@settings(max_examples=25, deadline=None)
@given(ASKED, LIGHT, st.sampled_from([1, 2, 4]), st.sampled_from(get_args(Allocation)))
def test_the_budget_rule(asked: Mapping[str, object], format: str, multiple: int, allocation: str) -> None:
    """No budget is exceeded; ranks are multiples; no layer grows; the tightest is used, or nothing can grow."""
    try:
        made = planned(**asked, format=format, multiple=multiple, allocation=allocation)
    except TenfoldError as error:
        assert "cannot" in str(error)  # noqa: PT017  (a budget out of reach is a right answer)
        return
    found = predicted(MODEL, made, PROFILE)
    used = []
    for name, value in asked.items():
        whole = dense_of(PROFILE, name)
        assert whole is not None
        allowed = limit(name, value, whole)  # type: ignore[arg-type]
        spent = whole / getattr(found.ratio, name)
        assert spent <= allowed * (1 + 1e-9)
        used.append(spent / allowed)
    for name, row in made.rows.items():
        cost = found.layers[name]
        assert cost.params <= cost.params_before
        assert (cost.macs or 0) <= (cost.macs_before or 0)
        assert row.is_dense or cost.params < cost.params_before
        full = full_rank(row.network(sites(MODEL)[name].axes)) if not row.is_dense else None
        for rank, bound in zip([r for r in row.ranks if r is not None], full.ranks if full else (), strict=True):
            assert 1 <= rank <= bound
            assert rank % multiple == 0 or rank < multiple or rank == bound
    assert max(used) >= 0.98 or not can_grow(made, asked, multiple)


def can_grow(made: Plan, asked: Mapping[str, object], multiple: int) -> bool:
    """Whether a rank of some layer can be one step larger within all budgets, the layer still a gain."""
    for name, row in made.rows.items():
        for at, rank in enumerate(row.ranks):
            if rank is None:
                continue
            ranks = tuple(r if k != at or r is None else r + multiple for k, r in enumerate(row.ranks))

            net = row.network(sites(MODEL)[name].axes)
            larger = replace(row, ranks=ranks)
            if any(r > full_rank(net).ranks[k] for k, r in enumerate([r for r in ranks if r is not None])):
                continue
            grown = min(
                (
                    predicted(MODEL, Plan({**made.rows, name: replace(larger, stages=stages)}), PROFILE)
                    for stages in partitions_of(net)
                ),
                key=lambda p: p.layers[name].macs or 0,
            )
            cost = grown.layers[name]
            fits = all(
                getattr(grown.ratio, b) >= (w := dense_of(PROFILE, b)) / limit(b, v, w)  # type: ignore[arg-type,operator]
                for b, v in asked.items()
            )
            tight = larger.network(sites(MODEL)[name].axes)
            below = all(
                tight.is_hyperedge(b) or tight.sizes[b] < local_bound(tight, b) for b in tight.bonds
            )  # at a bound the merged network is better
            if (
                fits
                and below
                and cost.params < cost.params_before
                and (cost.macs or 0) <= (cost.macs_before or 0)
                and errors(Plan({name: larger})) < errors(Plan({name: row})) - 1e-15
            ):
                return True
    return False


@pytest.mark.parametrize("format", ["svd", "tucker2", "tt", "ht2"])
@pytest.mark.parametrize("budgets", [{"params": "3x"}, {"params": "2.5x", "macs": "2x"}, {"macs": "3x"}])
def test_global_allocation_loses_no_more_than_uniform_ranks(format: str, budgets: dict[str, str]) -> None:
    everywhere = errors(planned(format=format, allocation="global", **budgets))
    uniform = errors(planned(format=format, allocation="uniform", **budgets))
    assert everywhere <= uniform * (1 + 1e-9)


@pytest.mark.parametrize("name", sorted(available()))
def test_every_format_alone_meets_a_budget(name: str) -> None:
    made = planned(params="2x", format=name)
    answers = [format_named(name).suit(site.axes) for site in sites(MODEL).values()]
    standing_in = {name_of(answer) for answer in answers if isinstance(answer, Format)}
    assert {row.format for row in made.rows.values()} <= {name, "dense", "svd", *standing_in}  # svd: ht2's first
    assert predicted(MODEL, made, PROFILE).ratio.params >= 2
    assert all(row.reason for row in made.rows.values())


def test_a_plan_is_the_same_every_time_and_survives_its_file() -> None:
    asked = {"params": "1.1x", "include": ["3", "6"]}
    made = planned(**asked)
    assert made == plan(MODEL, PROFILE, **asked)
    assert Plan.from_yaml(made.to_yaml()) == made


@pytest.mark.parametrize("asked", [{"params": "2x"}, {"params": "2x", "allocation": "uniform"}, {"energy": 0.9}])
def test_every_layer_that_is_planned_is_told(asked: dict[str, Any]) -> None:
    steps: list[Progress] = []

    def watch(each: Iterator[Progress]) -> Iterator[Progress]:
        for step in each:
            steps.append(step)
            yield step

    made = plan(MODEL, PROFILE, format="svd,tt", inputs=X, watch=watch, **asked)
    told = {step.title.removeprefix("error curves ") for step in steps if step.title.startswith("error curves ")}
    timed = {step.title.removeprefix("clock ") for step in steps if step.title.startswith("clock ")}
    assert told >= timed == {name for name, row in made.rows.items() if not row.is_dense}
    assert timed


@given(st.sampled_from(["bf16", "fp16"]), st.floats(1.5, 4), st.sampled_from([(), ("3", "6")]))
@settings(max_examples=10, deadline=None)
def test_half_the_width_leaves_twice_the_numbers_to_a_budget_of_bytes(dtype: str, ratio: float, of: Any) -> None:
    half = planned(bytes=2 * ratio, dtype=dtype, format="svd", of=of)
    assert half.dtype == dtype
    found = predicted(MODEL, half, PROFILE, of)
    assert 1.2 * 2 * ratio >= (found.part or found.ratio).bytes >= 2 * ratio
    assert found.ratio.bytes == pytest.approx(2 * found.ratio.params, rel=1e-12)


def test_a_budget_of_bytes_that_two_bytes_a_number_meet_leaves_all_dense() -> None:
    assert all(row.is_dense for row in planned(bytes=2, dtype="bf16", format="svd").rows.values())


def test_budgets_out_of_reach_name_the_largest_ratio() -> None:
    with pytest.raises(TenfoldError, match=r"params 1000x cannot be met; the largest reachable ratio .* is [\d.]+x\."):
        planned(params="1000x", format="svd")
    with pytest.raises(TenfoldError) as caught:
        planned(params="1000x", format="svd")
    reach = str(caught.value).rpartition(" is ")[2].rstrip("x.")
    assert predicted(MODEL, planned(params=float(reach), format="svd"), PROFILE).ratio.params >= float(reach)


def test_budgets_without_inputs() -> None:
    bare = inspect(MODEL)
    assert predicted(MODEL, planned(bare, params="2x", format="svd"), bare).ratio.macs is None
    with pytest.raises(TenfoldError, match="a budget on macs needs inputs"):
        planned(bare, macs="2x", format="svd")


# ---- rules
@pytest.mark.parametrize("energy", [0.3, 0.8, 0.99])
def test_energy_takes_the_smallest_rank_above_its_share(energy: float) -> None:
    made = planned(energy=energy, format="svd", include=["8"])
    row = made.rows["8"]
    squares = torch.linalg.svdvals(sites(MODEL)["8"].weight(MODEL).double()).square()
    shares = squares.cumsum(0) / squares.sum()
    wanted = int((shares <= energy).sum()) + 1
    assert row.ranks == (wanted,)


def test_ranks_for_all() -> None:
    made = planned(ranks=4, format="svd")
    assert {row.ranks for row in made.rows.values() if not row.is_dense} == {(4,)}
    with pytest.raises(TenfoldError, match=r"layer '8': .*3 ranks given, 1 wanted"):
        planned(ranks=(1, 2, 3), format="svd", include=["8"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "nothing was asked for"),
        ({"params": "2x", "energy": 0.5}, "--params, --energy exclude each other"),
        ({"energy": 0.5, "ranks": 4}, "exclude each other"),
        ({"energy": 1.0}, "energy 1.0 is no share"),
        ({"params": "2x", "multiple": 0}, "multiple 0 is below 1"),
        ({"params": "2x", "allocation": "fair"}, "is none of 'global', 'clipped', 'uniform'"),
        ({"params": "0.5x"}, "would not shrink the network"),
        ({"params": "0%"}, "is no budget"),
        ({"params": "nanx"}, "would not shrink"),
        ({"params": "2x", "exclude": ["*"]}, r"no layer is left to compress: excluded by '\*'\."),
    ],
)
def test_what_contradicts_itself_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(TenfoldError, match=words):
        planned(**asked)


# ---- which layers
def test_include_exclude_and_layers_by_name() -> None:
    made = planned(params="1.5x", include=["re:[38]"], format="svd")
    assert {name for name, row in made.rows.items() if not row.is_dense} <= {"3", "8"}
    assert made.rows["6"].reason == "not included"
    made = planned(params="1.05x", exclude=["8"], layers={"3": "tt:2,2,2", "6": "dense"}, format="svd")
    assert made.rows["8"].reason == "excluded by '8'"
    assert (made.rows["3"].format, made.rows["6"].reason) == ("tt", "dense, as asked")
    with pytest.raises(TenfoldError, match=r"no layer matches '33'; did you mean '3'"):
        planned(params="1.5x", include=["33"])


# ---- curves and candidates
@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40), st.integers(1, 7))
def test_the_front_has_no_dominated_point_and_misses_none(points: list[tuple[int, int, int]], chunk: int) -> None:
    table = np.array(points, float)
    front = pareto(table[:, 0], table[:, 1:], chunk)
    kept = [tuple(row) for row in table[front]]

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    assert len(set(kept)) == len(kept)
    assert not any(beats(a, b) for a, b in itertools.permutations(kept, 2))
    assert all(any(a == b or beats(a, b) for a in kept) for b in map(tuple, table))
    assert [row[0] for row in kept] == sorted(row[0] for row in kept)


@given(st.integers(1, 500), st.integers(1, 32))
def test_levels_are_multiples_within_the_bound(bound: int, multiple: int) -> None:
    found = levels(bound, multiple)
    assert all(1 <= rank <= bound for rank in found)
    assert all(rank % multiple == 0 for rank in found) or found == [bound]
    assert int(round_up([bound], multiple)[0]) - bound < multiple


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "format": st.sampled_from(["svd", "tt,svd", "conv=tucker2"]),
                "allocation": st.sampled_from(["global", "clipped"]),
            },
            optional={name: st.sampled_from(["1.2x", "1.5x"]) for name in ("params", "macs", "deployed_params")}
            | {"max_error": st.just(0.8), "multiple": st.just(2)},
        ).filter(lambda asked: {"params", "macs", "deployed_params"} & {*asked}),
        min_size=2, max_size=4,
    )
)  # fmt: skip
def test_what_was_found_for_other_budgets_changes_no_plan(calls: list[dict[str, Any]]) -> None:
    shared = ErrorCurves(PROFILE.weights_hash)
    for asked in calls:
        assert planned_or_refused(asked, shared) == planned_or_refused(asked, ErrorCurves(PROFILE.weights_hash))


def planned_or_refused(asked: dict[str, Any], curves: ErrorCurves) -> Plan | str:
    try:
        return plan(MODEL, PROFILE, curves=curves, **asked)
    except TenfoldError as error:
        return str(error)


def test_curves_come_back_from_their_file() -> None:
    curves = ErrorCurves(PROFILE.weights_hash)
    first = plan(MODEL, PROFILE, params="3x", format="svd,cp", curves=curves)
    again = ErrorCurves.from_json(curves.to_json(), PROFILE.weights_hash)
    assert again.count == curves.count > 0
    assert again.fits == curves.fits
    for name, each in curves.tails.items():
        for key, tail in each.items():
            np.testing.assert_allclose(again.tails[name][key], tail, rtol=1e-6)
            assert tail[0] == pytest.approx(1)
            assert tail[-1] == 0
            assert (np.diff(tail) <= 1e-12).all()
    assert plan(MODEL, PROFILE, params="3x", format="svd,cp", curves=again) == first
    assert again.to_json() == curves.to_json()
    for text, words in [
        ("{", "not a JSON file"),
        ("[]", "not a file of error curves"),
        ("{}", "'schema', 'weights_hash', 'tails' and"),
    ]:
        with pytest.raises(TenfoldError, match=words):
            ErrorCurves.from_json(text, PROFILE.weights_hash)
    with pytest.raises(TenfoldError, match="other weights"):
        ErrorCurves.from_json(curves.to_json(), weights_hash(nn.Linear(2, 2)))


# ---- what is asked for in words
def test_formats_by_kind_with_options() -> None:
    assert formats_asked("conv=ht2,linear=svd") == {"conv": [HT2()], "linear": [SVD()]}
    assert formats_asked("svd,TT(layout=split)") == {kind: [SVD(), TT(layout="split")] for kind in kinds()}
    assert formats_asked("conv=tucker2,conv=cp") == {"conv": [Tucker2(), CP()]}
    assert {type(maker) for maker in formats_asked("auto")["conv"]} == {
        kind for kind in available().values() if kind.in_auto
    }
    for text, words in [
        ("svdd", "did you mean 'svd'"),
        ("con=svd", "no kind of layer is called 'con'"),
        ("tt(layout)", "write name=value"),
        ("tt(lay=1)", "has no option 'lay'"),
        ("a b", "is neither a format nor KIND=FORMAT"),
    ]:
        with pytest.raises(TenfoldError, match=words):
            formats_asked(text)


def test_single_layers_in_words() -> None:
    assert override_from("dense").maker is None
    assert (override_from("svd:16").maker, override_from("svd:16").ranks) == (SVD(), (16,))
    found = override_from("tt(layout=split):8,4")
    assert (found.maker, found.ranks) == (TT(layout="split"), (8, 4))
    assert override_from("tt(layout=split)").ranks == ()
    assert overrides_asked({"a*": "svd", "ab": "dense"}, ["aa", "ab"])["ab"].maker is None
    for text in ("svd:x", "svd:0", "conv=svd", "svd:-1"):
        with pytest.raises(TenfoldError):
            override_from(text)


@pytest.mark.parametrize(("given_", "wanted"), [("8", (8,)), (8, (8,)), ("8, 4", (8, 4)), ((3, 2), (3, 2))])
def test_ranks_in_words(given_: object, wanted: tuple[int, ...]) -> None:
    assert ranks_asked(given_) == wanted  # type: ignore[arg-type]
