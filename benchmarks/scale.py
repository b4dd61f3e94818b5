"""Training that is killed, and training over processes: what comes out is what one undisturbed process gives.

    python benchmarks/scale.py

Kills: `tenfold train`, three epochs, gets SIGKILL at random moments, four of five within its training and the others in
its first half second, and the same command is given again, until it ends. Processes: two of `torchrun` with gloo, and
one, on the same batches of 64 digits, in float32; the network is three blocks and has no batch norms. A score is top-1
on the test images, of three seeds.
"""

import argparse
import contextlib
import hashlib
import importlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tenfold
from table import page, table, written
from tenfold.cli import app
from tenfold.data import load_data
from tenfold.measure.score import score
from tenfold.recovery import finetune

TRAIN = ("train", "digits-cnn", "--data", "digits", "--format", "svd", "--params", "2x", "--epochs", "3",
         "--batch-size", "16", "--threads", "1")  # fmt: skip
OFTEN = 0.001  # minutes between checkpoints
SEEDS, EPOCHS = (0, 1, 2), 3
PROGRAM = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    str(Path(__file__).resolve()),
]
LIMITS = {"gradients": 1e-6, "losses": 1e-5}


class Block(nn.Module):
    """Two layers beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return x + y


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--part", type=Path, help="what torchrun starts: folder for what a process finds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part is not None:
        found = {name: trained(shard=shard) for name, shard in (("replicated", False), ("shared", True))}
        torch.save(found, given.part / f"{os.environ['RANK']}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        return
    kills = killed(given.kills, given.seed)
    print(kills, flush=True)
    text = page("Killed, and over processes", __doc__, "## Kills", kills, "## Processes", spread())
    print(text)
    written("scale", text)


# ---- kills
def killed(kills: int, seed: int) -> str:
    """A run that is killed so often, and one that is not."""
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        code, seconds = attempt("whole", None)
        assert code == 0
        draw, steps = random.Random(seed), []
        while len(steps) < kills:
            trains = draw.random() < 0.8
            delay = draw.uniform(0, 0.8 * seconds / kills if trains else 0.5)
            code, _ = attempt("cut", delay, trains=trains)
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            steps.append(last_kept("cut"))
        if code:
            code, _ = attempt("cut", None)
        assert code == 0
        hashes = [hashlib.sha256(Path(name, "model.safetensors").read_bytes()).hexdigest() for name in ("whole", "cut")]
    rows = [("0", hashes[0], "-"), (str(len(steps)), hashes[1], " ".join(map(str, steps)))]
    same = "The same, bit for bit." if hashes[0] == hashes[1] else "NOT the same."
    return table(("kills", "sha256 of model.safetensors", "last step kept at each kill"), rows) + f"\n\n{same}"


def attempt(out: str, delay: float | None, *, trains: bool = True) -> tuple[int, float]:
    """The command in a process of its own, killed so many seconds after it began, or after it has `trained` on.

    Returns: its exit code, and the seconds that it had a claim on its folder.
    """
    lock = Path(out, "state", "lock")
    lock.unlink(missing_ok=True)  # of a run that was killed
    before = last_kept(out)
    for needed in ("accelerate", "torch._dynamo"):  # what is imported need not be imported again
        importlib.import_module(needed)
    child = os.fork()
    if not child:
        run(out)
    began: float | None = None
    first = last = time.monotonic()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if lock.exists():
            last = time.monotonic()
            first = first if began else last
            if began is None and (not trains or last_kept(out) > before):
                began = last
            if delay is not None and began is not None and last - began >= delay:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(ended[1]), last - first


def run(out: str) -> None:
    """The command, in a process that has nothing else to do."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        app(["-q", *TRAIN, "--checkpoint-minutes", str(OFTEN), "--out", out])
    except SystemExit as end:
        os._exit(int(end.code or 0))
    os._exit(1)


def last_kept(out: str) -> int:
    """The last step that a run has kept; 0 before the first."""
    return max((int(path.name.removeprefix("step-")) for path in Path(out).glob("state/step-*")), default=0)


# ---- processes
def spread() -> str:
    """One process, two that have all of the network each, and two that share it out."""
    one = trained(shard=False)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([*PROGRAM, "--part", place], check=True)
        found = torch.load(Path(place) / "0.pt")
    two, shared = found["replicated"], found["shared"]
    gradients = max(float((a - b).norm() / b.norm()) for a, b in zip(two["gradients"], one["gradients"], strict=True))
    furthest = {
        "gradients": ("gradients of the first step, two processes and one: largest relative difference", gradients),
        "losses": ("losses of all steps, shared out (FSDP2) and not: largest relative difference", apart(shared, two)),
    }
    checks = [(what, f"{value:.1e}", f"{LIMITS[name]:.0e}") for name, (what, value) in furthest.items()]
    assert all(value <= LIMITS[name] for name, (_, value) in furthest.items()), checks
    scores = [(name, *(f"{value:.2f}" for value in each["scores"]), f"{statistics.mean(each['scores']):.2f}",
               f"{statistics.stdev(each['scores']):.2f}") for name, each in
              (("one process", one), ("two processes", two), ("two that share", shared))]  # fmt: skip
    head = ("top-1", *(f"seed {seed}" for seed in SEEDS), "mean", "deviation")
    return table(("what", "found", "at most"), checks) + "\n\n" + table(head, scores)


def apart(some: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of two runs' losses."""
    return max(abs(a - b) / abs(b) for a, b in zip(some["losses"], other["losses"], strict=True))


def trained(*, shard: bool) -> dict[str, Any]:
    """Gradients of the first step, where they are whole; losses of the first seed; scores of all."""
    found: dict[str, Any] = {"gradients": [], "losses": [], "scores": []}
    for seed in SEEDS:
        model, data = network(seed), load_data("digits", batch_size=64, seed=seed)
        for step in finetune(model, data, epochs=EPOCHS, lr=0.05, seed=seed, shard=shard):
            if seed == SEEDS[0]:
                found["losses"].append(step.loss)
                if step.step == 1 and not shard:
                    found["gradients"] = gradients_of(model.parameters())
        found["scores"].append(score(model, data.test, data))
    return found


def gradients_of(parameters: Any) -> Sequence[Tensor]:
    return [parameter.grad.clone() for parameter in parameters]


def network(seed: int) -> nn.Module:
    """Weights drawn at random, in cores."""
    torch.manual_seed(seed)
    blocks = nn.Sequential(*(Block(64) for _ in range(3)))
    dense = nn.Sequential(nn.Flatten(), blocks, nn.Linear(64, 10))
    return tenfold.decompose(dense, tenfold.plan(dense, tenfold.inspect(dense), params="2x", format="tt"))


if __name__ == "__main__":
    main()
