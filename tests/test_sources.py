"""Networks of packages of models, by name; stand-ins with their functions, because the packages may be absent."""

import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import tenfold
from tenfold.api import open_network
from tenfold.models import resolve
from tenfold.models.sources import SOURCES
from tenfold.protocols import TenfoldError
from tenfold.storage import Document, Origin, save
from tenfold.surgery import Plan

MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.2, 0.1)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tenfold calls of timm 1.0."""

    def config(name: str) -> Any:
        plain, _, tag = name.partition(".")
        if tag not in ("", "a1_in1k"):
            raise RuntimeError(f"Invalid pretrained tag ({tag}) for {plain}.")
        return SimpleNamespace(mean=MEAN, std=STD, input_size=(3, 8, 8)) if plain == "resnet18" else None

    def create(name: str) -> nn.Module:
        if name == "broken":
            raise ValueError("no such block")
        return small()

    module: Any = ModuleType("timm")
    module.list_models = lambda: ["resnet18", "resnet34", "bare", "broken"]
    module.is_model = lambda name: name in module.list_models()
    module.get_pretrained_cfg, module.create_model = config, create
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tenfold calls of torchvision 0.20."""

    class Classes(Enum):
        DEFAULT = SimpleNamespace(transforms=lambda: SimpleNamespace(mean=list(MEAN), std=list(STD), crop_size=[8]))

        @property
        def transforms(self) -> Any:
            return self.value.transforms

    class Boxes(Enum):
        DEFAULT = SimpleNamespace(transforms=SimpleNamespace)

        @property
        def transforms(self) -> Any:
            return self.value.transforms

    def build(name: str, *, weights: None) -> nn.Module:
        assert weights is None
        return small()

    module: Any = ModuleType("torchvision.models")
    module.list_models = lambda: ["resnet18", "fasterrcnn"]
    module.get_model, module.get_model_weights = build, {"resnet18": Classes, "fasterrcnn": Boxes}.__getitem__
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", module)


@pytest.mark.usefixtures("timm", "torchvision")
@pytest.mark.parametrize("spec", ["timm:resnet18", "timm:resnet18.a1_in1k", "torchvision:resnet18"])
def test_a_name_tells_architecture_and_input(spec: str, tmp_path: Path) -> None:
    source = resolve(spec)
    assert (source.kind, source.name, source.trained) == ("zoo", spec, False)
    opened = open_network(spec)
    assert (opened.input_shape, opened.mean, opened.std, opened.drawn) == ((3, 8, 8), MEAN, STD, True)
    save(tmp_path / "out", opened.model, Plan({}), opened.document)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tenfold.load(tmp_path / "out")(x), opened.model(x))  # no trust asked: it runs no code of its own
    torch.save(opened.model.state_dict(), tmp_path / "weights.pt")
    other = open_network(spec, weights=tmp_path / "weights.pt", seed=1)
    assert torch.equal(other.model(x), opened.model(x))
    assert not other.drawn


@pytest.mark.usefixtures("timm", "torchvision")
@pytest.mark.parametrize("spec", ["timm:bare", "torchvision:fasterrcnn"])
def test_what_nobody_says_of_the_input_is_left_open(spec: str) -> None:
    source = resolve(spec)
    assert (source.mean, source.std, source.input_shape) == (None, None, None)


@pytest.mark.usefixtures("timm", "torchvision")
@pytest.mark.parametrize(("spec", "words"), [
    ("timm:resnet19", "timm has no model 'resnet19'; did you mean 'resnet18'"),
    ("torchvision:resnet", "torchvision has no model 'resnet'; did you mean 'resnet18'?"),
    ("timm:resnet18.mine", r"'timm:resnet18.mine' raised RuntimeError: Invalid pretrained tag \(mine\) for resnet18"),
    ("tim:resnet18", "neither a network of the zoo nor .* did you mean 'timm'"),
])  # fmt: skip
def test_a_name_that_is_not_there_gets_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(TenfoldError, match=words):
        resolve(spec)


@pytest.mark.usefixtures("timm")
def test_what_a_package_raises_is_one_sentence() -> None:
    with pytest.raises(TenfoldError, match=r"^'timm:broken' raised ValueError: no such block\.$"):
        open_network("timm:broken")


@pytest.mark.parametrize(("kind", "package", "extra"), [
    ("timm", "timm", "models"), ("torchvision", "torchvision.models", "models"), ("hf", "transformers", "transformers")
])  # fmt: skip
def test_a_package_that_does_not_import_is_named_with_its_extra(
    kind: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TenfoldError, match=rf"^{package} cannot be imported \(.*\); pip install 'tenfold\[{extra}\]'"):
        resolve(f"{kind}:x")
    assert kind in SOURCES


def test_a_folder_that_claims_a_zoo_name_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom torch import nn\nbuild = nn.Identity\n"
    )
    named = f"{tmp_path / 'evil.py'}:build"
    save(tmp_path / "out", nn.Linear(2, 2), Plan({}), Document(Origin("zoo", named)))
    with pytest.raises(TenfoldError, match="no network of the zoo is called"):
        tenfold.load(tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["", "/nowhere", "./nowhere"])
def test_a_folder_that_is_not_there_is_said_before_a_package_is_asked_for(name: str) -> None:
    with pytest.raises(TenfoldError, match=rf"'hf:{name}' names no folder that is there"):
        resolve(f"hf:{name}")
