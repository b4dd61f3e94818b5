"""A saved network comes back bit for bit, or one sentence says why not; a folder is replaced whole or not at all."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

from tenfold.formats import BUILT_IN, format_named
from tenfold.measure import state_bytes
from tenfold.protocols import TenfoldError
from tenfold.storage import (
    Document,
    Origin,
    check_writable,
    is_folder,
    load,
    read_document,
    read_plan,
    read_report,
    save,
)
from tenfold.storage.document import sealed
from tenfold.storage.replace import replacing, settle
from tenfold.surgery import Plan, Row, decompose, sites
from tenfold.surgery.stored import DTYPES, Dtype, stored

INPUT = torch.randn(3, 4, 9, 9, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """Two convolutions with batch norms, two linear layers that share a weight, buffers of both kinds."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 6, 3, stride=2, bias=False)
        self.fc1 = nn.Linear(6, 6)
        self.fc2 = nn.Linear(6, 6)
        self.fc2.weight = self.fc1.weight
        self.shift = nn.Buffer(torch.ones(6))
        self.scale = nn.Buffer(torch.full((6,), 1 / 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv1(x)))
        x = self.conv2(x).mean(dim=(2, 3))
        y: Tensor = self.fc2(torch.relu(self.fc1(x))) * self.scale + self.shift
        return y


def trained(seed: int = 0) -> Net:
    """A network with numbers of its own everywhere."""
    draw = torch.Generator().manual_seed(seed)
    model = Net()
    with torch.no_grad():
        for tensor in (*model.parameters(), model.norm.running_mean, model.shift):
            assert tensor is not None
            tensor.copy_(torch.randn(tensor.shape, generator=draw) / 2)
    return model.eval()


