"""Every format in every kind of layer, decomposed and from scratch: each cell passes, or is refused with its reason.

`python tests/test_matrix.py > docs/matrix.md` writes the page; a test compares.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tenfold import formats, layers
from tenfold.formats import Format, name_of, options_of
from tenfold.inputs import call
from tenfold.surgery import Plan, Row, Site, decompose, fresh, sites
from test_layer_gpt2 import Conv1D

PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"
OLD = "docs/matrix.md is old: python tests/test_matrix.py > it"
LIMIT = {True: 1e-3, False: 1e-10}  # of an output's norm, for formats that iterate and for those that do not


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def indices(*shape: int) -> Tensor:
    return torch.randint(0, 12, shape, generator=torch.Generator().manual_seed(0))


class Mixture(nn.Module):
    """Two experts, to which rows go by halves."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts = 2
        self.weight = nn.Parameter(torch.randn(2, 12, 8) / 8**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([half @ weight.T for half, weight in zip(x.chunk(2), self.weight, strict=True)])


EXAMPLES: Mapping[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "`nn.Linear`": (lambda: nn.Linear(8, 12), (features(2, 3, 8),)),
    "GPT-2's `Conv1D`": (lambda: Conv1D(12, 8), (features(2, 3, 8),)),
    "`nn.Conv1d`": (lambda: nn.Conv1d(6, 8, 3), (features(2, 6, 7),)),
    "`nn.Conv2d`": (lambda: nn.Conv2d(4, 6, 3, padding=1), (features(2, 4, 5, 5),)),
    "`nn.Conv2d`, 1x1": (lambda: nn.Conv2d(8, 12, 1), (features(2, 8, 3, 3),)),
    "`nn.Conv2d`, groups": (lambda: nn.Conv2d(8, 8, 3, stride=2, groups=2), (features(2, 8, 5, 5),)),
    "`nn.Conv2d`, depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (features(2, 6, 5, 5),)),
    "`nn.Conv3d`": (lambda: nn.Conv3d(4, 4, 2), (features(2, 4, 3, 3, 3),)),
    "`nn.ConvTranspose1d`": (lambda: nn.ConvTranspose1d(6, 8, 3, stride=2), (features(2, 6, 4),)),
    "`nn.ConvTranspose2d`": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1), (features(2, 6, 3, 3),)),
    "`nn.ConvTranspose2d`, groups": (lambda: nn.ConvTranspose2d(8, 8, 3, groups=2), (features(2, 8, 3, 3),)),
    "`nn.ConvTranspose3d`": (lambda: nn.ConvTranspose3d(4, 4, 2), (features(2, 4, 2, 2, 2),)),
    "`nn.Embedding`": (lambda: nn.Embedding(12, 8), (indices(2, 5),)),
    "`nn.EmbeddingBag`": (lambda: nn.EmbeddingBag(12, 8), (indices(2, 5),)),
    "`nn.LSTM`": (lambda: nn.LSTM(6, 4, bidirectional=True), (features(3, 2, 6),)),
    "`nn.LSTM`, projected": (lambda: nn.LSTM(6, 8, proj_size=4), (features(3, 2, 6),)),
    "`nn.GRU`": (lambda: nn.GRU(6, 4), (features(3, 2, 6),)),
    "`nn.RNN`": (lambda: nn.RNN(6, 4), (features(3, 2, 6),)),
    "`nn.LSTMCell`": (lambda: nn.LSTMCell(6, 4), (features(2, 6), (features(2, 4), features(2, 4)))),
    "`nn.GRUCell`": (lambda: nn.GRUCell(6, 4), (features(2, 6), features(2, 4))),
    "`nn.RNNCell`": (lambda: nn.RNNCell(6, 4), (features(2, 6), features(2, 4))),
    "experts (n, o, i)": (Mixture, (features(4, 8),)),
    "`nn.MultiheadAttention`": (lambda: nn.MultiheadAttention(6, 2), (features(3, 2, 6),) * 3),
    "`nn.TransformerEncoderLayer`": (lambda: nn.TransformerEncoderLayer(6, 2, 8, 0.0), (features(3, 2, 6),)),
}


@dataclass(frozen=True)
class Cell:
    """A format in a layer.

    Attributes:
        takes: the formats that go into its weights: itself, or what stands in; empty if it is refused.
        reason: why it is refused, in words.
    """

    takes: tuple[str, ...]
    reason: str


@cache
def cell(example: str, name: str) -> Cell:
    """What becomes of a format in a layer; AssertionError if it is neither refused nor passes both ways."""
    build, inputs = EXAMPLES[example]
    torch.manual_seed(0)
    model = build().double().eval()
    answers = {site: site.obstacle or site.suit(formats.format_named(name)) for site in sites(model).values()}
    makers = {site: answer for site, answer in answers.items() if isinstance(answer, Format)}
    if makers:
        assert_decomposed_is_the_dense_twin(model, makers, inputs)
        assert_a_fresh_one_trains(model, makers, inputs)
    return Cell(
        tuple(dict.fromkeys(name_of(maker) for maker in makers.values())),
        "; ".join(dict.fromkeys(answer for answer in answers.values() if isinstance(answer, str))),
    )


