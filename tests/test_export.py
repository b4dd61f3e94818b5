"""Exported files: they run without tenfold, for any batch, and hold what any runtime knows; or there is no file."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from typer.testing import CliRunner

import tenfold
from tenfold import formats, targets
from tenfold.cli import app
from tenfold.formats import Format
from tenfold.inputs import Inputs, inputs_for
from tenfold.layers.plain import MOST_BLOCKS, moves
from tenfold.measure import paired, relative_error
from tenfold.models import zoo_model
from tenfold.protocols import TenfoldError
from tenfold.report import export_sentences
from tenfold.surgery import Plan, decompose, sites
from tenfold.targets import ONNX, PT2, arrays, available, captured
from tenfold.targets.difference import furthest
from test_matrix import planned

MOST_DIMENSIONS = 5


class Nested(nn.Module):
    """Nested inputs with a mask, a constant, and outputs in a dict with a tuple; arguments that are not in order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(
        self, batch: Mapping[str, Tensor], flag: bool = False, *, mask: Tensor, scale: int = 2
    ) -> dict[str, Any]:
        y = self.linear(batch["x"]).masked_fill(mask.unsqueeze(-1), 0.0)
        return {"a": y.mean(1), "b": (y[:, 0] * scale, mask if flag else ~mask)}


def nested() -> tuple[nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    mask = torch.tensor([[False, False, True], [False, True, True]])
    return Nested().eval(), {"mask": mask, "scale": 3, "batch": {"x": torch.randn(2, 3, 6)}}


@pytest.mark.parametrize("suffix", targets.BUILT_IN)
def test_a_file_gives_what_the_network_gives(suffix: str, tmp_path: Path) -> None:
    model, inputs = nested()
    small = tenfold.compress(model, inputs=inputs, params="2x", format="svd").model
    out = tmp_path / "folder" / f"net.{suffix}"
    found = tenfold.export(small, inputs, out, dense=model)
    assert found.takes_any
    assert [each.samples for each in found.differences] == [1, 3]
    assert all(each.agrees and each.allowed == 1e-5 for each in found.differences)
    assert found.file.bytes == out.stat().st_size
    assert found.dense is not None
    assert found.dense.ms_per_batch.median > 0
    assert "without tenfold, on batches of 1 and 3" in " ".join(export_sentences(found))

    many = inputs_for(model, inputs).repeated(7)
    answers = available()[suffix]().opened(out, 1)(arrays(many))
    wanted = small(**many.value)
    for one, other in zip(answers, (wanted["a"], *wanted["b"]), strict=True):
        assert torch.allclose(torch.from_numpy(one), other.detach(), atol=1e-6)
    if suffix == "onnx":
        graph = loaded(out).graph
        assert [value.name for value in graph.output] == ["a", "b.0", "b.1"]
        assert [value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)] == [
            "batch"
        ] * 5
        assert str(Path(__file__).parent).encode() not in out.read_bytes()  # where the code lay is nobody's business
    with pytest.raises(TenfoldError, match="exists; --overwrite replaces it"):
        tenfold.export(small, inputs, out)


def loaded(file: Path) -> Any:
    import onnx

    return onnx.load(file)


RUNNER = """
import runpy
{head}
forward = runpy.run_path({own!r})["opened"]
def opened(file, threads):
    run = forward(file, threads)
    return lambda arrays: [each + {added} for each in run(arrays)]
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"added": 1e-3}, "of the largest entry away from the network's, and 1.0e-05 is allowed; it is not written."),
        ({"head": "import tenfold"}, "does not run in a process without tenfold: ModuleNotFoundError: the file needs"),
    ],
)
def test_a_file_that_gives_something_else_is_not_put_in_place(
    change: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER.format(**{"head": "", "own": str(PT2.runner), "added": 0.0} | change))
    monkeypatch.setattr(PT2, "runner", runner)
    out = tmp_path / "net.pt2"
    out.write_bytes(b"before")
    with pytest.raises(TenfoldError) as caught:
        tenfold.export(nn.Linear(3, 2).eval(), torch.randn(2, 3), out, overwrite=True)
    assert words in str(caught.value)
    assert str(out) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pt2", "runner.py"]
    assert out.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("wanted", "found", "error"),
    [
        ([1.0, -2.0], [1.0, -2.0], 0.0),
        ([1.0, -2.0], [1.0, -1.0], 0.5),
        ([1.0, math.inf], [2.0, math.inf], 1.0),
        ([1.0, math.inf], [1.0, 2.0], math.inf),
        ([0.0, 0.0], [0.0, 0.25], 0.25),
        ([1.0], [1.0, 1.0], math.inf),
    ],
)
def test_how_far_outputs_are(wanted: list[float], found: list[float], error: float) -> None:
    assert furthest(torch.tensor(wanted), torch.tensor(found)) == error


class Counting(nn.Module):
    """A network whose forward depends on how many samples there are."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0 if len(x) == 2 else x + x


