"""Training that survives and spreads out: killed in mid-epoch, cut into parts, over processes, shared out."""

import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, multiprocessing, nn
from typer.testing import CliRunner

import tenfold
from tenfold.cli import app
from tenfold.data import Batches
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery import finetune
from tenfold.recovery.accelerated import repeated
from tenfold.recovery.parts import parts_of
from tenfold.recovery.stops import held_back
from tenfold.tasks import Objective

BATCH, EPOCHS, STEPS = 12, 2, 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).tanh())
        return x + y


def network(dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dense = nn.Sequential(nn.Flatten(), nn.Sequential(Block(), Block()), nn.Dropout(dropout), nn.Linear(16, 3))
        return tenfold.decompose(
            dense, tenfold.plan(dense, tenfold.inspect(dense), params="1.5x", format="svd")
        ).double()


def data(size: int = STEPS * BATCH - 5) -> Data:
    """A last batch that is smaller, and shuffled; augmented with draws of the loader's own."""
    draw = torch.Generator().manual_seed(1)
    y = torch.randint(3, (size,), generator=draw)
    x = torch.randint(0, 90, (size, 1, 4, 4), generator=draw, dtype=torch.uint8) + 50 * y.byte()[:, None, None, None]

    def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
        return images.roll(int(torch.randint(4, (), generator=generator)), 3)

    kinds = {"mean": (0.5,), "std": (0.3,), "batch_size": BATCH}
    train = Batches(x, y, augment=shifted, shuffle=True, **kinds)
    return Data(
        train=train, inputs=[], validation=Batches(x, y, **kinds), test=[], feed=lambda batch: batch[0].double()
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    found, wanted = weights(one), weights(other)
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in found)


# ---- in mid-epoch
@pytest.mark.parametrize("stop", [1, STEPS - 1, STEPS + 2])
def test_a_run_that_ends_after_any_step_goes_on_there(tmp_path: Path, stop: int) -> None:
    options: dict[str, Any] = {"epochs": EPOCHS, "lr": 0.1, "checkpoint_minutes": 0, "accumulate": 2}
    whole, again = network(0.2), network(0.2)
    losses = [step.loss for step in finetune(whole, data(), **options)]
    for _ in islice(finetune(network(0.2), data(), state=tmp_path, **options), stop):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{stop}"]
    assert [step.loss for step in finetune(again, data(), state=tmp_path, **options)] == losses[stop:]
    assert same(again, whole)


def test_checkpoints_come_by_the_clock_and_after_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10000, 90))  # a minute and a half whenever somebody looks
    monkeypatch.setattr(importlib.import_module("tenfold.recovery.finetune"), "monotonic", lambda: next(seconds))
    training = finetune(network(), data(), epochs=EPOCHS, state=tmp_path, checkpoint_minutes=4)
    kept = {step.step: [path.name for path in tmp_path.glob("step-*")] for step in training}
    assert kept[1] == kept[2] == []
    assert kept[3] == ["step-3"]
    assert kept[4] == ["step-4"]
    assert kept[8] == ["step-8"]


@pytest.mark.parametrize("deleted", range(6))
def test_a_kill_while_an_old_checkpoint_is_deleted_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    """Found by one of twenty kills: what was left of the old one was refused as another program's."""
    options: dict[str, Any] = {"epochs": 1, "state": tmp_path, "checkpoint_minutes": 0}
    training, unlink, calls = finetune(network(), data(), **options), Path.unlink, []

    def dying(path: Path, missing_ok: bool = False) -> None:
        calls.append(path)
        if path.parent.name == "step-1" and len(calls) > deleted:
            raise SystemExit
        unlink(path, missing_ok)

    next(training)
    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(SystemExit) if deleted < 5 else nullcontext():
        next(training)
    monkeypatch.undo()
    training.close()
    assert {path.name for path in tmp_path.iterdir()} == {"step-2"} | ({"step-1"} if deleted < 5 else set())
    assert [step.step for step in finetune(network(), data(), **options)] == [3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]


