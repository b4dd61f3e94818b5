"""Times of stages: what is timed is what runs; budgets of time hold; nothing slower is taken unless it must be."""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tenfold
from tenfold import measure, planning
from tenfold.formats import format_named
from tenfold.inputs import Inputs
from tenfold.layers import FactoredWeight
from tenfold.layers.plain import GroupedLinear, Rearrange
from tenfold.measure import Clock, Profile, runtimes, stage, weights_hash
from tenfold.measure.clock import NODES, sized
from tenfold.measure.graphs import written
from tenfold.measure.runtimes import in_session
from tenfold.measure.stage import Form, by_onnxruntime
from tenfold.network import Stages, random_cores
from tenfold.planning.pace import Pace
from tenfold.planning.promised import CORRECTIONS
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, sites


class Formula(Clock):
    """A clock that takes so long for a call, for every multiply-add and for every number moved."""

    call, mac, move = 1e-6, 1e-9, 1e-8

    def seconds(self, form: Form, rounds: int = 3) -> float:
        del rounds
        step: Any = form.step
        places = form.rows * int(np.prod(form.positions))
        macs = places * form.given * form.made // step.groups * int(np.prod(getattr(step, "window", (1,))))
        return self.call + self.mac * macs + self.move * places * (form.given + form.made)

    def moved(self, elements: int, dtype: torch.dtype) -> float:
        del dtype
        return self.call + self.move * elements


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64),
    ).eval()  # fmt: skip


MODEL = network()
X = torch.randn(4, 3, 12, 12)
PROFILE = tenfold.inspect(MODEL, X[:1], repeats=1)


def clock_for(model: nn.Module = MODEL, kind: type[Formula] = Formula, profile: Profile = PROFILE) -> Formula:
    found = kind(weights_hash(model), len(X), "contiguous", 1, "cpu", 0.0)
    found.whole = 1e-5 + sum(pace.dense for pace in paces(found, model, profile).values())
    return found


def paces(clock: Clock, model: nn.Module = MODEL, profile: Profile = PROFILE) -> dict[str, Pace]:
    return {
        name: Pace.of(clock, model, site, profile.layers[name].positions or {}, 1.0)
        for name, site in sites(model).items()
    }


def seconds(plan: Plan, clock: Clock) -> dict[str, tuple[float, float]]:
    """What every weight takes in the plan, and dense."""
    found = {}
    for name, pace in paces(clock).items():
        row = plan.rows[name]
        if row.is_dense:
            found[name] = pace.dense, pace.dense
        else:
            net = row.network(sites(MODEL)[name].axes)
            found[name] = float(pace.seconds(Stages.of(net, row.stages), net.sizes, 1)[0]), pace.dense
    return found


# ---- what is timed
MODULES = [
    lambda: (nn.Conv2d(8, 12, 3, stride=2, padding=1), torch.randn(2, 8, 9, 7)),
    lambda: (nn.Conv2d(8, 8, (3, 2), padding="same", groups=2), torch.randn(2, 8, 6, 6)),
    lambda: (nn.Conv1d(8, 6, 3, dilation=2), torch.randn(3, 8, 16)),
    lambda: (nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1), torch.randn(2, 8, 5, 4)),
    lambda: (nn.Linear(12, 16), torch.randn(2, 5, 12)),
]


def watched(model: nn.Module, x: Tensor) -> list[tuple[list[int], list[int]]]:
    """Shapes of the input (samples and positions as one) and of the weight of every module with numbers, as called."""
    found: list[tuple[list[int], list[int]]] = []

    def note(module: nn.Module, args: Any, _: Any) -> None:
        flat = args[0].flatten(0, -2) if isinstance(module, nn.Linear) else args[0]
        found.append((list(flat.shape), list(module.weight.shape)))  # type: ignore[union-attr,operator]

    hooks = [part.register_forward_hook(note) for part in model.modules()
             if "weight" in part._parameters and not isinstance(part, GroupedLinear)]  # fmt: skip
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


class Noting(Formula):
    """Notes what is asked of it."""

    asked: list[Form]
    moves: list[int]

    def seconds(self, form: Form, rounds: int = 3) -> float:
        self.asked.append(form)
        return super().seconds(form)

    def moved(self, elements: int, dtype: torch.dtype) -> float:
        self.moves.append(elements)
        return super().moved(elements, dtype)


def variants(axes: dict[str, int]) -> Iterator[tuple[str, Any]]:
    for name in ("svd", "tucker2", "cp", "tt", "ht2", "btd", "tr"):
        maker = format_named(name)
        answer = maker.suit(axes, first=False)
        if not isinstance(answer, str):
            yield name, answer.network(axes)


