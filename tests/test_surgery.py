"""Plans carried out on whole networks: nothing else changes, ties hold, every mistake is one sentence."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as hooked_spectral_norm

from tenfold import surgery
from tenfold.fitting import Metric
from tenfold.formats import format_named
from tenfold.layers import Layer
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row, matching, sites


def planned(model: nn.Module, name: str, kind: str = "svd", ranks: Sequence[int | None] | None = None, **options: Any) -> Row:
    """A row for a site, at full rank unless ranks are given, in the format's default modes."""
    axes = sites(model)[name].axes
    form = format_named(kind, **options)
    modes = {axis: tuple(sizes) for axis, sizes in form.default_modes(axes).items()}
    found = form.network(axes, None, modes).ranks if ranks is None else tuple(ranks)
    return Row(name, kind, modes, found, options=options)


def compressed(model: nn.Module, *rows: Row, **arguments: Any) -> nn.Module:
    return surgery.decompose(model, Plan({row.name: row for row in rows}), **arguments)


def everywhere(model: nn.Module, kind: str = "svd", **options: Any) -> nn.Module:
    """Every free site at full rank."""
    free = [name for name, site in sites(model).items() if site.obstacle is None]
    return compressed(model, *(planned(model, name, kind, **options) for name in free))


def shaken(model: nn.Module) -> nn.Module:
    """The network in eval mode, its batch norms with statistics of their own."""
    draw = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
    return model.eval()


def relative(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float(torch.dist(found, wanted) / wanted.norm())


# ---- sites
def masked(module: nn.Module) -> nn.Module:
    return prune.l1_unstructured(module, "weight", 0.5)


COMPUTED = [parametrizations.weight_norm, parametrizations.spectral_norm, hooked_spectral_norm, masked]


@pytest.mark.parametrize("wrap", COMPUTED)
def test_weights_computed_from_others_are_no_sites(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(wrap(nn.Linear(4, 4)), nn.Linear(4, 4))
    assert list(sites(model)) == ["1"]


class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


def test_a_weight_tied_to_an_embedding_stays_dense() -> None:
    model = TiedEmbedding()
    site = sites(model)["head"]
    assert site.places == (("head", "weight"), ("words", "weight"))
    assert site.weight(model) is not None
    assert site.obstacle == "tied to 'words.weight' (Embedding), which cannot share its cores"
    with pytest.raises(TenfoldError, match=r"layer 'head': tied to 'words.weight' \(Embedding\)"):
        compressed(model, planned(model, "head"))


# ---- lowering
class Rectified(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Halved(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.tanh(), self.bias)


@pytest.mark.parametrize("wrap", COMPUTED[:-1])  # torch cannot copy a pruned module
def test_computed_weights_are_not_folded(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = shaken(nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(surgery.lower(model)(x), model(x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), Rectified(4)),
        nn.Sequential(Halved(3, 4, 3), nn.BatchNorm2d(4)),
    ],
)
def test_a_forward_of_its_own_is_not_folded_away(model: nn.Module) -> None:
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(surgery.lower(shaken(model))(x), model(x))


class Choosy(nn.Module):
    """A forward that no proxy gets through, with a part that can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.gain = {2: 1.0, 4: 2.0}

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * self.gain[x.ndim]


def test_a_forward_that_fails_on_a_proxy_is_lowered_part_by_part() -> None:
    model, x = shaken(Choosy()), torch.randn(2, 3, 6, 6)
    lowered = surgery.lower(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules())
    assert relative(lowered(x), model(x)) < 1e-5