def test_a_network_for_one_number_of_samples_says_so(tmp_path: Path) -> None:
    with pytest.raises(TenfoldError, match=r"for any number of samples: .*Constraints.*; with --batch-dim none"):
        captured(Counting(), inputs_for(Counting(), torch.randn(2, 3)))
    found = tenfold.export(Counting(), Inputs(torch.randn(2, 3), (None,)), tmp_path / "net.pt2")
    assert not found.takes_any
    assert "takes 1 sample at a time and no other number" in export_sentences(found)[0]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("net.tflite", "does not end in what an export is known by; write model.onnx or model.pt2."),
        ("net", "write model.onnx or model.pt2."),
        ("", "write model.onnx or model.pt2."),
        ("file/net.pt2", "cannot be written in"),
        ("folder.pt2", "is a folder; name a file, such as"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(out: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.pt2").mkdir()
    place = tmp_path / out if out else Path()
    with pytest.raises(TenfoldError) as caught:
        tenfold.export(nn.Linear(3, 2), None, place)
    assert words in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ONNX, "packages", ("onnx", "no_such_package"))
    with pytest.raises(TenfoldError, match=r"needs no_such_package, .* pip install 'tenfold\[export\]'"):
        targets.target_of("net.onnx")


def test_weights_that_one_onnx_file_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.targets.onnx.MOST_BYTES", 10)
    model = nn.Linear(3, 2).eval()
    program = captured(model, inputs_for(model, torch.randn(2, 3))).program
    with pytest.raises(TenfoldError, match=r"export to \.pt2"):
        ONNX().made(program, ["output"])


def test_the_command_writes_a_file_beside_the_dense_one(tmp_path: Path) -> None:
    folder, out = str(tmp_path / "small"), str(tmp_path / "net.pt2")
    run = CliRunner()
    made = run.invoke(
        app, ["compress", "digits-cnn", "--params", "4x", "--format", "svd", "--out", folder], catch_exceptions=False
    )
    assert made.exit_code == 0
    refused = run.invoke(app, ["export", folder, "--out", str(tmp_path / "net.tf")], catch_exceptions=False)
    assert (refused.exit_code, "write model.onnx or model.pt2" in refused.output) == (2, True)
    missing = run.invoke(app, ["export", str(tmp_path / "nothing"), "--out", out], catch_exceptions=False)
    assert (missing.exit_code, missing.output.count("\n")) == (2, 1)
    ended = run.invoke(app, ["export", folder, "--out", out, "--json"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["file"]["bytes"] * 2 < found["dense"]["bytes"]
    assert found["takes_any"]


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=7))
def test_a_permutation_is_one_of_few_blocks_after_the_other(data: st.DataObject, shape: list[int]) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    x = torch.arange(torch.Size([2, *shape, 3]).numel()).reshape(2, *shape, 3)
    y = x
    for sizes, places, rest in moves(shape, order):
        assert len(sizes) <= MOST_BLOCKS
        y = y.reshape(-1, *sizes, rest * 3).permute(0, *(1 + k for k in places), 1 + len(sizes))
    assert torch.equal(y.flatten(), x.permute(0, *(1 + k for k in order), len(shape) + 1).flatten())


class Encoder(nn.Module):
    """With a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.run, self.out = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(16, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.out(self.run(x, src_key_padding_mask=~mask))
        return y


class Rows(nn.Module):
    """An LSTM on rows."""

    def __init__(self) -> None:
        super().__init__()
        self.run, self.out = nn.LSTM(12, 16, num_layers=2, batch_first=True), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.run(x)[0][:, -1])
        return y


def maps() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(12, 8, 3, groups=2),
    )  # fmt: skip


MASK = torch.arange(5) < torch.tensor([[5], [3]])
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "resnet20": (lambda: zoo_model("resnet20").build(), (torch.randn(2, 3, 32, 32),)),
    "lstm": (Rows, (torch.randn(2, 5, 12),)),
    "encoder": (Encoder, (torch.randn(2, 5, 16), MASK)),
    "transposed": (maps, (torch.randn(2, 3, 8, 8),)),
}
ALIKE = {"MatMul", "Gemm"}  # a linear layer, on more dimensions and on a matrix
ALWAYS = {"Reshape", "Transpose", "Add"}  # a bias that comes after a rearrangement is added


FORMATS = {
    "resnet20": ("svd", "cp", "tr"),
    "lstm": ("svd", "cp"),
    "encoder": ("svd", "tt", "str"),
    "transposed": ("cp", "tt", "str"),
}


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_a_compressed_graph_holds_what_the_dense_one_holds(network: str, tmp_path: Path) -> None:
    build, inputs = NETWORKS[network]
    torch.manual_seed(0)
    model = build().eval()
    unfolded = captured(tenfold.lower(model, fold=False), inputs_for(model, inputs))
    dense = tmp_path / "dense.onnx"
    dense.write_bytes(ONNX().made(unfolded.program, unfolded.outputs))
    allowed = kinds(dense) | ALWAYS | normed(model) | (ALIKE if kinds(dense) & ALIKE else set())
    for form in FORMATS[network]:
        answers = {site: site.obstacle or site.suit(formats.format_named(form)) for site in sites(model).values()}
        makers = {site: answer for site, answer in answers.items() if isinstance(answer, Format)}
        found = tmp_path / f"{form}.onnx"
        tenfold.export(decompose(model, at_once(planned(makers, most=3))), inputs, found)
        assert kinds(found) <= allowed, form
        values = [*loaded(found).graph.value_info, *loaded(found).graph.output]
        assert max(len(value.type.tensor_type.shape.dim) for value in values) <= MOST_DIMENSIONS, form


def at_once(plan: Plan) -> Plan:
    """Recurrent matrices of two factors in one stage, so that the recurrence is torch's own and no loop of steps."""
    rows = {name: replace(row, stages=((0, 1),)) if "_hh_" in name else row for name, row in plan.rows.items()}
    return replace(plan, rows=rows)


def kinds(file: Path) -> set[str]:
    """Operators of a graph."""
    return {node.op_type for node in loaded(file).graph.node}


def normed(model: nn.Module) -> set[str]:
    """What batch norms are that follow a rearrangement, and torch folds away in the dense network."""
    return {"BatchNormalization"} if any(isinstance(each, nn.BatchNorm2d) for each in model.modules()) else set()


@pytest.mark.slow
def test_an_exported_file_passes_an_int8_quantiser(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"images": part.numpy()} for part in x.split(8)])

        def get_next(self) -> Any:
            return next(self.batches, None)

    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = zoo_model("resnet20").build().eval()
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    result = tenfold.compress(model, inputs=x, params="4x", format="ht2")
    tenfold.export(result.model, x, whole)
    quantize_static(whole, small, Samples(), per_channel=True)
    forwards = {file: partial(ONNX().opened(file, 1), [x.numpy()]) for file in (whole, small)}
    wanted, found = (torch.from_numpy(forward()[0]) for forward in forwards.values())
    error, times = (
        relative_error(wanted, found),
        paired({file.stem: each for file, each in forwards.items()}, repeats=5),
    )
    print(f"int8: {small.stat().st_size} of {whole.stat().st_size} bytes, error {error:.3f}, "
          f"{1e3 * times['small'].median:.1f} ms, float32 {1e3 * times['whole'].median:.1f}")  # fmt: skip
    assert small.stat().st_size < 0.75 * whole.stat().st_size
    assert error < 0.1