@pytest.mark.parametrize("made", MODULES)
def test_what_is_timed_is_what_runs(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    """Stage by stage, the lowered layer's modules have the weights and inputs of the forms that are timed."""
    monkeypatch.setattr(measure.clock, "NODES", np.arange(1, 65))  # all sizes
    monkeypatch.setattr(measure.clock, "EIGHT", 64)
    module, x = made()
    model = nn.Sequential(module).eval()
    profile = tenfold.inspect(model, x[:1], repeats=1)
    (site,) = sites(model).values()
    for _, net in variants(dict(site.axes)):
        net = net.with_ranks([2] * len(net.bonds))
        for stages in site.evaluations(net):
            clock = Noting("", len(x), "contiguous", 1, "cpu", 1.0)
            clock.asked, clock.moves = [], []
            pace = Pace.of(clock, model, site, profile.layers[site.name].positions or {}, 1.0)
            pace.seconds(stages, net.sizes, 1)
            place = site.places[0]
            weight = FactoredWeight(net, random_cores(net, 1.0, generator=torch.Generator()), stages.partition)
            lowered = place.kind.from_dense(module, {place.weight: weight}).eval().lower()
            ran = watched(lowered, x)
            want = [(list(form.input(torch.device("cpu")).shape), list(plain(form).shape)) for form in clock.asked]
            assert len(ran) == len(want)
            for (entered, held), (timed, shape) in zip(ran, want, strict=True):
                assert held == shape
                if isinstance(module, nn.Linear):
                    assert np.prod(entered) == np.prod(timed)
                elif "same" not in repr(module):  # uneven paddings are added by a module of their own
                    assert entered == timed
            moves = [part for part in lowered.modules() if isinstance(part, Rearrange)]
            assert len(clock.moves) == len(moves)


def plain(form: Form) -> Tensor:
    """The weight of the module that is timed."""
    found = form.module(torch.device("cpu"))
    weights = [p for name, p in found.named_parameters() if name.endswith("weight")]
    return weights[-1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=8))
def test_times_between_nodes_lie_between_theirs(sizes: list[tuple[int, int]]) -> None:
    """And at multiples of eight, of what is linear in each size, they are exact."""
    applier = paces(clock_for())["2"].appliers[0]
    form = applier.form(applier.plain, ())
    given_made = np.array(sizes, np.int64).T
    ones = np.ones((1, len(sizes)), np.int64)
    clock = clock_for()
    found = clock.between(form, np.concatenate([ones, given_made, ones]), [False, True, True, False])
    for seconds, (a, b) in zip(found, sizes, strict=True):
        up = [8 * -(-n // 8) if n > 8 else n for n in (a, b)]
        assert clock.seconds(sized(form, 1, a, b, 1)) <= seconds * (1 + 1e-9)
        if min(up) >= 8 or all(n in NODES for n in up):
            assert seconds == pytest.approx(clock.seconds(sized(form, 1, *up, 1)))


def test_a_form_is_timed_once_and_kept() -> None:
    clock = Clock.of(MODEL, X)
    applier = paces(clock)["2"].appliers[0]
    first = applier.dense
    again = Clock.from_json(clock.to_json())
    assert again == clock
    assert paces(again)["2"].appliers[0].dense == first > 0
    assert again.known == clock.known
    assert again.is_for(MODEL, len(X))
    assert not again.is_for(MODEL, 2)
    assert not again.is_for(network().double(), len(X))
    with pytest.raises(TenfoldError, match="times"):
        Clock.from_json("{}")


# ---- plans
@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1.2, 1.5, 2.0]), st.sampled_from([None, "2x"]), st.sampled_from(["auto", "svd", "svd,cp,tt"]))
def test_a_budget_of_time_holds(ratio: float, macs: str | None, format: str) -> None:
    clock = clock_for()
    plan = planning.plan(MODEL, PROFILE, time=ratio, macs=macs, format=format, clock=clock)
    each = seconds(plan, clock)
    rest = clock.whole - sum(dense for _, dense in each.values())
    assert rest + sum(now for now, _ in each.values()) <= clock.whole / ratio * (1 + 1e-9)
    assert plan.batch == len(X)
    assert plan.layout == "contiguous"
    for row in plan.rows.values():
        assert row.is_dense or "ms, dense" in row.reason