def planned(makers: Mapping[Site, Format], most: int | None = None) -> Plan:
    """A plan at full rank, or with ranks up to `most`."""
    rows = {}
    for site, maker in makers.items():
        ranks = maker.network(site.axes).ranks
        modes = {axis: tuple(sizes) for axis, sizes in maker.default_modes(site.axes).items()}
        ranks = ranks if most is None else tuple(min(rank, most) for rank in ranks)
        rows[site.name] = Row(site.name, name_of(maker), modes=modes, ranks=ranks, options=options_of(maker))
    return Plan(rows)


def assert_decomposed_is_the_dense_twin(
    model: nn.Module, makers: Mapping[Site, Format], inputs: tuple[Any, ...]
) -> None:
    limit = max(LIMIT[maker.iterates] for maker in makers.values())
    with torch.no_grad():
        found = tensors_in(call(decompose(model, planned(makers)), inputs))
        for one, other in zip(found, tensors_in(call(model, inputs)), strict=True):
            assert torch.dist(one, other) <= limit * other.norm()


def assert_a_fresh_one_trains(model: nn.Module, makers: Mapping[Site, Format], inputs: tuple[Any, ...]) -> None:
    small = fresh(model, planned(makers, most=2)).train()
    before = [parameter.detach().clone() for parameter in small.parameters()]
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    next(tensors_in(call(small, inputs))).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
    optimizer.step()
    assert all(not torch.equal(new, old) for new, old in zip(small.parameters(), before, strict=True))


def tensors_in(result: Any) -> Iterator[Tensor]:
    """The tensors of an output, in order."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple):
        for part in result:
            yield from tensors_in(part)


# ---- the page
INTRODUCTION = """\
# Formats and layers

Which format goes into which kind of layer. *yes*: decomposed at full rank, the layer is its dense twin, and a
[fresh](train.md) one trains. The name of another format: that one stands in, and does both. A number: refused, for the
reason below.
"""
COMMAND = """\
Written by the tests that hold it up:

```bash
python tests/test_matrix.py > docs/matrix.md
```
"""


def page() -> str:
    """The matrix as a page."""
    reasons: dict[str, int] = {}
    return laid_out([row(example, reasons) for example in EXAMPLES], reasons)


def laid_out(rows: Sequence[str], reasons: Mapping[str, int]) -> str:
    """The page of these rows."""
    head = [
        "| | " + " | ".join(f"`{name}`" for name in formats.BUILT_IN) + " |",
        "|---" * (len(formats.BUILT_IN) + 1) + "|",
    ]
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([INTRODUCTION, *head, *rows, "", *notes, "", COMMAND])


def row(example: str, reasons: dict[str, int]) -> str:
    """A layer's row; reasons get a number where they are met first."""
    cells = (words(name, cell(example, name), reasons) for name in formats.BUILT_IN)
    return f"| {example} | " + " | ".join(cells) + " |"


def words(name: str, found: Cell, reasons: dict[str, int]) -> str:
    """A cell in words; reasons get a number where they are met first."""
    takes = "yes" if found.takes == (name,) else ", ".join(f"`{other}`" for other in found.takes)
    number = str(reasons.setdefault(found.reason, len(reasons) + 1)) if found.reason else ""
    return " ".join(filter(None, [takes, number]))


def shown() -> tuple[list[str], dict[str, int]]:
    """The rows of the page as it is, and its reasons with their numbers."""
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    return rows, {reason: int(number) for number, reason in re.findall(r"^(\d+)\. (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_format_in_a_layer_passes_or_is_refused_as_the_page_says(example: str) -> None:
    for name in formats.BUILT_IN:
        found = cell(example, name)
        assert found.takes or found.reason, name
    rows, reasons = shown()
    assert row(example, reasons) in rows, OLD


def test_every_kind_of_layer_is_in_the_matrix() -> None:
    kinds = {layers.kind_of(build()) for build, _ in EXAMPLES.values()}
    assert kinds == set(layers.BUILT_IN.values())


def test_the_page_has_these_rows_and_no_reason_more() -> None:
    rows, reasons = shown()
    assert [line.partition(" | ")[0] for line in rows] == [f"| {example}" for example in EXAMPLES], OLD
    assert {int(number) for line in rows for number in re.findall(r" (\d+) \|", line)} == set(reasons.values()), OLD
    assert PAGE.read_text(encoding="utf-8") == laid_out(rows, reasons), OLD


if __name__ == "__main__":
    print(page(), end="")
