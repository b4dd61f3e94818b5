"""Training loops that are not ours: the page's plain one runs in test_docs, that of transformers here."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tenfold

PAGE = Path(__file__).parents[1] / "docs" / "own-loop.md"


def test_what_was_trained_elsewhere_is_measured_anew(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    pairs = [(x, (x[:, 0] > 0).long())]
    data = tenfold.Data(train=pairs, inputs=[x], validation=[], test=pairs)
    result = tenfold.compress(model, data, params="1.2x", format="svd", calibrate=0)
    steps = torch.optim.Adam(result.model.parameters(), lr=0.05)
    for _ in range(60):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(result.model(x), pairs[0][1]).backward()
        steps.step()
    found = result.measured(data)
    assert found.report.compressed == result.report.compressed
    assert found.report.recovered is not None
    assert found.report.recovered.score == tenfold.evaluate(result.model, data).score
    assert f"top-1 {found.report.recovered.score.value:.2f}" in " ".join(found.words)
    tenfold.save(found, tmp_path / "small")
    assert torch.equal(tenfold.load(tmp_path / "small", model=model)(x), result.model.eval()(x))


@pytest.mark.transformers
@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_trainer_of_transformers_trains_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says, as it stands there."""
    pytest.importorskip("transformers", reason="transformers is not installed; pip install 'tenfold[transformers]'")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {"torch": torch, "tenfold": tenfold}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(compile(code, "own-loop.md", "exec"), found)
    assert any("cores" in name for name in found["result"].model.state_dict())
    assert found["training"].training_loss < 0.6  # nothing learnt: 0.69
    with torch.no_grad():
        one, other = (m.eval()(found["words"]).logits for m in (found["result"].model, found["again"]))
    assert torch.equal(one, other)
