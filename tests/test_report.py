"""Measurements side by side: what a report holds, says and shows."""

import json
from dataclasses import replace
from io import StringIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tenfold.layers import Layer
from tenfold.measure import (
    LayerProfile,
    MsPerBatch,
    OutputError,
    Profile,
    Speedup,
    inspect,
    macs,
    params,
    peak_memory_bytes,
    state_bytes,
)
from tenfold.protocols import Score, TenfoldError
from tenfold.report import (
    Measurement,
    Report,
    ScoreValue,
    compare,
    growths,
    layer_rows,
    layer_table,
    notes,
    profile_table,
    reasons,
    sentences,
    side_by_side,
    summary_table,
)
from tenfold.surgery import Plan, Row, decompose, lower, sites

KEYS = [
    "compressed", "course", "dense", "layers", "part", "planned", "ratio", "recovered", "schema", "settings",
]  # fmt: skip
X = torch.zeros(2, 3, 8, 8)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


def the_plan() -> Plan:
    rows = [
        Row("0", reason="the first layer stays"),
        Row("3", "tucker2", ranks=(4, None), reason="cheapest under the budget"),
        Row("5", "svd", ranks=(3,), stages=((0, 1),)),
    ]
    return Plan({row.name: row for row in rows})


def measured(**changes: object) -> Measurement:
    known = Measurement(
        params=1000,
        file_bytes=4400,
        macs=5000,
        peak_memory_bytes=9000,
        ms_per_batch=MsPerBatch(median=4.0, spread=0.25, batch=2, threads=2),
        score=ScoreValue("top-1", 93.5, True),
        deployed_params=1000,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def timed(median: float) -> MsPerBatch:
    return MsPerBatch(median=median, spread=0.1, batch=2, threads=2)


def report(**changes: object) -> Report:
    small = measured(
        params=400, file_bytes=1100, macs=2000, ms_per_batch=timed(2.0), deployed_params=500, speedup=Speedup(2.0, 0.1)
    )
    dense = network()
    rows = layer_rows(dense, decompose(dense, the_plan()), the_plan())
    known = Report(measured(), small, None, rows, {"params": "4x", "epochs": 0})
    return replace(known, **changes)  # type: ignore[arg-type]


def shown(table: Table) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


# ---- measuring side by side
class Picky(nn.Sequential):
    """A network that runs in cores, and refuses to run lowered."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not any(isinstance(part, Layer | nn.Linear) for part in self):
            raise RuntimeError("no layer that it knows")
        return super().forward(x)


def test_a_lowered_form_that_fails_loses_nothing() -> None:
    dense = Picky(nn.Linear(12, 8))
    small = decompose(dense, Plan({"0": Row("0", "svd", ranks=(2,))}))
    found = compare({"dense": dense, "compressed": small}, torch.zeros(2, 12), repeats=2)
    assert found["dense"].lowering_failed is None
    assert "no layer that it knows" in found["compressed"].lowering_failed
    assert found["compressed"].macs == 2 * (12 + 8)
    told = replace(report(), compressed=found["compressed"])
    assert "The LOWERED form fails (the compressed network: " in " ".join(sentences(told))
    assert Report.from_json(told.to_json()).compressed == found["compressed"]


def test_networks_are_compared_in_the_form_in_which_they_run() -> None:
    dense = network()
    small = decompose(dense, the_plan())
    names = [name for name, _ in small.named_modules()]
    found = compare({"dense": dense, "compressed": small}, X, repeats=2, scores={"dense": ScoreValue("a", 1.0, True)})
    assert [name for name, _ in small.named_modules()] == names
    for name, model in {"dense": dense, "compressed": small}.items():
        plain = lower(model)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            plain(X)
        each = found[name]
        assert (each.params, each.file_bytes, each.deployed_params) == (
            params(model),
            state_bytes(model),
            params(plain),
        )
        assert each.macs == counter.get_total_flops() // 4
        assert each.peak_memory_bytes == peak_memory_bytes(plain, X)
        assert each.ms_per_batch is not None
        assert each.ms_per_batch.batch == 2
    assert found["dense"].score == ScoreValue("a", 1.0, True)
    assert found["compressed"].score is None
    # batch norm folded: 32 numbers gone, 16 biases come; the linear layer is rebuilt
    assert found["dense"].deployed_params == found["dense"].params - 16
    assert found["compressed"].deployed_params == found["compressed"].params - 16 + 1440 - 3 * 154


def test_without_inputs_only_sizes_are_known() -> None:
    each = compare({"dense": network()})["dense"]
    assert (each.macs, each.peak_memory_bytes, each.ms_per_batch, each.score) == (None, None, None, None)
    assert each.params == params(network())


def test_inputs_that_do_not_suit_name_the_network() -> None:
    with pytest.raises(TenfoldError, match=r"the dense network: Sequential cannot run .*2x4x8x8"):
        compare({"dense": network()}, torch.zeros(2, 4, 8, 8))


def test_a_score_that_was_not_taken_is_none() -> None:
    score = Score("loss", False, measure=lambda outputs, batch: (0.0, 0))
    assert ScoreValue.of(score, None) is None
    assert [ScoreValue("mse", value, False).shown for value in (93.456, 1.0, 0.001234, 0.0)] == [
        "93.46",
        "1.00",
        "0.00123",
        "0",
    ]
    assert ScoreValue.of(score, 0.5) == ScoreValue("loss", 0.5, False)


# ---- rows
def test_the_error_of_a_row_is_that_of_the_true_weights() -> None:
    dense, plan = network(), the_plan()
    small = decompose(dense, plan)
    rows = {row.name: row for row in layer_rows(dense, small, plan, inspect(dense, X, repeats=1))}
    assert list(rows) == list(sites(dense))
    assert (rows["0"].format, rows["0"].rel_error, rows["0"].reason) == ("dense", 0.0, "the first layer stays")
    values = torch.linalg.svdvals(dense[5].weight.detach().double())
    expected = values[3:].norm() / values.norm()
    assert rows["5"].rel_error == pytest.approx(float(expected), rel=1e-5)
    assert (rows["5"].params, rows["5"].stages, rows["5"].shape) == (3 * 154, ((0, 1),), {"o": 10, "i": 144})
    assert rows["3"].ranks == (4, None)
    assert 0 < rows["3"].rel_error < 1
    assert sum(row.macs or 0 for row in rows.values()) == macs(small, X).total == macs(lower(small), X).total


def test_networks_that_do_not_belong_together_are_named() -> None:
    dense, plan = network(), the_plan()
    with pytest.raises(TenfoldError, match=r"layer '3': .*not lowered"):
        layer_rows(dense, lower(decompose(dense, plan)), plan)
    with pytest.raises(TenfoldError, match="layer '5': Sequential has no module '5'"):
        layer_rows(dense, dense[:5], plan)
    other = nn.Sequential(*dense[:5], nn.Linear(144, 11))
    with pytest.raises(TenfoldError, match=r"layer '5': .*\(11, 144\) stands for one of \(10, 144\)"):
        layer_rows(dense, other, plan)


# ---- the document
def test_a_report_has_exactly_these_keys_and_comes_back() -> None:
    given = report()
    document = json.loads(given.to_json())
    assert sorted(document) == KEYS
    assert document["recovered"] is None
    assert document["ratio"] == {
        "params": 2.5, "deployed_params": 2.0, "file_bytes": 4.0, "macs": 2.5, "time": 2.0, "time_spread": 0.1,
        "payload_bytes": None,
    }  # fmt: skip
    assert sorted(document["dense"]) == sorted(
        ["params", "file_bytes", "macs", "peak_memory_bytes", "ms_per_batch", "score", "deployed_params",
         "lowering_failed", "outputs", "speedup", "elsewhere", "layout", "payload_bytes"]
    )  # fmt: skip
    assert sorted(document["dense"]["ms_per_batch"]) == ["batch", "median", "spread", "threads"]
    assert sorted(document["dense"]["score"]) == ["higher_is_better", "name", "value"]
    assert sorted(document["layers"][1]) == sorted(
        ["name", "kind", "shape", "format", "modes", "ranks", "stages", "params", "macs", "rel_error", "reason",
         "macs_before", "seconds_before", "seconds", "spectra", "foreseen", "bits"]
    )  # fmt: skip
    assert Report.from_json(given.to_json()) == given


def test_ratios_are_dense_over_the_final_network_and_null_where_unknown() -> None:
    recovered = measured(params=500, file_bytes=None, macs=None, ms_per_batch=None)
    given = report(recovered=recovered)
    ratio = given.ratio
    assert (ratio.params, ratio.file_bytes, ratio.macs, ratio.time) == (2.0, None, None, None)
    assert Report.from_json(given.to_json()) == given


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"schema": 1', '"schema": 2', ["schema 2"]),
        ('"recovered": null', '"recovered": 3', ["'recovered'", "3 stands where", "deployed_params"]),
        ('"file_bytes": 4400', '"file_byte": 4400', ["'dense'", "'file_byte'", "did you mean 'file_bytes'"]),
        ('"rel_error": 0.0', '"rel_error": "none"', ["'layers'", "'rel_error'", "a number"]),
    ],
)
def test_a_broken_report_is_named(before: str, after: str, words: list[str]) -> None:
    text = report().to_json()
    assert before in text
    with pytest.raises(TenfoldError) as caught:
        Report.from_json(text.replace(before, after, 1))
    assert all(word in str(caught.value) for word in words), str(caught.value)


# ---- words
def test_what_was_gained_in_words() -> None:
    said = sentences(report())
    assert said[:5] == [
        "2.50 times fewer parameters.",
        "2.00 times fewer parameters in the form that runs.",
        "4.00 times fewer bytes in the file.",
        "2.50 times fewer multiply-adds a sample.",
        "2.00 times faster (± 0.10) than the dense network on this machine.",
    ]
    assert said[5] == "top-1 93.50 against 93.50 dense."
    assert said[6].startswith("The form that runs holds 500 parameters, the folder 400")
    assert "was not measured" in said[7]
    assert len(said) == 8


def layer(name: str, seconds: float) -> LayerProfile:
    return LayerProfile(
        name, "linear", "Linear", {"o": 4, "i": 4}, 16, 4, 16, 1, {"tokens": (1, 1)}, seconds, 64, False, None
    )


def profile(**seconds: float) -> Profile:
    rows = {name.replace("_", "."): layer(name.replace("_", "."), s) for name, s in seconds.items()}
    return Profile(rows, 1, 4, 16, 0, sum(seconds.values()), 64, 1, 2, "cpu", "")


def test_a_slower_network_is_said_to_be_slower_and_why() -> None:
    slow = replace(report().compressed, speedup=Speedup(1 / 1.3, 0.1))
    before = profile(a=0.001, b=0.002, ab=0.001, c=0.002)
    after = profile(a_0=0.001, a_1=0.002, b=0.0015, ab=0.001, c=0.003)
    assert [(each.name, round(each.seconds, 6)) for each in growths(before, after)] == [("a", 0.002), ("c", 0.001)]
    said = sentences(report(compressed=slow), before, after)
    assert (
        "SLOWER: takes 1.30 times as long as the dense network on this machine; "
        "the layers to blame: a (+2.00 ms), c (+1.00 ms)."
    ) in said
    assert "SLOWER: takes 1.30 times as long as the dense network on this machine." in sentences(
        report(compressed=slow)
    )


def test_a_layer_that_was_not_touched_is_not_blamed() -> None:
    """Of two weights in cores a dense one beside them was named, by the noise of its own time."""
    slow = replace(report().compressed, speedup=Speedup(1 / 1.3, 0.1))
    rows = tuple(replace(report().layers[0], name=name, format=format) for name, format in
                 (("a", "svd"), ("b", "dense"), ("c", "dense")))  # fmt: skip
    after = profile(a=0.002, b=0.003, c=0.004)
    inside = replace(after.layers["c"], obstacle="already compressed")  # beside another weight of its module
    after = replace(after, layers={**after.layers, "c": inside})
    said = sentences(report(compressed=slow, layers=rows), profile(a=0.001, b=0.001, c=0.001), after)
    assert any(each.endswith("; the layers to blame: c (+3.00 ms), a (+1.00 ms).") for each in said)


def test_what_did_not_change_is_said_so() -> None:
    said = sentences(report(compressed=measured(params=998, deployed_params=998, speedup=Speedup(1.0, 0.0))))
    assert said[0] == "As many parameters as the dense network."
    assert "No difference in time within the noise: 1.00 times as fast as the dense network (± 0.00)." in said


def test_what_got_worse_is_said() -> None:
    worse = measured(params=1250, deployed_params=3000, score=ScoreValue("top-1", 90.0, True))
    said = sentences(report(recovered=worse))
    assert "MORE parameters than the dense network: 1.25 times as many." in said
    assert "top-1 90.00 against 93.50 dense (worse)." in said
    assert any("holds 3,000 parameters, the folder 1,250" in each for each in said)
    assert not any("faster" in each or "SLOWER" in each for each in said)


@pytest.mark.parametrize(("value", "worse"), [(0.4, False), (0.5, False), (0.6, True)])
def test_a_loss_is_better_when_it_is_lower(value: float, worse: bool) -> None:
    dense, small = (measured(score=ScoreValue("loss", each, False)) for each in (0.5, value))
    assert any("(worse)" in each for each in sentences(report(dense=dense, compressed=small))) == worse


@given(st.floats(0.2, 5), st.floats(0, 2))
def test_no_claim_of_speed_where_the_spread_exceeds_the_difference(median: float, spread: float) -> None:
    [said] = [each for each in sentences(report(compressed=measured(speedup=Speedup(median, spread)))) if "ime" in each]
    claims = "faster" in said or "SLOWER" in said
    assert claims == (abs(median - 1) > spread)
    assert claims or "within the noise" in said


def test_an_identical_network_is_as_fast_within_the_noise() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 5))  # of which there is one layout
    found = compare({"dense": model, "same": model}, X, repeats=21, reference="dense")
    assert found["dense"].speedup is None
    speedup = found["same"].speedup
    assert speedup is not None
    assert not speedup.is_clear
    assert found["same"].outputs["output"] == OutputError(0.0, pytest.approx(1.0), 1.0, 1)


# ---- how far the outputs went
def far(error: float, cosine: float, agreement: float | None = 0.25) -> OutputError:
    return OutputError(error, cosine, agreement, None if agreement is None else 1)


@given(st.floats(0, 3), st.floats(-1, 1))
def test_outputs_with_next_to_nothing_left_are_called_destroyed_first(error: float, cosine: float) -> None:
    """From a relative error of 0.9 up, or a cosine of 0.1 down."""
    said = sentences(report(compressed=measured(outputs={"a": far(0.1, 0.99), "b": far(error, cosine)})))
    destroyed = error >= 0.9 or cosine <= 0.1
    assert said[0].startswith("DESTROYED") == destroyed
    assert any("DESTROYED" in each for each in said) == destroyed
    [line] = [each for each in said if "relative error" in each]
    if error > 0.1:
        assert "output 'b', the one that went furthest" in line
        assert f"relative error {error:.3f}, cosine {cosine:.3f}, the same largest entry along axis 1 in 25.0 %" in line


def test_without_inputs_nobody_looked_and_it_is_said() -> None:
    assert any("was not measured; compress does it with --input" in each for each in sentences(report()))
    rows = tuple(replace(row, rel_error=None) for row in report().layers)
    assert not any("not measured" in each for each in sentences(report(layers=rows)))  # trained from the start


def test_outputs_of_another_shape_are_not_compared_and_it_is_said() -> None:
    error = OutputError(None, None, None, None)
    said = sentences(report(compressed=measured(outputs={"boxes": error})))
    assert (
        "The outputs cannot be compared with the dense network's: of another shape, or nothing in them is finite."
        in said
    )
    assert "outputs' error" not in shown(summary_table(report(compressed=measured(outputs={"boxes": error}))))


def test_layers_of_which_almost_nothing_is_left_are_named() -> None:
    rows = [
        replace(report().layers[0], name=f"l{k}", rel_error=error) for k, error in enumerate([0.2, 0.95, None, 0.9])
    ]
    assert "ALMOST NOTHING IS LEFT of the weights of l1: relative errors above 0.9." in sentences(report(layers=rows))
    assert not any("ALMOST" in each for each in sentences(report()))
    near = measured(outputs={"output": far(0.1, 0.99)})  # which errors of weights do not show
    assert not any("ALMOST" in each for each in sentences(report(compressed=near, layers=rows)))
    assert any(
        "ALMOST" in each for each in sentences(report(compressed=measured(outputs={"y": far(2, 0)}), layers=rows))
    )


def test_the_summary_shows_how_far_the_outputs_went() -> None:
    text = shown(summary_table(report(compressed=measured(outputs={"output": far(0.123, 0.9)}))))
    assert "0.123" in text
    assert "25.0 %" in text


# ---- tables
def test_the_summary_shows_every_network_and_the_ratio() -> None:
    text = shown(summary_table(report(recovered=measured(params=1234567, deployed_params=2000000))))
    for part in [
        "dense",
        "compressed",
        "recovered",
        "ratio",
        "1,234,567",
        "2,000,000",
        "4.00 ± 0.25",
        "top-1 93.50",
    ]:
        assert part in text
    text = shown(summary_table(report()))
    assert "recovered" not in text
    assert "2.50x" in text
    first, second = (line.split() for line in text.splitlines() if "parameters" in line)
    assert first == ["parameters", "1,000", "400", "2.50x"]
    assert second == ["parameters", "that", "run", "1,000", "500", "2.00x"]
    assert "compressed" in shown(side_by_side({"compressed": measured()}))


def test_the_layer_table_shows_what_became_of_every_weight() -> None:
    text = shown(layer_table(report().layers, wide=True))
    for part in ["o16 i16 h3 w3", "tucker2", "4 full", "(0,1)", "32 %", "0.782"]:
        assert part in text


def test_the_profile_table_adds_up() -> None:
    text = shown(profile_table(inspect(network(), X, repeats=1), wide=True))
    for part in ["Conv2d", "o10 i144", "1,440", "all else", "whole", "yes", f"{params(network()):,}"]:
        assert part in text


def test_why_is_said_once_for_all_that_have_it_in_common() -> None:
    rows = [
        Row("a", reason="excluded by 'a*'"),
        Row("b", "svd", reason="2.0x fewer parameters; relative error about 0.10; best of svd, tt"),
        Row("ab", reason="excluded by 'a*'"),
        Row("c", "tt", reason="3.1x fewer parameters; relative error about 0.20; best of svd, tt"),
        Row("d", "tt", reason="3.1x fewer parameters"),
    ]
    assert reasons(rows) == ["a, ab: excluded by 'a*'.", "b, c: best of svd, tt."]
    many = [Row(f"layer{k}", reason="not included") for k in range(20)]
    assert reasons(many)[0].endswith("layer7 and 12 more: not included.")


def test_a_profile_says_which_layers_can_gain() -> None:
    depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 3))
    said = notes(inspect(depthwise, torch.zeros(2, 8, 8, 8), repeats=1))
    assert said[0] == "1 of 2 layers can gain."
    assert said[1].startswith("0: ")
    assert "2 samples" in said[2]
    assert "No inputs" in notes(inspect(network()))[-1]


def test_a_name_in_brackets_stays_a_name() -> None:
    text = shown(layer_table([replace(report().layers[0], name="[bold]x[/bold]")]))
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_screen(columns: int) -> None:
    console = Console(file=StringIO(), width=columns)
    rows = [
        replace(row, name=f"layer4.0.downsample.{k}", shape={"o": 2048, "i": 1024, "h": 1, "w": 1})
        for k, row in enumerate(report().layers)
    ]
    found = profile_table(inspect(network(), X, repeats=1), wide=columns > 100)
    for table in (layer_table(rows, wide=columns > 100), found, summary_table(report(recovered=measured()))):
        assert table.__rich_measure__(console, console.options).minimum <= columns
        assert console.measure(table).maximum <= columns
