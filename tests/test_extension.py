"""A format and a kind of layer from another package: one class and one entry point, no change here."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tenfold import formats, layers, surgery
from tenfold.formats import BUILT_IN, format_named
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, sites

SOURCE = '''
from dataclasses import dataclass

from torch import nn

from tenfold.fitting import tree_decomposition
from tenfold.formats import Format
from tenfold.layers import Linear


@dataclass(frozen=True)
class Output(Format):
    """One truncation, the output first."""

    reversed: bool = False

    def core_labels(self, modes):
        rest = [x for axis, labels in modes.items() if axis != "o" for x in labels]
        cores = (*rest, "r1"), ("r1", *modes["o"])
        return cores[::-1] if self.reversed else cores

    def fit(self, tensor, net, generator):
        return tree_decomposition(tensor, net, root=0)


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class ScaledLayer(Linear):
    replaces = (Scaled,)

    def forward(self, x):
        return 2 * super().forward(x)

    def lower(self):
        return nn.Sequential(super().lower(), Double())


class Double(nn.Module):
    def forward(self, x):
        return 2 * x
'''
ENTRIES = """
[tenfold.formats]
output = toy_tensors:Output

[tenfold.layers]
scaled = toy_tensors:ScaledLayer
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[nn.Module]]:
    """An installed package `toy_tensors`, and its module class."""
    (tmp_path / "toy_tensors.py").write_text(SOURCE)
    info = tmp_path / "toy_tensors-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-tensors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    formats.available.cache_clear()
    layers.available.cache_clear()
    yield importlib.import_module("toy_tensors").Scaled
    sys.modules.pop("toy_tensors")
    formats.available.cache_clear()
    layers.available.cache_clear()


@pytest.mark.usefixtures("toy")
def test_a_format_of_another_package_is_one_of_the_formats() -> None:
    assert list(formats.available()) == [*BUILT_IN, "output"]
    form = format_named("output", reversed=True)
    assert formats.name_of(form) == "output"
    weight = torch.randn(5, 4, 3, dtype=torch.float64)
    for axes, ranks in (({"o": 5, "i": 4, "h": 3}, (5,)), ({"g": 5, "o": 4, "i": 3}, (3,))):
        net = form.network(axes)
        assert net.ranks == ranks
        assert torch.dist(net.weight(form.decompose(weight, net)), weight) < 1e-12
    with pytest.raises(TenfoldError, match="option 'reversed' of format 'output' takes true or false, not 1"):
        format_named("output", reversed=1)


def test_a_plan_carries_a_format_and_a_layer_of_another_package(toy: type[nn.Module]) -> None:
    model = nn.Sequential(toy(6, 4), nn.ReLU(), nn.Linear(4, 3)).double().eval()
    assert [layers.name_of(site.kind) for site in sites(model).values()] == ["scaled", "linear"]
    rows = {
        name: Row(name, "output", ranks=(rank,), options={"reversed": False}) for name, rank in (("0", 4), ("2", 3))
    }
    plan = Plan.from_yaml(Plan(rows).to_yaml())
    assert plan == Plan(rows)
    small, x = surgery.decompose(model, plan), torch.randn(2, 6, dtype=torch.float64)
    for network in (small, surgery.lower(small)):
        assert torch.dist(network(x), model(x)) < 1e-12
    assert "0.weight.cores.0" in small.state_dict()


def test_without_the_package_its_names_are_unknown() -> None:
    with pytest.raises(TenfoldError, match="layer 'a': no format is called 'output'; "):
        Plan.from_yaml("schema: 1\nlayers: {a: {format: output}}")
    assert list(layers.available()) == list(layers.BUILT_IN)