class Slow(Formula):
    """Calls cost so much that nothing factored is faster than the dense weight."""

    call = 1e-2


def test_nothing_slower_is_taken_unless_it_must_be() -> None:
    plan = planning.plan(MODEL, PROFILE, params="1.5x", clock=clock_for())
    assert any(not row.is_dense for row in plan.rows.values())
    assert all(now <= dense * (1 + 1e-9) for now, dense in seconds(plan, clock_for()).values())

    clock = clock_for(kind=Slow)
    forced = planning.plan(MODEL, PROFILE, macs="3x", clock=clock)
    slower = [name for name, (now, dense) in seconds(forced, clock).items() if now > dense]
    assert slower  # a budget that cannot be met otherwise is met
    dense = [row for row in forced.rows.values() if row.is_dense]
    assert all("nothing smaller is faster" in row.reason for row in dense)
    with pytest.raises(TenfoldError, match=r"time 1.5x cannot be met"):
        planning.plan(MODEL, PROFILE, time="1.5x", clock=clock)


def test_as_few_as_possible_are_slower() -> None:
    clock = clock_for(kind=Slow)
    one = planning.plan(MODEL, PROFILE, macs="1.1x", clock=clock)
    free = planning.plan(MODEL, PROFILE, macs="1.1x", clock=clock, allow_slower=True)
    spent = [sum(now for now, _ in seconds(plan, clock).values()) for plan in (one, free)]
    assert spent[0] < spent[1]


@pytest.mark.parametrize("more", [{"format": "svd"}, {"allow_slower": True}, {"format": "svd", "of": ["2", "4"]}])
def test_of_stages_the_fastest_are_taken_whatever_is_asked_of_the_clock(more: dict[str, Any]) -> None:
    plan = planning.plan(MODEL, PROFILE, params="4x", clock=clock_for(), **more)
    for name, pace in paces(clock_for()).items():
        row, site = plan.rows[name], sites(MODEL)[name]
        if not row.is_dense:
            net = row.network(site.axes)
            times = {each.partition: float(pace.seconds(each, net.sizes, 1)[0]) for each in site.evaluations(net)}
            assert times[site.partition(net, row.stages)] < 1.2 * min(times.values())  # before the last steps of ranks


class Looping(Formula):
    """Knows how long torch's kernel takes for a sequence; what is around a step takes a tenth of a call."""

    kernel = 0.0

    def timed(self, key: str, made: Any, rounds: int = 3) -> float:
        assert made()[0]() is not None  # it can run
        return self.kernel if key.startswith("whole") else self.call / 10


STEPS, SEQUENCES = 7, 4


def looping(kernel: float) -> tuple[nn.Module, Profile, Looping, Pace]:
    """A recurrence, and the pace of its recurrent matrix where torch's kernel takes so many seconds."""
    torch.manual_seed(0)
    model = nn.LSTM(64, 64).eval()
    profile = tenfold.inspect(model, torch.randn(STEPS, 1, 64), repeats=1)
    clock = Looping(weights_hash(model), SEQUENCES, "contiguous", 1, "cpu", 1e-3)
    clock.kernel = kernel
    return model, profile, clock, paces(clock, model, profile)["model.weight_hh_l0"]


