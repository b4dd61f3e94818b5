"""ResNet-20 on CIFAR-10 without labels at 5, 10 and 20 times fewer bytes: by ranks alone, by bits alone, by both.

    python benchmarks/bits.py --data DIR --threads 1 --page

`ranks`: SVD, Tucker-2 or TT for each kernel, in float32; `bits`: whole kernels in 8, 6, 4, 3 or 2 bits; `both`:
whatever of these serves each kernel best. Each plan is found under the budget alone (`--bytes`, of parameters; biases
and batch norms keep float32). `norms`: batch norms estimated anew on training images; `1,000 images`: that many,
without labels, weigh errors, and blocks are refined on them with rounded cores. Payload: bytes of all numbers, codes,
scales and batch norms with their means and variances included, dense over compressed; file: of the folder's
`model.safetensors`. Top-1 on the 10,000 test images, labels read by nothing before. Seconds are those of one run on one
core with others beside it.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

import tenfold
from table import page, table, written
from tenfold.api import open_network
from tenfold.data import load_data
from tenfold.protocols import TenfoldError

WEIGHTS = Path(__file__).parent.parent.parent / "shared" / "data" / "weights" / "cifar10" / "resnet20-12fca82f.th"
FORMATS = "svd,tucker2,tt"
WAYS = {
    "ranks": {"format": FORMATS},
    "bits": {"format": "dense", "bits": "auto"},
    "both": {"format": FORMATS, "bits": "auto"},
}
HEAD = ("bytes", "by", "steps", "parameters", "payload", "file", "numbers, bytes", "top-1", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("TENFOLD_DATA", "."), help="folder with cifar10/")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="by default beside the project")
    parser.add_argument("--ratios", nargs="+", default=["5x", "10x", "20x"])
    parser.add_argument("--calibrate", type=int, nargs="+", default=[0, 1000])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("bits.jsonl"), help="rows that are done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/bits.md")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = open_network("resnet20", weights=given.weights)
    data = load_data(f"cifar10:{given.data}/cifar10", mean=found.mean, std=found.std)
    rows = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    for samples in given.calibrate:
        for ratio in given.ratios:
            for way in WAYS:
                key = {"ratio": ratio, "way": way, "calibrate": samples}
                if not any(key.items() <= row.items() for row in rows):
                    rows.append({**key, **measured(found.model, data, ratio, way, samples)})
                    print(json.dumps(rows[-1]), flush=True)
                    with given.results.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    dense = f"Dense: 91.73, {rows[0]['dense']:,} bytes of numbers."
    text = page("Ranks and bits under one budget", __doc__, table(HEAD, map(shown, rows)), dense)
    print(text)
    if given.page:
        written("bits", text)


def measured(model: torch.nn.Module, data: Any, ratio: str, way: str, samples: int) -> dict[str, Any]:
    """One network: its sizes and top-1; or why there is none."""
    begun = time.perf_counter()
    try:
        result = tenfold.compress(model, data, bytes=ratio, calibrate=samples, seed=0, **WAYS[way])
    except TenfoldError as error:
        return {"refused": str(error), "dense": tenfold.measure.payload_bytes(model)}
    final, ratios = result.report.final, result.report.ratio
    return {
        "params": ratios.params, "payload": ratios.payload_bytes, "file": ratios.file_bytes,
        "bytes": final.payload_bytes, "score": final.score.value, "dense": result.report.dense.payload_bytes,
        "seconds": time.perf_counter() - begun,
    }  # fmt: skip


def shown(row: dict[str, Any]) -> list[str]:
    """A row of the page."""
    steps = f"{row['calibrate']:,} images" if row["calibrate"] else "norms"
    head = [row["ratio"], row["way"], steps]
    if "refused" in row:
        return [*head, "", "", "", "", "out of reach", ""]
    sizes = [f"{row[key]:.2f}x" for key in ("params", "payload", "file")]
    return [*head, *sizes, f"{row['bytes']:,}", f"{row['score']:.2f}", f"{row['seconds']:.0f}"]


if __name__ == "__main__":
    main()
