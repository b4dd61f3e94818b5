"""A small byte-level GPT-2, its blocks compressed on 1,000 unlabelled windows of text.

    pip install transformers
    python benchmarks/language.py --data DIR --ratios 2x 3x 4x 6x

Trained here in minutes, on wikitext-2's validation part and the first half of tinyshakespeare: 4 blocks of width 128, 4
heads, windows of 32 bytes, an output matrix of its own. The 16 matrices of the blocks are in `svd`; parameters of the
blocks (biases and norms counted) and multiply-adds of the matrices both at the ratio. Calibrated on 1,000 windows of
the validation part, others for each seed; judged by perplexity a byte on 2,000 windows of wikitext-2's test part and
2,000 of the second half of tinyshakespeare.

`plain`, `whitened`: every matrix shrinks alike, by weight error or in the metric of its inputs (SVD-LLM's). `AA-SVD`:
from `whitened`, block after block refined by AA-SVD's recipe (arXiv:2604.02119): squared error of the block's output,
AdamW at 1e-4, 25 passes in batches of 32, a tenth to warm up, cosine to zero, gradients clipped at 1. `AA-SVD, our
rate`: the same at tenfold's rate. `metric`: planned and fitted in the two-sided metric of the logits; `blocks`: then
refined, one by one and all together; `150 steps`: then of Adam in batches of 64, on further windows of the validation
part.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import tenfold
from calibration import kept, spread
from sentences import inputs_only
from table import page, table, written
from tenfold import surgery
from tenfold.api import predicted
from tenfold.api.calibrate import Unlabelled, compared
from tenfold.api.reconstruct import distilled
from tenfold.inputs import first_samples
from tenfold.protocols import Data
from tenfold.recovery import reconstruct
from tenfold.recovery.reconstruction import Refinement, refine
from tenfold.statistics import Statistics, gather
from tenfold.surgery import Plan, Row
from training import rate_share

LAYERS, WIDTH, HEADS, CONTEXT = 4, 128, 4, 32
TRAINING_STEPS, TRAINING_BATCH, RATE = 500, 128, 3e-3
WINDOWS, JUDGED, STEPS = 1000, 2000, 150
OUTPUTS = compared(Data(train=(), inputs=(), validation=(), test=(), task="language"))  # the logits about their mean
BLOCKS = "gpt.transformer.h"
TEXTS = "wikitext-2", "tinyshakespeare"
HEAD = "ratio", "seeds", "step", "params / MACs", *TEXTS, "seconds"


class ByteGPT2(nn.Module):
    """Bytes (n, t) to logits (n, t, 256)."""

    def __init__(self) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        sizes = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_positions": CONTEXT, "vocab_size": 256}
        others = {"bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False}
        self.gpt = GPT2LMHeadModel(GPT2Config(**sizes, **others, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.gpt(input_ids=ids, use_cache=False).logits
        return logits


@dataclass(frozen=True)
class Texts:
    """Bytes (n,) of a folder's texts, what is trained on and what is judged apart."""

    folder: Path

    def read(self, name: str) -> Tensor:
        """A text."""
        return torch.frombuffer(bytearray((self.folder / name).read_bytes()), dtype=torch.uint8)

    @cached_property
    def validation(self) -> Tensor:
        """What is calibrated on."""
        return self.read("wikitext2_valid.txt")

    @cached_property
    def training(self) -> Tensor:
        """What is trained on."""
        plays = self.read("tinyshakespeare.txt")
        return torch.cat([self.validation, plays[: len(plays) // 2]])

    @cached_property
    def judged(self) -> tuple[Tensor, Tensor]:
        """Windows (2,000, 32) of both texts that are judged, evenly spaced."""
        plays = self.read("tinyshakespeare.txt")
        wiki, other = self.read("wikitext2_test.txt"), plays[len(plays) // 2 :]
        return evenly(wiki), evenly(other)


def windows(text: Tensor, starts: Tensor) -> Tensor:
    """(n, context) of int64."""
    return text[starts[:, None] + torch.arange(CONTEXT)].long()


def evenly(text: Tensor) -> Tensor:
    """Windows that do not overlap."""
    return windows(text, torch.linspace(0, len(text) - CONTEXT, JUDGED).long())


def drawn(text: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Windows at random."""
    return windows(text, torch.randint(len(text) - CONTEXT + 1, (count,), generator=generator))


def perplexity(model: nn.Module, judged: Tensor) -> float:
    """exp of the mean cross entropy of a byte, given those before it in its window."""
    with torch.no_grad():
        sums = [float(surprise(model, part)) * len(part) for part in judged.split(100)]
    return math.exp(sum(sums) / len(judged))


def surprise(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean cross entropy of a byte."""
    return functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def trained(texts: Texts, cache: Path) -> nn.Module:
    """The network, from the cache where it was trained before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ByteGPT2()
    if cache.exists():
        model.load_state_dict(load_file(cache))
        return model.eval()
    draw, began = torch.Generator().manual_seed(0), time.process_time()
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate_share(step, TRAINING_STEPS))
    model.train()
    for step in range(TRAINING_STEPS):
        adam.zero_grad()
        loss = surprise(model, drawn(texts.training, TRAINING_BATCH, draw))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: {loss:.3f} nats, {time.process_time() - began:.0f} s", flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), cache)
    return model.eval()


def nothing(_: Tensor) -> list[Tensor]:
    """No output counts, so that a block is refined by its own error alone."""
    return []


@dataclass(frozen=True)
class Task:
    """A network to be compressed at a ratio, and windows to calibrate on."""

    model: nn.Module
    texts: Texts
    seed: int

    @cached_property
    def chunks(self) -> list[Any]:
        """What is calibrated on."""
        draw = torch.Generator().manual_seed(self.seed)
        return first_samples(self.model, drawn(self.texts.validation, WINDOWS, draw).split(50), WINDOWS)

    @cached_property
    def further(self) -> list[Any]:
        """Batches that follow."""
        draw = torch.Generator().manual_seed(1000 + self.seed)
        more = drawn(self.texts.validation, 64 * (STEPS + 2), draw)
        return [replace(self.chunks[0], value=batch) for batch in more.split(64)]

    @cached_property
    def statistics(self) -> Statistics:
        """Both moments of every matrix."""
        return gather(self.model, self.chunks, outputs=OUTPUTS, seed=self.seed)

    @cached_property
    def profile(self) -> Any:
        """Sizes and costs."""
        return tenfold.inspect(self.model, self.chunks[0].samples(1))

    def uniform(self, ratio: str) -> Plan:
        """Every matrix smaller by one ratio, the least that brings the blocks to theirs."""
        axes = {name: site.axes for name, site in surgery.sites(self.model).items() if name.startswith(BLOCKS)}
        dense = sum(math.prod(each.values()) for each in axes.values())
        whole = sum(p.numel() for p in self.model.get_submodule(BLOCKS).parameters())
        times = float(ratio.rstrip("x"))
        most = min(whole / times - (whole - dense), dense / times)

        def ranks(share: float) -> dict[str, int]:
            return {name: int(share * math.prod(o_i.values()) / sum(o_i.values())) for name, o_i in axes.items()}

        def size(share: float) -> int:
            return sum(rank * sum(axes[name].values()) for name, rank in ranks(share).items())

        share = max(k / 1000 for k in range(1000) if size(k / 1000) <= most)
        return Plan({name: Row(name, "svd", ranks=(rank,)) for name, rank in ranks(share).items()})

    def uniformly(self, ratio: str, *, whitened: bool) -> tuple[nn.Module, Plan]:
        """The network in that plan, by weight error or in the metric of the inputs."""
        plan = self.uniform(ratio)
        inputs = {name: inputs_only(seen[0]) for name, seen in self.statistics.seen.items() if name in plan.rows}
        return surgery.decompose(self.model, plan, inputs if whitened else None), plan


Made = Iterator[tuple[str, nn.Module, Plan]]


def plain(task: Task, ratio: str) -> Made:
    yield "plain", *task.uniformly(ratio, whitened=False)


def whitened(task: Task, ratio: str) -> Made:
    yield "whitened", *task.uniformly(ratio, whitened=True)


def aa_svd(task: Task, ratio: str, *, step: str, lr: float) -> Made:
    small, plan = task.uniformly(ratio, whitened=True)
    how = Refinement(steps=25 * WINDOWS // 32, batch=32, lr=lr)
    with mock.patch.object(refine, "PASSES", 25):  # its own; tenfold stops at 20
        for _ in reconstruct(task.model, small, task.chunks, how=how, together=0, outputs=nothing, seed=task.seed):
            pass
    yield step, small, plan


def ours(task: Task, ratio: str) -> Made:
    plan = tenfold.plan(
        task.model, task.profile, params=ratio, macs=ratio, of=[BLOCKS], format="svd",
        metrics=task.statistics.metrics, seed=task.seed,
    )  # fmt: skip
    small = tenfold.decompose(task.model, plan, statistics=task.statistics, seed=task.seed)
    yield "metric", small, plan
    for _ in reconstruct(task.model, small, task.chunks, outputs=OUTPUTS, seed=task.seed):
        pass
    yield "blocks", small, plan
    for _ in distilled(task.model, small, Unlabelled(task.chunks, OUTPUTS, task.further), STEPS):
        pass
    yield "150 steps", small, plan


METHODS: dict[str, Callable[[Task, str], Made]] = {
    "plain": plain,
    "whitened": whitened,
    "AA-SVD": partial(aa_svd, step="AA-SVD", lr=1e-4),
    "AA-SVD, our rate": partial(aa_svd, step="AA-SVD, our rate", lr=Refinement.lr),
    "ours": ours,
}


def measured(task: Task, ratio: str, method: str) -> list[dict[str, Any]]:
    """A row for each step of a method."""
    assert task.statistics  # gathered once for all, before the clock runs
    rows, began = [], time.process_time()
    for step, small, plan in METHODS[method](task, ratio):
        seconds = time.process_time() - began
        sizes = predicted(task.model, plan, task.profile, of=[BLOCKS]).part
        assert sizes is not None  # it was asked for
        scores = [perplexity(small, each) for each in task.texts.judged]
        rows.append({"ratio": ratio, "seed": task.seed, "method": method, "step": step, "params": sizes.params,
                     "macs": sizes.macs, "perplexity": scores, "seconds": seconds})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        began = time.process_time()
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line for each ratio and step."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in rows:
        groups.setdefault((each["ratio"], each["step"]), []).append(each)
    steps = list(dict.fromkeys(step for _, step in groups))
    for ratio, step in sorted(groups, key=lambda key: (float(key[0].rstrip("x")), steps.index(key[1]))):
        group = groups[ratio, step]
        yield (
            ratio, str(len(group)), step, f"{group[0]['params']:.2f} / {group[0]['macs']:.2f}",
            *(spread([each["perplexity"][k] for each in group], digits=3) for k in range(2)),
            f"{sum(each['seconds'] for each in group) / len(group):.0f}",
        )  # fmt: skip


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    texts = Texts(Path(given.data) / "text")
    model = trained(texts, given.cache)
    for seed in given.seeds:
        task = Task(model, texts, seed)
        for ratio in given.ratios:
            for method in given.methods:
                key = (ratio, seed, method)
                if any((done["ratio"], done["seed"], done["method"]) == key for done in kept(given.results)):
                    continue
                rows = measured(task, ratio, method)
                with given.results.open("a") as file:
                    file.writelines(json.dumps(each) + "\n" for each in rows)
    dense = " and ".join(f"{perplexity(model, each):.3f}" for each in texts.judged)
    note = f"Dense: {dense}. Spread over seeds: largest less smallest. Seconds: of the processor, the statistics apart."
    text = page("A byte-level GPT-2", __doc__, table(HEAD, summary(kept(given.results))), note)
    print(text)
    if given.page:
        written("language", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with text/")
    parser.add_argument("--cache", type=Path, default=Path("byte-gpt2.safetensors"), help="the trained weights")
    parser.add_argument("--ratios", nargs="+", default=["2x", "3x", "4x", "6x"])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("language.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/language.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