@given(st.integers(1, 63))
def test_stages_of_a_recurrent_matrix_are_timed_step_by_step(rank: int) -> None:
    _, _, clock, pace = looping(1e-3)
    net = format_named("svd").network({"o": 256, "i": 64}, ranks=(8 * -(-rank // 8),))
    assert pace.seconds(Stages.of(net, [(0, 1)]), net.sizes, 1)[0] == pace.dense == clock.kernel
    once = sum(
        clock.call + SEQUENCES * (clock.mac * given * made + clock.move * (given + made))
        for given, made in ((64, net.sizes["r1"]), (net.sizes["r1"], 256))
    )
    found = pace.seconds(Stages.of(net, [(0,), (1,)]), net.sizes, 1)[0]
    assert found == pytest.approx(STEPS * (clock.call / 10 + once), rel=0.02)  # straight lines between nodes


@pytest.mark.parametrize(("share", "rebuilt"), [(0.5, True), (0.98, False), (2.0, False)])
def test_a_recurrent_matrix_is_rebuilt_where_that_is_clearly_faster(share: float, rebuilt: bool) -> None:
    """Share: what torch's kernel takes of what the stages take; about as fast, they win by their memory."""
    model, profile, clock, pace = looping(1.0)
    asked = {"params": "1.5x", "exclude": ["model.weight_ih_l0"], "multiple": 8}
    row = planning.plan(model, profile, clock=clock, **asked).rows["model.weight_hh_l0"]
    net = row.network({"o": 256, "i": 64})
    clock.kernel = share * float(pace.seconds(Stages.of(net, row.stages), net.sizes, 1)[0])
    plan = planning.plan(model, profile, clock=clock, **asked)
    assert (len(plan.rows["model.weight_hh_l0"].stages) == 1) == rebuilt


def test_a_clock_of_another_network_is_refused() -> None:
    other = clock_for()
    other.weights_hash = "another"
    with pytest.raises(TenfoldError, match=r"^the clock is of other weights than the profile"):
        planning.plan(MODEL, PROFILE, params="2x", clock=other)


def test_without_a_clock_a_budget_of_time_is_refused() -> None:
    with pytest.raises(TenfoldError, match="a budget on time needs inputs"):
        planning.plan(MODEL, PROFILE, time="1.5x")


@pytest.mark.parametrize("speeds", [[1.5], [1.2, 1.5], [1.2, 1.3, 1.4]])
def test_what_is_promised_is_measured_and_corrected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, speeds: list[float]
) -> None:
    left = list(speeds)
    monkeypatch.setattr(Clock, "speedup", lambda *given: left.pop(0))
    plan = planning.plan(MODEL, PROFILE, time="1.5x", clock=clock_for(), inputs=X)
    assert not left
    assert len(speeds) <= 1 + CORRECTIONS
    assert ("comes to 1.4x in eager here" in caplog.text) == (speeds[-1] < 1.5)
    assert plan.layout == "contiguous"


def test_of_several_plans_one_says_that_they_are_slower(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Clock, "speedup", lambda *given: 0.5)
    model, x = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 24)), torch.randn(64, 32)
    data = tenfold.Data((), [x], (), ())
    tenfold.compress(model, data, params="2x", calibrate=32, reconstruct=False)
    assert caplog.text.count("slower than the dense network in eager here (0.5x)") == 1


def test_a_plan_is_found_whatever_the_dense_network_takes() -> None:
    """Stages that were timed in a slow spell may take longer together than the whole."""
    clock = clock_for()
    clock.whole /= 10
    plan = planning.plan(MODEL, PROFILE, params="2x", clock=clock)
    assert any(not row.is_dense for row in plan.rows.values())


def test_no_times_are_shipped(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    made = tenfold.compress(model, inputs=torch.randn(4, 16), params="1.5x", state=tmp_path / "out" / "state")
    assert (tmp_path / "out" / "state" / "clock.json").exists()  # a run that is stopped plans the same again
    tenfold.save(made, tmp_path / "out")
    assert not (tmp_path / "out" / "state").exists()


def test_compress_within_a_budget_of_time(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 5), nn.Flatten(), nn.Linear(6400, 10))
    x = torch.randn(8, 3, 16, 16)
    made = tenfold.compress(model, inputs=x, params="4x", profile=tmp_path)
    assert (tmp_path / "clock.json").exists()
    again = tenfold.compress(model, inputs=x, params="4x", profile=tmp_path)
    assert again.plan.to_yaml() == made.plan.to_yaml()
    assert made.plan.batch == 8