def planned(model: nn.Module, name: str, *layers: str) -> Plan:
    """These layers, or all that are not the first, in a format at about half of the useful ranks."""
    rows = {}
    for layer, site in sites(model).items():
        maker = format_named(name).suit(site.axes)
        if isinstance(maker, str) or (layers and layer not in layers):
            rows[layer] = Row(layer)
            continue
        short = next(key for key, kind in BUILT_IN.items() if type(maker) is kind)
        ranks = [max(1, rank // 2) for rank in maker.network(site.axes, modes={}).ranks]
        rows[layer] = Row(layer, short, ranks=tuple(ranks), reason="half of its ranks")
    return Plan(rows)


def outputs(model: nn.Module, x: Tensor = INPUT) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(x)
    return result


def never(origin: Origin, folder: Path) -> nn.Module:
    raise AssertionError(f"{origin} of {folder} was built")


def build_net(origin: Origin, folder: Path) -> nn.Module:
    del origin, folder
    return Net()


ZOO = Document(Origin("zoo", "net"))


@pytest.fixture
def small() -> tuple[nn.Module, Plan]:
    model = trained()
    plan = planned(model, "svd", "conv2", "fc1")
    return decompose(model, plan), plan


# ---- what was saved is loaded
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_format_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    model = trained()
    plan = planned(model, name)
    compressed = decompose(model, plan)
    save(tmp_path / "out", compressed, plan, ZOO)
    loaded = load(tmp_path / "out", build=build_net)
    assert not loaded.training
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(outputs(loaded), outputs(compressed))
    assert list(loaded.state_dict()) == list(compressed.state_dict())
    assert all(p.data_ptr() % 64 == 0 for p in loaded.parameters())  # torch's own memory, not the mapped file
    assert read_plan(tmp_path / "out") == plan


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["bf16", "fp16"]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from([None, "channels_last"]),
    st.integers(0, 99),
)
def test_numbers_are_stored_in_two_bytes_and_are_those_that_were_measured(
    tmp_path: Path, dtype: Dtype, own: torch.dtype, layout: str | None, seed: int
) -> None:
    model = trained(seed).to(own)
    plan = replace(planned(model, "tucker2"), dtype=dtype, layout=layout)
    compressed = decompose(model, plan)
    save(tmp_path / "half", compressed, plan, ZOO, overwrite=True)
    loaded = load(tmp_path / "half", build=build_net)
    assert torch.equal(outputs(loaded, INPUT.to(own)), outputs(compressed, INPUT.to(own)))
    assert [tensor.dtype for tensor in loaded.state_dict().values()] == [
        tensor.dtype for tensor in compressed.state_dict().values()
    ]
    with safe_open(tmp_path / "half/model.safetensors", "pt") as file:
        floating = [x for x in map(file.get_tensor, file.keys()) if x.is_floating_point()]
    assert len(floating) >= 10
    assert {x.dtype for x in floating} == {torch.bfloat16 if own == torch.bfloat16 else DTYPES[dtype]}
    size = (tmp_path / "half/model.safetensors").stat().st_size
    assert state_bytes(loaded) == state_bytes(compressed) <= size <= state_bytes(compressed) + 64  # its metadata


def test_numbers_that_do_not_fit_into_two_bytes_are_refused() -> None:
    model = trained()
    plan = planned(model, "svd", "conv2")
    with torch.no_grad():
        model.norm.running_var.fill_(1e5)
    with pytest.raises(TenfoldError) as caught:
        decompose(model, replace(plan, dtype="fp16"))
    assert str(caught.value) == "'norm.running_var' has numbers beyond 6.55e+04, where fp16 ends; store it in bf16."
    assert decompose(model, replace(plan, dtype="bf16")).norm.running_var.max() < 1.01e5


def test_masks_and_buffers_that_repeat_themselves_are_halved() -> None:
    model = nn.Linear(3, 3)
    model.register_buffer("mask", torch.full((2, 2), torch.finfo(torch.float32).min))
    model.register_buffer("same", torch.tensor([1 / 3]).expand(4))
    stored(model, "bf16")
    assert (model.mask == torch.finfo(torch.bfloat16).min).all()
    assert torch.equal(model.same, torch.full((4,), 1 / 3).bfloat16().float())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.sampled_from(["conv1", "conv2", "fc1"])),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.integers(0, 99),
)
def test_any_layers_dtype_and_layout_come_back(
    tmp_path: Path, layers: set[str], dtype: torch.dtype, layout: torch.memory_format, seed: int
) -> None:
    model = trained(seed)
    plan = planned(model, "tucker2", *(layers or {"none"}))
    compressed = decompose(model, plan).to(dtype).to(memory_format=layout)
    save(tmp_path / "out", compressed, plan, ZOO, overwrite=True)
    loaded = load(tmp_path / "out", build=build_net)
    before, after = compressed.state_dict(), loaded.state_dict()
    assert all(after[key].dtype == tensor.dtype for key, tensor in before.items())
    assert all(after[key].stride() == tensor.stride() for key, tensor in before.items())
    assert loaded.scale.dtype == dtype  # not stored, and yet in the dtype that it had
    x = INPUT.to(dtype)
    assert torch.equal(outputs(loaded, x), outputs(compressed, x))


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    model, plan = small
    save(tmp_path / "out", model, plan, ZOO)
    loaded: Any = load(tmp_path / "out", build=build_net)
    assert loaded.fc1.weight.cores[0] is loaded.fc2.weight.cores[0]
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
    with safe_open(tmp_path / "out/model.safetensors", framework="pt") as file:
        names = list(file.keys())
    assert [name for name in names if "fc2" in name] == ["fc2.bias"]
    tied = json.loads((tmp_path / "out/model.json").read_text())["tied"]
    assert tied == {f"fc2.weight.cores.{k}": f"fc1.weight.cores.{k}" for k in (0, 1)}


