"""Milliseconds of compressed networks on a device, a GPU where there is one, in float32 and bfloat16.

    python benchmarks/speed_device.py resnet50 matrix minilm tool --device cuda --page
    python benchmarks/speed_device.py resnet50 --device cpu --batches 1

Plans are those of `svd,tucker2,ht2` under the budget that a row names, made by a clock for the batch, the runtime, the
type and the device. Random weights; numbers in the cores are of no account for times. Networks are lowered, batch norms
folded, in the layout in which the dense one is fastest; all networks of a row and all runtimes run in turn. `speed` is
dense over compressed in the same runtime, round by round: median and distance between the quartiles. float32 is as
torch has it: convolutions may round factors to TF32 on a GPU, products of matrices may not. `tool`: seconds of planning
and decomposing large networks that lie on the device.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tenfold
from speed import HEAD, TOOLED, cells, compared, encoder_at, said
from table import page, table, written
from tenfold.api import open_network
from tenfold.inputs import to_device
from tenfold.measure.runtimes import runtimes_on
from tenfold.surgery.plan import COMPILE

FORMATS = "svd,tucker2,ht2"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WIDTH = 4096


def main() -> None:
    given = arguments()
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    for row in given.rows:
        for kind in given.types:
            for found in ROWS[row](given, device, TYPES[kind]):
                if "operators" in found:  # where milliseconds are, as the processor sees it
                    continue
                found = {"row": row, "device": name, "type": kind, **found}
                print(json.dumps(found), flush=True)
                with given.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    if given.page:
        kept = [json.loads(line) for line in given.results.read_text().splitlines()]
        rows = [(each["device"], each["type"], *cells(bare(each))) for each in kept if "runtime" in each]
        seconds = [
            (each["device"], each["tool"], said(each["asked"]), f"{each['plan']:.1f}", f"{each['decompose']:.1f}")
            for each in kept if "tool" in each
        ]  # fmt: skip
        text = page("Milliseconds on a device", __doc__, table(("device", "type", *HEAD), rows),
                    table(("device", "network", "asked", "plan, s", "decompose, s"), seconds))  # fmt: skip
        print(text)
        written("speed-device", text)


def bare(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what was asked of all."""
    return {**row, "asked": {key: value for key, value in row["asked"].items() if key not in ("format", "runtime")}}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help=", ".join(ROWS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--runtimes", nargs="+", help="eager, and what else the device has, compilers aside")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256], help="of ResNet-50")
    parser.add_argument("--results", type=Path, default=Path("speed-device.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/speed-device.md from them")
    given = parser.parse_args()
    given.runtimes = given.runtimes or [name for name in runtimes_on(given.device.split(":")[0]) if name != COMPILE]
    return given


def budgets(given: argparse.Namespace, kind: str) -> list[dict[str, Any]]:
    """2x and 4x, for the last of the runtimes."""
    return [{kind: ratio, "format": FORMATS, "runtime": given.runtimes[-1]} for ratio in ("2x", "4x")]


def resnet50(given: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """At 224, multiply-adds."""
    model = open_network("resnet50", seed=0).model.to(device, dtype)
    for batch in given.batches:
        x = torch.randn(batch, 3, 224, 224, device=device, dtype=dtype)
        yield from compared(f"ResNet-50, batch {batch}", model, x, budgets(given, "macs"), given.runtimes)


def matrix(given: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """One of 4096 x 4096, parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH)).eval().to(device, dtype)
    for tokens in (1, 16, 1024):
        x = torch.randn(tokens, WIDTH, device=device, dtype=dtype)
        yield from compared(f"4096 x 4096, {tokens} tokens", model, x, budgets(given, "params"), given.runtimes, 50)


def minilm(given: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """The 36 linear layers of an encoder like all-MiniLM-L6-v2, 32 sentences of 64 tokens, multiply-adds of these."""
    model, ids = Encoder().eval(), torch.randint(0, 1000, (32, 64), generator=torch.Generator().manual_seed(0))
    asked = [{**encoder_at(model, every), "format": FORMATS, "runtime": given.runtimes[-1]} for every in ("2x", "4x")]
    inputs = to_device({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, device)
    yield from compared("MiniLM's sizes, 36 linears", model.to(device, dtype), inputs, asked, given.runtimes)


def tool(given: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """Seconds of planning and decomposing; float32 alone."""
    for name, (build, x, asked) in TOOLED.items() if dtype == torch.float32 else ():
        torch.manual_seed(0)
        model = build().to(device)
        measured = tenfold.inspect(model, None if x is None else x.to(device))
        began = time.perf_counter()
        plan = tenfold.plan(model, measured, **asked)
        middle = time.perf_counter()
        tenfold.decompose(model, plan, quiet=True)
        yield {"tool": name, "asked": asked, "plan": middle - began, "decompose": time.perf_counter() - middle}


class Encoder(nn.Module):
    """Six layers of 384 channels, the last hidden state."""

    def __init__(self) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        torch.manual_seed(0)
        sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
        self.bert = BertModel(BertConfig(**sizes), add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return found


ROWS: dict[str, Callable[[argparse.Namespace, torch.device, torch.dtype], Iterator[dict[str, Any]]]] = {
    "resnet50": resnet50, "matrix": matrix, "minilm": minilm, "tool": tool,
}  # fmt: skip


if __name__ == "__main__":
    main()