@pytest.fixture
def hears() -> Iterator[None]:
    """Signals are heard, also where the tests are a job in the background, which ignores SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("hears")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_comes_after_the_step_and_leaves_it_kept(tmp_path: Path, number: signal.Signals) -> None:
    whole, cut, again = network(), network(), network()
    list(finetune(whole, data(), epochs=EPOCHS))
    used = data()

    def stopping(batch: Any) -> Any:
        if stopping.calls == 2:  # type: ignore[attr-defined]
            signal.raise_signal(number)
        stopping.calls += 1  # type: ignore[attr-defined]
        return batch[0].double()

    stopping.calls = 0  # type: ignore[attr-defined]
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        list(finetune(cut, replace(used, feed=stopping), epochs=EPOCHS, state=tmp_path))
    assert signal.getsignal(number) is before
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]
    list(finetune(again, data(), epochs=EPOCHS, state=tmp_path))
    assert same(again, whole)


@pytest.mark.usefixtures("hears")
def test_a_stop_while_a_batch_is_made_keeps_the_steps_before(tmp_path: Path) -> None:
    used = data()

    class Slow:
        def __len__(self) -> int:
            return len(used.train)

        def __iter__(self) -> Iterator[Any]:
            for number, batch in enumerate(used.train):
                if number == 1:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

    with pytest.raises(KeyboardInterrupt):
        list(finetune(network(), replace(used, train=Slow()), epochs=EPOCHS, state=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]


@pytest.mark.usefixtures("hears")
def test_a_second_stop_comes_at_once() -> None:
    asked = []

    def impatient() -> None:
        with held_back() as stop:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
                asked.append(stop.asked)

    with pytest.raises(KeyboardInterrupt):
        impatient()
    assert asked == [True]


def test_where_no_signal_is_heard_none_is_held_back() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def elsewhere() -> None:
        with held_back() as stop:
            found.append((stop.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(False, before)]


# ---- parts of a batch
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_all_parts_together_have_the_gradient_of_the_batch(count: int, size: int, seed: int, words: bool) -> None:
    """Of tokens some do not count, so that the mean is not over samples."""
    draw = torch.Generator().manual_seed(seed)
    task = "tokens" if words else "classification"
    shape = (size, 3) if words else (size,)
    x = torch.randn(*shape, 4, generator=draw, dtype=torch.float64)
    y = torch.randint(4, shape, generator=draw)
    if words:
        y[torch.rand(shape, generator=draw) < 0.4] = -100
    objective = Objective.of(Data([], [], [], [], task=task))
    weight = torch.randn(4, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    whole = torch.autograd.grad(objective.loss(x @ weight, (x, y)), weight)[0]
    parts = list(parts_of((x, y), objective, range(count), count))
    assert [part.number for part in parts] == list(range(count))
    losses = [part.share * objective.loss(part.batch[0] @ weight, part.batch) for part in parts]
    found = torch.autograd.grad(torch.stack(losses).sum(), weight)[0]
    assert torch.allclose(found, whole, rtol=0, atol=1e-12)


def test_what_cannot_be_cut_is_said_before_any_work() -> None:
    x, y = torch.zeros(5, 2), torch.zeros(3, dtype=torch.int64)
    for batch, dimension, words in [((x, y), None, "3 and 5 long"), ((x, x), 1, "batch dimension 1")]:
        objective = Objective.of(Data([], [], [], [], batch=dimension))
        with pytest.raises(TenfoldError, match=f"{words}.*accumulate=1"):
            list(parts_of(batch, objective, [0], 2))
    model, used = network(), replace(data(), batch=1)
    with pytest.raises(TenfoldError, match=r"data.train was tried before any work: a batch is cut along the first"):
        tenfold.recover(model, used, epochs=1, accumulate=2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"accumulate": 0}, "accumulate=0; use 1"),
        ({"checkpoint_minutes": -1}, "every -1 minutes; use 0"),
        ({"shard": True}, "nobody to share a network with; start several with torchrun"),
    ],
)
def test_how_it_runs_is_checked(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(TenfoldError, match=words):
        next(finetune(network(), data(), epochs=1, **changed))


def test_the_device_that_was_asked_for_is_obeyed() -> None:
    """Accelerate would find another one here."""
    with pytest.raises(NotImplementedError, match="meta"):
        next(finetune(network(), data(), epochs=1, device="meta"))


def test_blocks_are_what_a_list_repeats() -> None:
    assert repeated(network()) == ["Block"]
    assert repeated(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ModuleList([Block()]))) == []
    assert repeated(nn.ModuleList([nn.ModuleList([Block(), Block()]), nn.ModuleList([nn.ReLU()])])) == ["Block"]


# ---- two processes
OPTIONS: dict[str, Any] = {"epochs": EPOCHS, "lr": 0.1, "accumulate": 2, "optimizer": "adam"}


TRAIN = ["--data", "digits", "--format", "svd", "--params", "2x", "--epochs", "1", "--batch-size", "256"]


def train_a_part(rank: int, folder: Path, port: int) -> None:
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port,
             "OMP_NUM_THREADS": 1}  # fmt: skip
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in where.items()}}
    torch.set_num_threads(1)
    out = ["--out", str(folder / "out"), "--checkpoint-minutes", "0"]
    said = CliRunner().invoke(app, ["train", "digits-cnn", *TRAIN, *out])
    (folder / f"said {rank}").write_text(f"{said.exit_code} {said.output}", encoding="utf-8")
    for shard in (False, True):  # this way round, for whoever has shared out once can do nothing else
        how = {**OPTIONS, "shard": shard, "state": folder / f"state {shard}", "checkpoint_minutes": 0}
        model, again = network(), network()
        if rank:
            for parameter in model.parameters():
                parameter.data.zero_()  # the first process's numbers count
        cut = finetune(model, data(), **how)
        losses = [step.loss for step in islice(cut, STEPS + 1)]
        cut.close()
        rest = list(finetune(again, data(), **how))
        losses += [step.loss for step in rest]
        torch.save((losses, rest[-1].score, weights(again)), folder / f"{shard} {rank}.pt")
    with pytest.raises(TenfoldError, match="has shared a network out"):
        next(finetune(network(), data(), epochs=1))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_train_the_network_of_one(tmp_path: Path) -> None:
    """Each with all of it or a part, and stopped in mid-epoch and begun again, too; and so does a command."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    multiprocessing.spawn(train_a_part, (tmp_path, port), nprocs=2)
    assert "Written to" in (tmp_path / "said 0").read_text(encoding="utf-8")
    assert (tmp_path / "said 1").read_text(encoding="utf-8") == "0 "  # one of them speaks
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"model.safetensors", "report.json", "README.md"}
    assert not (tmp_path / "out" / "state").exists()
    one = network()
    wanted = list(finetune(one, data(), **{**OPTIONS, "accumulate": 1}))
    for shard, rank in product((False, True), range(2)):
        losses, score, learnt = torch.load(tmp_path / f"{shard} {rank}.pt")
        assert losses == pytest.approx([step.loss for step in wanted], rel=1e-9)
        assert score == wanted[-1].score
        for name, tensor in weights(one).items():
            assert torch.allclose(learnt[name], tensor, rtol=1e-6, atol=1e-9)
        assert [path.name for path in (tmp_path / f"state {shard}").iterdir()] == [f"step-{EPOCHS * STEPS}"]