def test_a_core_of_several_weights_is_tied_though_the_architecture_does_not_know(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    plan = planned(model, "svd")
    compressed: Any = decompose(model, plan)
    compressed[1].weight.cores[0] = compressed[0].weight.cores[0]
    save(tmp_path / "out", compressed, plan, ZOO)
    loaded: Any = load(tmp_path / "out", build=never, model=model)
    assert loaded[1].weight.cores[0] is loaded[0].weight.cores[0]
    assert loaded[1].weight.cores[1] is not loaded[0].weight.cores[1]
    x = torch.randn(2, 6)
    assert torch.equal(outputs(loaded, x), outputs(compressed, x))


def test_a_tie_that_was_undone_stays_undone(tmp_path: Path) -> None:
    model = trained()
    model.fc2.weight = nn.Parameter(model.fc1.weight.detach() + 1)
    save(tmp_path / "out", model, Plan({}), ZOO)
    loaded = load(tmp_path / "out", build=build_net)
    assert torch.equal(outputs(loaded), outputs(model))


def test_views_of_one_storage_come_apart(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    both = torch.randn(4, 3)
    model[0].weight, model[1].weight = nn.Parameter(both[:3]), nn.Parameter(both[1:])
    save(tmp_path / "out", model, Plan({}), ZOO)
    loaded = load(tmp_path / "out", build=lambda origin, folder: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_recurrences_and_what_is_not_trained_come_back(tmp_path: Path) -> None:
    model = nn.LSTM(5, 4, num_layers=2).eval().requires_grad_(False)
    save(tmp_path / "out", model, Plan({}), ZOO)
    loaded = load(tmp_path / "out", build=never, model=nn.LSTM(5, 4, num_layers=2).requires_grad_(False))
    x = torch.randn(6, 2, 5)
    assert torch.equal(loaded(x)[0], model(x)[0])
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_compiled_model_is_saved_as_what_it_compiles(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    model, plan = small
    save(tmp_path / "plain", model, plan, ZOO, readme="")
    compiled: Any = torch.compile(model, backend="eager")
    save(tmp_path / "compiled", compiled, plan, ZOO, readme="")
    model.norm = torch.compile(model.norm, backend="eager")
    save(tmp_path / "within", model, plan, ZOO, readme="")
    assert contents(tmp_path / "plain") == contents(tmp_path / "compiled") == contents(tmp_path / "within")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_network_gives_the_same_bytes(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    model, plan = small
    for parent in ("a", "b"):
        save(tmp_path / parent / "out", model, plan, ZOO, report={"top-1": 93.5})
    assert contents(tmp_path / "a/out") == contents(tmp_path / "b/out")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "a/out").iterdir()}
    assert len(modes) == 1  # whoever may read one file may read all


def test_a_model_given_is_not_touched(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    save(tmp_path / "out", *small, ZOO)
    mine = trained(7).train()
    before = outputs(mine.eval())
    load(tmp_path / "out", build=never, model=mine.train())
    assert mine.training
    assert torch.equal(outputs(mine.eval()), before)


def test_loading_draws_no_random_numbers(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    save(tmp_path / "out", *small, ZOO)
    before = torch.get_rng_state()
    load(tmp_path / "out", build=build_net)
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_unpickles_nothing(
    tmp_path: Path, small: tuple[nn.Module, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was unpickled")

    save(tmp_path / "out", *small, ZOO)
    for module, name in [(pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")]:
        monkeypatch.setattr(module, name, refuse)
    load(tmp_path / "out", build=build_net)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in {".pt", ".pth", ".pkl", ".bin"}]


PROGRAM = """
import sys, torch
from torch import nn
from tenfold.storage import load
def build(origin, folder):
    sys.path.insert(0, str(origin.code.parent))
    import net
    return net.make()
model = load(sys.argv[1], build=build, trust_code=True)
x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    print(model(x).numpy().tobytes().hex())
"""
CODE = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))\n"


def test_another_process_gets_the_same_bits_without_the_dense_weights(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(CODE)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    plan = planned(model, "svd")
    compressed = decompose(model, plan)
    save(tmp_path / "out", compressed, plan, Document(Origin("file", "net.py:make", code)))
    code.unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    run = [sys.executable, "-c", PROGRAM, str(tmp_path / "moved")]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ}).stdout.strip()
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    assert printed == outputs(compressed, x).numpy().tobytes().hex()


# ---- documents
def test_documents_come_back(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    document = Document(
        Origin("zoo", "net"),
        normalisation={"mean": [0.5, 0.25], "std": [0.1, 0.3]},
        input={"x": [4, 9, 9]},
        settings={"data": "digits", "classes": ["null", "één"]},
    )
    save(tmp_path / "out", *small, document, report={"dense": {"params": 3}})
    assert is_folder(tmp_path / "out")
    assert read_document(tmp_path / "out") == document
    assert read_report(tmp_path / "out") == {"dense": {"params": 3}}
    save(tmp_path / "bare", *small, ZOO)
    assert read_report(tmp_path / "bare") is None


def test_the_page_counts_and_its_snippet_runs(
    tmp_path: Path, small: tuple[nn.Module, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Document(Origin("zoo", "net"), {"mean": [0.5] * 4, "std": [0.1] * 4}, {"x": [4, 9, 9]})
    save(tmp_path / "out", *small, document)
    page = (tmp_path / "out/README.md").read_text()
    dense, params = (sum(p.numel() for p in model.parameters()) for model in (Net(), small[0]))
    assert f"{params:,} parameters instead of {dense:,}" in page
    assert "| `fc1` | svd | 3 | 36 | 36 |" in page
    monkeypatch.chdir(tmp_path)
    import tenfold

    monkeypatch.setattr(tenfold, "load", lambda folder: load(folder, build=build_net), raising=False)
    names: dict[str, Any] = {}
    exec(page.split("```python")[1].split("```")[0], names)
    assert names["y"].shape == (1, 6)


# ---- what is refused, and in what words
def said(act: Callable[[], object]) -> str:
    with pytest.raises(TenfoldError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    return text


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def alter(path: Path) -> None:
    text = bytearray(path.read_bytes())
    text[-2] ^= 1
    path.write_bytes(text)


@pytest.mark.parametrize("name", ["model.safetensors", "plan.yaml", "code/net.py"])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (Path.unlink, "is missing"),
        (cut, "cut short"),
        (alter, "altered"),
        (lambda path: path.write_text(""), "another"),
    ],
    ids=["missing", "truncated", "altered", "foreign"],
)
def test_a_file_that_was_not_saved_is_named(
    tmp_path: Path, small: tuple[nn.Module, Plan], name: str, harm: Callable[[Path], object], words: str
) -> None:
    (tmp_path / "net.py").write_text(CODE)
    save(tmp_path / "out", *small, Document(Origin("file", "net.py:make", tmp_path / "net.py")))
    harm(tmp_path / "out" / name)
    text = said(lambda: load(tmp_path / "out", build=never, trust_code=True))
    assert all(part in text for part in [str(tmp_path / "out" / name), words, "copy the folder again"])
    if name == "plan.yaml" and "missing" not in words:
        assert "edit a copy and hand it to --plan" in text
        assert said(lambda: read_plan(tmp_path / "out")) == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.clear(), "not a folder that tenfold wrote"),
        (
            lambda values: values.update(schema=9, versions={"tenfold": "7.0"}),
            "install the tenfold that wrote it (7.0)",
        ),
        (lambda values: values.pop("origin"), "is damaged"),
        (lambda values: values["origin"].update(kind="pickle"), "'pickle'"),
        (lambda values: values["origin"].update(code="../evil.py"), "'../evil.py'"),
        (lambda values: values["files"].update({"/etc/passwd": "00"}), "'/etc/passwd'"),
        (lambda values: values["files"].pop("plan.yaml"), "does not list plan.yaml"),
    ],
)
def test_a_model_json_that_is_not_ours_is_one_sentence(
    tmp_path: Path, small: tuple[nn.Module, Plan], change: Callable[[dict[str, Any]], object], words: str
) -> None:
    save(tmp_path / "out", *small, ZOO)
    values = json.loads((tmp_path / "out/model.json").read_text())
    change(values)
    (tmp_path / "out/model.json").write_text(sealed(values))
    text = said(lambda: load(tmp_path / "out", build=never))
    assert words in text
    assert str(tmp_path / "out") in text


def test_what_is_no_folder_of_ours_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "json").mkdir()
    (tmp_path / "json/model.json").write_text("{")
    for place in (tmp_path / "nowhere", tmp_path / "file", tmp_path / "json", tmp_path):
        assert not is_folder(place)
        for read in (read_document, read_plan, read_report):
            assert "not a folder that tenfold wrote" in said(lambda read=read, place=place: read(place))


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (
            Origin("file", "net.py:make", Path("net.py")),
            ["code/net.py", "--trust-code", "trust_code=True", "model=MyNet"],
        ),
        (Origin("package", "evil.net:make"), ["'evil.net:make'", "--trust-code", "trust_code=True", "model=MyNet()"]),
        (Origin("given", "Net"), ["given in Python", "model=Net("]),
    ],
)
def test_code_is_run_only_where_it_is_trusted(
    tmp_path: Path, small: tuple[nn.Module, Plan], origin: Origin, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("raise SystemExit")
    save("out", *small, Document(origin))
    text = said(lambda: load("out", build=never))
    assert all(part in text for part in words)
    assert torch.equal(outputs(load("out", build=never, model=Net())), outputs(small[0]))
    if origin.kind != "given":
        load("out", build=build_net, trust_code=True)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Net(width=10), "'conv1.weight' is 10 x 4 x 3 x 3 there and 8 x 4 x 3 x 3 in the file"),
        (nn.Linear(3, 3), "no such layer"),
        (nn.Sequential(), "no such layer"),
        (decompose(trained(), planned(trained(), "svd")), "no such layer"),
    ],
)
def test_another_architecture_is_said(
    tmp_path: Path, small: tuple[nn.Module, Plan], model: nn.Module, words: str
) -> None:
    save(tmp_path / "out", *small, ZOO)
    text = said(lambda: load(tmp_path / "out", build=never, model=model))
    assert f"the model given ({type(model).__name__}) is not the one that '{tmp_path / 'out'}' was made from" in text
    assert words in text