# ---- runtimes
@pytest.mark.parametrize("made", [*MODULES, lambda: (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), None)])
def test_what_onnxruntime_is_given_is_the_stage(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    """A graph gives what its chain gives, for every kind of stage; where there is none, torch exports the chain."""
    module, x = made()
    x = torch.randn(2, 4, 8, 8) if x is None else x
    model = nn.Sequential(module).eval()
    profile = tenfold.inspect(model, x[:1], repeats=1)
    (site,) = sites(model).values()
    clock = Noting("", len(x), "contiguous", 1, "cpu", 1.0)
    clock.asked, clock.moves = [], []
    pace = Pace.of(clock, model, site, profile.layers[site.name].positions or {}, 1.0)
    for _, net in variants(dict(site.axes)):
        for stages in site.evaluations(net.with_ranks([2] * len(net.bonds))):
            pace.seconds(stages, stages.net.sizes, 1)
    assert pace.dense > 0
    seen = []

    def note(chain: nn.Module, given: Tensor) -> Any:
        for parameter in chain.parameters():
            nn.init.normal_(parameter)
        given = torch.randn_like(given)
        graph = written(chain, given)
        seen.append(graph is not None)
        if graph is not None:
            found = in_session(graph, given)()[0]
            torch.testing.assert_close(found, chain(given), rtol=1e-4, atol=1e-4)
        return lambda: None

    monkeypatch.setattr(stage, "session", note)
    with torch.no_grad():
        for form in dict.fromkeys(clock.asked):
            calls = by_onnxruntime(form, "contiguous", torch.device("cpu"))
            assert len(calls) == (2 if form.positions else 1)
    assert all(seen) == (getattr(module, "padding_mode", "zeros") == "zeros")


def test_a_clock_is_of_one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def slower(model: nn.Module, inputs: Any) -> Any:
        ran.append(model)
        return lambda: (time.sleep(0.02), model(inputs.value))[1]

    monkeypatch.setitem(runtimes.RUNTIMES, "compile", slower)
    clock = Clock.of(MODEL, X, "compile")
    assert len(ran) == 1
    assert 0 < clock.whole < 0.02  # as its stages, in eager
    assert clock.is_for(MODEL, len(X), "compile")
    assert not clock.is_for(MODEL, len(X))
    assert Clock.from_json(clock.to_json()) == clock
    assert clock.speedup(MODEL, MODEL, X, "whole") == pytest.approx(1, abs=0.3)
    assert len(ran) == 3
    plan = planning.plan(MODEL, PROFILE, params="1.5x", format="svd", clock=clock, inputs=X, runtime="compile")
    assert plan.runtime == "compile"
    assert Plan.from_yaml(plan.to_yaml()) == plan
    with pytest.raises(TenfoldError, match=r"the clock is of compile; make it with Clock.of\(model, inputs, 'eager'\)"):
        planning.plan(MODEL, PROFILE, params="1.5x", clock=clock, runtime="eager")


@pytest.mark.parametrize("params", ["1.5x", "3x"])
def test_ranks_fill_the_blocks_of_onnxruntime(params: str) -> None:
    clock = clock_for()
    plans = {}
    for clock.runtime in ("eager", "onnxruntime"):
        plan = planning.plan(MODEL, PROFILE, params=params, format="svd", clock=clock)
        plans[clock.runtime] = [rank or 0 for row in plan.rows.values() for rank in row.ranks]
    assert all(rank % 4 == 0 for rank in plans["onnxruntime"])
    assert any(rank % 4 for rank in plans["eager"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"runtime": "onxruntime"}, "no runtime is called 'onxruntime'; did you mean 'onnxruntime'?"),
        ({"runtime": "compile", "format": "svd"}, "nothing is timed in compile"),
        ({"runtime": "compile", "inputs": None}, "needs inputs"),
    ],
)
def test_a_runtime_in_which_nothing_is_timed_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(TenfoldError, match=re.escape(words)):
        tenfold.compress(MODEL, **{"inputs": X, "params": "2x", **asked})


def test_without_onnxruntime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TenfoldError, match=r"^onnxruntime is not installed; pip install 'tenfold\[export\]'\.$"):
        Clock.of(MODEL, X, "onnxruntime")


def test_compress_for_onnxruntime(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    whole = runtimes.exported  # takes seconds, and knows what a split axis becomes, too
    monkeypatch.setattr(runtimes, "exported", lambda *given: written(*given) or whole(*given))
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32)).eval()
    inputs = torch.randn(4, 64)
    made = tenfold.compress(model, inputs=inputs, params="2x", include=["0"], runtime="onnxruntime", state=tmp_path)
    assert (made.plan.runtime, made.plan.layout) == ("onnxruntime", "contiguous")
    assert any(words.startswith("In onnxruntime, 4 samples take ") for words in made.words)
    assert Clock.from_json((tmp_path / "clock.json").read_text()).runtime == "onnxruntime"


@pytest.mark.inductor
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compress_for_compile(compiler: None) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32)).eval()
    made = tenfold.compress(model, inputs=torch.randn(4, 64), params="2x", include=["0"], runtime="compile")
    assert made.plan.runtime == "compile"
    assert any(words.startswith("In compile, 4 samples take ") for words in made.words)


@pytest.mark.parametrize(
    ("runtime", "device", "other"), [("onnxruntime", "meta", "cpu"), ("cuda-graph", "cpu", "cuda")]
)
def test_a_runtime_elsewhere_than_where_it_runs_is_refused(runtime: str, device: str, other: str) -> None:
    given = Inputs(torch.zeros(1, 2, device=device), (0,))
    with pytest.raises(TenfoldError, match=rf"^{runtime} does not run on {device} here; use --device {other}\.$"):
        runtimes.prepared(runtime, nn.Linear(2, 2, device=device), given)
