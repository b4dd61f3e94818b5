"""The zoo, networks named by a string, and weights as they are published."""

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tenfold.data import load_data
from tenfold.measure.score import score
from tenfold.models import ZOO, load_weights, resolve, zoo_model
from tenfold.models.cifar_resnet import ShortcutA
from tenfold.protocols import TenfoldError
from tenfold.tasks import Objective

WEIGHTS = Path(__file__).parents[1].parent / "shared" / "data" / "weights" / "cifar10"
PARAMETERS = {
    "digits-cnn": 132_394,
    "lenet300": 266_610,
    "lenet5": 431_080,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "wrn16-4": 2_748_890,
    "wrn28-10": 36_479_194,
    "vgg16-cifar": 14_728_266,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
}
SMALL = ["digits-cnn", "lenet300", "lenet5", "resnet20"]


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_shapes_of_the_zoo(name: str) -> None:
    entry = ZOO[name]
    with torch.device("meta"):
        model = entry.build().eval()
        logits = model(torch.empty(2, *entry.input_shape))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    assert logits.shape == (2, 1000 if entry.input_shape[1] == 224 else 10)
    assert len(entry.mean or ()) == len(entry.std or ()) == entry.input_shape[0]


@pytest.mark.parametrize("name", SMALL)
def test_construction_depends_on_the_random_state_alone(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = ZOO[name].build().state_dict()
        torch.manual_seed(1)
        again = ZOO[name].build().state_dict()
        other = ZOO[name].build().state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_names_of_the_224_networks_are_torchvisions() -> None:
    with torch.device("meta"):
        small, large = zoo_model("resnet18").build().state_dict(), zoo_model("resnet50").build().state_dict()
    assert len(small) == 122
    assert len(large) == 320
    assert small["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert "layer1.0.downsample.0.weight" not in small
    assert large["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert large["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert {"conv1.weight", "bn1.running_mean", "fc.weight", "fc.bias"} <= large.keys()


def test_zoo_names_in_any_case_and_near_misses() -> None:
    assert zoo_model("ResNet20") is ZOO["resnet20"]
    with pytest.raises(TenfoldError, match=r"called 'resnet21'; did you mean .*'resnet20'"):
        zoo_model("resnet21")


def test_option_a_takes_every_second_pixel_and_pads_with_zeros() -> None:
    maps = torch.arange(2 * 2 * 4 * 4.0).reshape(2, 2, 4, 4)
    out = ShortcutA(2, 4)(maps)
    assert out.shape == (2, 4, 2, 2)
    assert not out[:, [0, 3]].any()
    assert out[0, 1].tolist() == [[0.0, 2.0], [8.0, 10.0]]
    assert torch.equal(out[:, 1:3], maps[:, :, [0, 2]][..., [0, 2]])


def test_a_cifar_resnet_is_copied_exported_and_compiled() -> None:
    model = zoo_model("resnet20").build().eval()
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model(images)
        assert torch.equal(copy.deepcopy(model)(images), wanted)
        assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(images), wanted)
        assert torch.allclose(torch.export.export(model, (images,)).module()(images), wanted, atol=1e-5)


def test_import_needs_no_optional_package() -> None:
    code = "import sys, tenfold.models, tenfold.data; print({'sklearn', 'PIL', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_sources(tmp_path: Path) -> None:
    zoo = resolve("LeNet5")
    assert (zoo.kind, zoo.name, zoo.input_shape, zoo.mean) == ("zoo", "lenet5", (1, 28, 28), (0.1307,))
    path = tmp_path / "net.py"
    path.write_text("from torch import nn\ndef build():\n    return nn.Linear(2, 3)\ndef none():\n    pass\n")
    source = resolve(f"{path}:build")
    assert (source.kind, source.name, source.code, source.input_shape) == ("file", "net.py:build", path, None)
    assert isinstance(source.function(), nn.Linear)
    assert isinstance(resolve("torch.nn:Identity").function(), nn.Identity)
    with pytest.raises(TenfoldError, match=r"net\.py:none' gave a value of type NoneType, not a torch\.nn\.Module"):
        resolve(f"{path}:none").function()
    with pytest.raises(TenfoldError, match=r"neither a network of the zoo nor a function .*did you mean 'lenet5'"):
        resolve("lenet6")


def packed(model: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in model.state_dict().items()}


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return zoo_model("digits-cnn").build(), zoo_model("digits-cnn").build()


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("holder", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_torch_files_as_published(tmp_path: Path, pair: tuple, holder: str | None, prefix: str) -> None:
    trained, model = pair
    weights = packed(trained, prefix)
    torch.save(weights if holder is None else {"epoch": 3, holder: weights}, tmp_path / "weights.pt")
    load_weights(model, tmp_path / "weights.pt")
    assert same(trained, model)


def test_safetensors_of_half_width_become_the_models_dtype(tmp_path: Path, pair: tuple) -> None:
    trained, model = pair
    trained.half()
    save_file(packed(trained), tmp_path / "weights.safetensors")
    load_weights(model, str(tmp_path / "weights.safetensors"))
    assert model.linear.weight.dtype == torch.float32
    assert same(trained.float(), model)


def test_a_prefix_that_is_the_models_own_stays(tmp_path: Path) -> None:
    model = nn.ModuleDict({"module": nn.Linear(2, 3)})
    torch.save(packed(model), tmp_path / "weights.pt")
    load_weights(model, tmp_path / "weights.pt")


def test_a_tied_weight_may_come_under_one_name(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    torch.save({"a.weight": torch.eye(2)}, tmp_path / "weights.pt")
    load_weights(model, tmp_path / "weights.pt")
    assert torch.equal(model["b"].weight, torch.eye(2))


def test_what_does_not_fit_is_named_and_nothing_is_copied(tmp_path: Path, pair: tuple) -> None:
    trained, model = pair
    before = copy.deepcopy(model)
    weights = packed(trained)
    weights["linear.weight"] = torch.zeros(11, 256)
    for k in range(1, 5):
        weights[f"extra{k}"] = weights.pop(f"conv{k}.weight")
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(TenfoldError) as caught:
        load_weights(model, tmp_path / "weights.pt")
    parts = [
        f"{tmp_path / 'weights.pt'}: these are not the 26 weights of the network",
        "4 missing (conv1.weight, conv2.weight, conv3.weight, ...)",
        "4 unexpected (extra1, extra2, extra3, ...)",
        "1 of another shape (linear.weight (11, 256) for (10, 256)).",
    ]
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert same(before, model)


def written(content: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def safetensors_bytes(folder: Path) -> bytes:
    save_file({"weight": torch.ones(3, 2), "bias": torch.ones(3)}, folder / "whole")
    return (folder / "whole").read_bytes()


def test_a_file_cut_anywhere_is_one_sentence(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    path = tmp_path / "weights"
    wholes = [written(model.state_dict()), written(model.state_dict(), legacy=True), safetensors_bytes(tmp_path)]
    for whole in wholes:
        path.write_bytes(whole)
        load_weights(model, path)
        for length in range(0, len(whole), 41):
            path.write_bytes(whole[:length])
            with pytest.raises(TenfoldError, match=r"damaged|neither safetensors nor a torch file"):
                load_weights(model, path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither safetensors nor a torch file"),
        (b"PNG, or whatever this is", "neither safetensors nor a torch file"),
        (written(torch.ones(3)), "holds a value of type Tensor, not tensors by name"),
        (written({"epoch": 3, "loss": 0.5}), "holds no plain tensors by name, at the top or under 'state_dict' or"),
        (written(nn.Linear(2, 3)), "Python objects besides tensors; save model.state_dict()"),
    ],
)
def test_foreign_files_are_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(TenfoldError) as caught:
        load_weights(nn.Linear(2, 3), tmp_path / "weights.pt")
    assert words in str(caught.value)


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TenfoldError, match=r"absent\.pt: there is no such file"):
        load_weights(nn.Linear(2, 3), tmp_path / "absent.pt")


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_weights_fit(depth: int) -> None:
    files = list(WEIGHTS.glob(f"resnet{depth}-*.th"))
    if not files:
        pytest.skip("the published weights are not beside the project, in ../shared/data/weights/cifar10.")
    load_weights(zoo_model(f"resnet{depth}").build(), files[0])


@pytest.mark.slow
def test_resnet20_scores_what_was_published() -> None:
    folder, files = os.environ.get("TENFOLD_DATA"), list(WEIGHTS.glob("resnet20-*.th"))
    if not folder or not files:
        pytest.skip("needs TENFOLD_DATA=DIR with cifar10, and ../shared/data/weights/cifar10 beside the project.")
    entry = zoo_model("resnet20")
    model = entry.build().eval()
    load_weights(model, files[0])
    data = load_data(f"cifar10:{folder}/cifar10", mean=entry.mean, std=entry.std, input_shape=entry.input_shape)
    assert score(model, data.test, data) == pytest.approx(91.73, abs=1e-2)


@pytest.mark.slow
def test_the_digits_network_learns() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = zoo_model("digits-cnn").build()
    data = load_data("digits", batch_size=64)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=10 * len(data.train))
    for _ in range(10):
        for batch in data.train:
            optimizer.zero_grad()
            Objective.of(data).loss(model(batch[0]), batch).backward()
            optimizer.step()
            schedule.step()
    assert (score(model, data.test, data) or 0) > 97