def test_names_and_shapes_that_differ_are_said(tmp_path: Path) -> None:
    save(tmp_path / "out", trained(), Plan({}), ZOO)
    text = said(lambda: load(tmp_path / "out", build=lambda origin, folder: Net(width=10)))
    assert "'conv1.weight' is 10 x 4 x 3 x 3 there and 8 x 4 x 3 x 3 in the file (and 6 more)" in text
    text = said(lambda: load(tmp_path / "out", build=never, model=nn.Conv2d(4, 8, 3)))
    assert "the file has no 'weight', 'bias'; the network has no 'conv1.bias', 'conv1.weight', " in text


class Secretive(nn.Module):
    def get_extra_state(self) -> dict[str, int]:
        return {"a": 1}

    def set_extra_state(self, state: object) -> None: ...


def spoilt_statistics() -> nn.Module:
    norm = nn.BatchNorm1d(2)
    assert norm.running_var is not None
    norm.running_var[1] = torch.inf
    return norm


def test_a_mask_of_minus_infinity_is_saved(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.mask = nn.Buffer(torch.full((2, 2), -torch.inf).triu(1))
    save(tmp_path / "out", model, Plan({}), ZOO)
    again = nn.Linear(2, 2)
    again.mask = nn.Buffer(torch.zeros(2, 2))
    assert torch.equal(load(tmp_path / "out", build=never, model=again).mask, model.mask)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Secretive(), ["'_extra_state'", "registered buffer"]),
        (nn.LazyLinear(3), ["'weight' has no numbers"]),
        (nn.Linear(3, 3, device="meta"), ["'weight' has no numbers"]),
        (nn.Linear(3, 3, dtype=torch.complex128), ["'weight' is complex128"]),
        (nn.ParameterList([nn.Parameter(torch.eye(3).to_sparse())]), ["'0' is sparse_coo"]),
        (
            nn.ParameterList([torch.ones(2), torch.tensor([1.0, torch.nan])]),
            ["parameter '1' has 1 of 2", "NaN"],
        ),
        (nn.ParameterList([torch.tensor([1.0, -torch.inf])]), ["parameter '0' has 1 of 2"]),
        (nn.ParameterList([torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn)]), ["parameter '0' has 1 of 2"]),
        (nn.ParameterList([torch.tensor([1.0, complex(0, torch.inf)])]), ["parameter '0' has 1 of 2"]),
        (spoilt_statistics(), ["buffer 'running_var' has 1 of 2"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_cannot_be_stored_is_named_before_anything_is_written(
    tmp_path: Path, model: nn.Module, words: list[str]
) -> None:
    text = said(lambda: save(tmp_path / "a/out", model, Plan({}), ZOO))
    assert all(part in text for part in words)
    assert not list(tmp_path.iterdir())


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    assert "report.json: cannot be written" in said(
        lambda: save(tmp_path / "out", *small, ZOO, report={"a": float("nan")})
    )
    odd = Document(Origin("zoo", "net"), settings={"a": object()})  # type: ignore[dict-item]
    assert "model.json: cannot be written" in said(lambda: save(tmp_path / "out", *small, odd))
    gone = Document(Origin("file", "net.py:make", tmp_path / "net.py"))
    assert "'net.py:make' is not there" in said(lambda: save(tmp_path / "out", *small, gone))
    assert not list(tmp_path.iterdir())


def test_a_plan_that_is_not_the_models_is_refused(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    model, plan = small
    rows = dict(plan.rows)
    assert "layer 'conv2': the plan says 'svd'" in said(lambda: save(tmp_path / "out", trained(), plan, ZOO))
    assert "'fc1.weight' is in cores" in said(
        lambda: save(tmp_path / "out", model, Plan({**rows, "fc1": Row("fc1")}), ZOO)
    )
    other = Plan({**rows, "fc1": Row("fc1", "svd", ranks=(2,))})
    assert "layer 'fc1': the model's cores have other shapes" in said(lambda: save(tmp_path / "out", model, other, ZOO))


# ---- the folder, whole
def test_a_folder_is_replaced_only_when_told_and_never_if_it_is_not_ours(
    tmp_path: Path, small: tuple[nn.Module, Plan]
) -> None:
    save(tmp_path / "a/b/out", *small, ZOO)  # parents are made
    place = tmp_path / "a/b/out"
    before = contents(place)
    text = said(lambda: save(place, *small, ZOO))
    assert text == said(lambda: check_writable(place))
    assert "exists" in text
    assert "--overwrite" in text
    check_writable(place, overwrite=True)
    assert contents(place) == before

    (tmp_path / "mine").mkdir()
    check_writable(tmp_path / "mine")  # empty
    (tmp_path / "mine/model.json").write_text('{"format": "other"}')
    for overwrite in (False, True):
        assert "was not written by tenfold" in said(
            lambda o=overwrite: save(tmp_path / "mine", *small, ZOO, overwrite=o)
        )
    assert contents(tmp_path / "mine") == {"model.json": b'{"format": "other"}'}

    (tmp_path / "file").write_text("")
    for name in ("file", "file/out"):
        text = said(lambda name=name: save(tmp_path / name, *small, ZOO, overwrite=True))
        assert text == f"'{tmp_path / 'file'}' is a file; name a folder."


def test_a_plan_that_would_take_minutes_to_read_is_refused_at_once() -> None:
    with pytest.raises(
        TenfoldError, match=r"^it has 5,000,000 characters, and no YAML of ours has more than 4,194,304\.$"
    ):
        Plan.from_yaml(5_000_000 * "a")


def test_no_permission_and_a_full_disk_are_said(
    tmp_path: Path, small: tuple[nn.Module, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        text = said(lambda: check_writable(tmp_path / "x/out"))
        assert f"no permission to write in '{tmp_path}'" in text
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        text = said(lambda: save(tmp_path / "out", *small, ZOO))
        assert text == f"'{tmp_path / 'out'}' cannot be written: No space left on device."
    assert not list(tmp_path.iterdir())


def test_what_is_not_ours_in_the_folder_stays(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    place = tmp_path / "out"
    (place / "state").mkdir(parents=True)
    (place / "state/epoch3").write_text("3")
    save(place, *small, ZOO, report={}, report_html="<p>")  # a run that was stopped left its state, and nothing else
    (place / "notes.txt").write_text("mine")
    (place / "plots").mkdir()
    (place / "plots/a.png").write_text("png")
    save(place, *small, ZOO, overwrite=True)
    assert (place / "state/epoch3").read_text() == "3"
    assert (place / "notes.txt").read_text() == "mine"
    assert (place / "plots/a.png").read_text() == "png"
    assert not (place / "report.json").exists()  # of the network that was replaced
    assert not (place / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_code_of_a_folder_survives_the_folders_own_replacement(
    tmp_path: Path, small: tuple[nn.Module, Plan]
) -> None:
    (tmp_path / "net.py").write_text(CODE)
    save(tmp_path / "out", *small, Document(Origin("file", "net.py:make", tmp_path / "net.py")))
    (tmp_path / "net.py").unlink()
    save(tmp_path / "out", *small, read_document(tmp_path / "out"), overwrite=True)
    assert (tmp_path / "out/code/net.py").read_text() == CODE


def test_a_link_stays_a_link(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    save(tmp_path / "real/out", *small, ZOO)
    (tmp_path / "link").symlink_to(tmp_path / "real/out")
    save(tmp_path / "link", *small, ZOO, overwrite=True, readme="new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/out/README.md").read_text() == "new"


class KilledError(BaseException):
    """Nothing is done after it."""


def dying_after(steps: int, patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Let so many changes of the disk happen, and no more; says whether it came to that."""
    left = [steps]

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def step(*args: Any, **kwargs: Any) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return act(*args, **kwargs)

        return step

    for module, name in [(os, "mkdir"), (os, "rename"), (os, "fsync"), (shutil, "rmtree"), (shutil, "copymode")]:
        patch.setattr(module, name, counted(getattr(module, name)))
    return lambda: left[0] < 0


@pytest.mark.parametrize("exists", [True, False])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new(
    tmp_path: Path, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = trained(1), trained(2)
    answers = [outputs(model), outputs(other)]
    seen, died, steps = set(), True, 0
    while died:
        place = tmp_path / str(steps) / "out"
        place.parent.mkdir()
        if exists:
            save(place, model, Plan({}), ZOO)
            (place / "state").mkdir()
            (place / "state/epoch3").write_text("3")
        with monkeypatch.context() as patch:
            has_died = dying_after(steps, patch)
            with suppress(KilledError):
                save(place, other, Plan({}), ZOO, overwrite=True)
            died = has_died()
        if exists or is_folder(place):
            assert is_folder(place)
            answer = outputs(load(place, build=build_net))
            seen.add(next(k for k in (0, 1) if torch.equal(answer, answers[k])))
            assert "exists" in said(lambda place=place: check_writable(place))
        save(place, other, Plan({}), ZOO, overwrite=True)
        assert torch.equal(outputs(load(place, build=build_net)), answers[1])
        assert [path.name for path in place.parent.iterdir()] == ["out"]  # nothing is left over
        assert (place / "state/epoch3").exists() is exists
        steps += 1
    assert steps > 8
    assert seen == ({0, 1} if exists else {1})


def test_an_error_at_any_rename_is_said_and_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = tmp_path / "out", os.rename
    save(place, trained(1), Plan({}), ZOO)
    before = contents(place)
    for failing in (1, 2):
        calls = []

        def rename(source: Path, target: Path, failing: int = failing, calls: list[int] = calls) -> None:
            calls.append(1)
            if len(calls) == failing:
                raise OSError(16, "Device or resource busy")
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            assert "resource busy" in said(lambda: save(place, trained(2), Plan({}), ZOO, overwrite=True))
        assert contents(place) == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_living_runs_partial_is_left_alone(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    with replacing(tmp_path / "out") as partial:
        save(tmp_path / "out", *small, ZOO)
        save(tmp_path / "out.x", *small, ZOO)
        assert partial.is_dir()
        (partial / "model.json").write_text((tmp_path / "out/model.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.x"]


def test_what_a_living_run_moved_aside_is_read_and_left_there(tmp_path: Path, small: tuple[nn.Module, Plan]) -> None:
    place = tmp_path / "out"
    save(place, *small, ZOO)
    with replacing(place) as partial:
        (partial / "model.json").write_text((place / "model.json").read_text())
        place.rename(partial.with_suffix(".old"))  # where it stands between its two renames
        settle(place)
        assert not place.exists()
        assert torch.equal(outputs(load(place, build=build_net)), outputs(small[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
