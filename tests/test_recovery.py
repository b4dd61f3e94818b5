import copy
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tenfold
from tenfold.measure.score import score
from tenfold.protocols import Data, Score, TenfoldError, first_part
from tenfold.recovery import Step, distillation_loss, finetune, recover, reestimate, rehearse
from tenfold.recovery.checkpoint import remove

CLASSES, SAMPLES, BATCH = 3, 48, 16
STEPS = SAMPLES // BATCH


class Shuffled:
    """Batches in an order that depends on the epoch alone."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.epoch = x, y, 0

    def __len__(self) -> int:
        return len(self.x) // BATCH

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(self.epoch)
        for rows in torch.randperm(len(self.x), generator=draw).split(BATCH):
            yield self.x[rows], self.y[rows]


def samples(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (SAMPLES,), generator=draw)
    x = torch.randn(SAMPLES, 2, 4, 4, generator=draw) + y[:, None, None, None]
    return x, y


def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(16, 8),
            nn.BatchNorm1d(8, momentum=0.2),
            nn.Linear(8, CLASSES),
        ).eval()


class Untouchable:
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("the test batches were read")


@pytest.fixture
def data() -> Data:
    train = Shuffled(*samples())
    return Data(train=train, inputs=[x for x, _ in train], validation=[samples(1)], test=Untouchable())


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def global_draws() -> list[Any]:
    """The next draws from every global generator, without disturbing them."""
    numpy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        drawn = [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()]  # noqa: NPY002
    np.random.set_state(numpy)  # noqa: NPY002
    random.setstate(python)
    return drawn


# Batch norms


def test_reestimated_statistics_are_the_mean_over_batches() -> None:
    norm = nn.BatchNorm2d(2).double()
    draw = torch.Generator().manual_seed(0)
    batches = [3 * torch.randn(n, 2, 5, 5, generator=draw, dtype=torch.float64) + 1 for n in (4, 4, 7)]
    norm(batches[0] + 9)  # statistics and a count that must not survive
    assert reestimate(norm, batches, feed=first_part) == 1
    mean = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(0)
    var = torch.stack([b.transpose(0, 1).flatten(1).var(dim=1) for b in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm.running_var, var, rtol=1e-12, atol=1e-12)


def test_a_network_with_statistics_of_the_same_batches_hardly_changes(data: Data) -> None:
    model = small()
    reestimate(model, data.train, feed=data.feed)
    x, _ = samples(2)
    before = model(x)
    reestimate(model, data.train, feed=data.feed)
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)


def test_only_statistics_change_and_every_flag_comes_back(data: Data) -> None:
    model = small()
    model[0].train()
    model[1].train()
    flags = [m.training for m in model.modules()]
    before = state_of(model)
    drawn = global_draws()  # dropout stays off, so nothing is drawn
    assert reestimate(model, data.train, feed=data.feed, limit=2) == 2
    assert global_draws() == drawn
    assert [m.training for m in model.modules()] == flags
    assert (model[1].momentum, model[6].momentum) == (0.1, 0.2)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{k}.{b}" for k in (1, 6) for b in ("running_mean", "running_var", "num_batches_tracked")}
    assert model[1].num_batches_tracked == 2
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("broken", [lambda x: x[:, :, :, None], None])
def test_after_an_error_the_network_is_as_before(data: Data, broken: Callable[[Tensor], Tensor] | None) -> None:
    model = small()
    model[6].train()
    before, flags = state_of(model), [m.training for m in model.modules()]
    x, _ = samples()
    batches = [] if broken is None else [x, broken(x)]
    with pytest.raises((RuntimeError, TenfoldError)):
        reestimate(model, batches, feed=first_part)
    assert same(state_of(model), before)
    assert [m.training for m in model.modules()] == flags
    assert (model[1].momentum, model[6].momentum) == (0.1, 0.2)


def test_a_network_without_batch_norms_needs_no_batch() -> None:
    plain = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    assert reestimate(plain, Untouchable(), feed=first_part) == 0


@pytest.mark.parametrize(("limit", "words"), [(0, ["limit=0", "1 or more"]), (3, ["no batches", "augmented"])])
def test_reestimation_says_what_it_needs(limit: int, words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        reestimate(small(), [], feed=first_part, limit=limit)
    assert all(word in str(caught.value) for word in words)


# Distillation


def test_distillation_from_oneself_has_no_gradient() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    loss = distillation_loss(logits, logits, 4.0)
    loss.backward()
    assert abs(loss.item()) <= 1e-12
    assert logits.grad is not None
    assert logits.grad.abs().max() <= 1e-12


def test_distillation_by_hand() -> None:
    student = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()  # 3/4 and 1/4
    p = torch.tensor([0.75, 0.25], dtype=torch.float64)
    torch.testing.assert_close(distillation_loss(student, teacher, 1.0), (p * (p / 0.5).log()).sum())
    torch.testing.assert_close(distillation_loss(student, 2 * teacher, 2.0), 4 * (p * (p / 0.5).log()).sum())


@pytest.mark.parametrize(("shape", "other", "words"), [((2,), (2,), "(2,)"), ((2, 5), (2, 4), "(2, 4)")])
def test_distillation_wants_logits(shape: tuple[int, ...], other: tuple[int, ...], words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        distillation_loss(torch.ones(shape), torch.ones(other), 1.0)
    assert words in str(caught.value)
    assert "teacher=None" in str(caught.value)


# Fine-tuning


def test_finetuning_lowers_the_loss_and_yields_every_step(data: Data) -> None:
    model = small()
    first = score(model, data.validation, data)
    steps = list(finetune(model, data, epochs=4, lr=0.1))
    assert [s.step for s in steps] == list(range(1, 4 * STEPS + 1))
    assert [s.epoch for s in steps] == [1 + k // STEPS for k in range(4 * STEPS)]
    assert {s.steps for s in steps} == {4 * STEPS}
    assert steps[-1].loss < 0.7 * steps[0].loss
    assert [s.score is not None for s in steps] == ([False] * (STEPS - 1) + [True]) * 4
    assert steps[-1].score == score(model, data.validation, data)
    assert first is not None
    assert steps[-1].score is not None
    assert steps[-1].score > first
    assert not any(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert not {"forward", "_original_forward", "_is_accelerate_prepared"} & model.__dict__.keys()


def test_without_validation_there_is_no_score(data: Data) -> None:
    steps = list(finetune(small(), replace(data, validation=[]), epochs=1))
    assert [s.score for s in steps] == [None] * STEPS


def test_the_first_step_is_nesterov_sgd_by_hand(data: Data) -> None:
    model = small()[3:]
    model[1].p = 0.0
    x, y = samples()
    batch = (x[:BATCH, :1], y[:BATCH])
    reference = copy.deepcopy(model).train()
    loss = nn.functional.cross_entropy(reference(batch[0]), batch[1])
    loss.backward()
    for p in model.parameters():
        p.grad = torch.ones_like(p)  # left over by the caller: must not count
    one = replace(data, train=[batch] * 10)
    lr, momentum, decay = 0.25, 0.5, 0.1
    training = finetune(model, one, epochs=1, lr=lr, momentum=momentum, weight_decay=decay)
    step = next(training)
    assert step.loss == pytest.approx(loss.item())
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert theirs.grad is not None
        gradient = theirs.grad + (decay * theirs.detach() if theirs.ndim > 1 else 0)
        expected = theirs.detach() - lr / 25 * (1 + momentum) * gradient  # one-cycle starts at lr / 25
        torch.testing.assert_close(ours.detach(), expected)


def test_adam_steps_by_the_sign_of_the_gradient_and_decays_apart(data: Data) -> None:
    model = small()[3:]
    model[1].p = 0.0
    x, y = samples()
    batch = (x[:BATCH, :1], y[:BATCH])
    reference = copy.deepcopy(model).train()
    nn.functional.cross_entropy(reference(batch[0]), batch[1]).backward()
    lr, decay = 0.25, 0.1
    one = replace(data, train=[batch] * 10)
    next(finetune(model, one, epochs=1, lr=lr, weight_decay=decay, optimizer="adam", warmup=0.1))
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert theirs.grad is not None
        kept = theirs.detach() * (1 - lr / 25 * decay if theirs.ndim > 1 else 1)
        expected = kept - lr / 25 * theirs.grad.sign()
        sure = theirs.grad.abs() > 1e-5
        torch.testing.assert_close(ours.detach()[sure], expected[sure], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 20, 40])
def test_the_rate_rises_for_the_warm_up_and_falls_to_nothing(data: Data, steps: int) -> None:
    """Of a gradient that is always 1, Adam's step is the rate."""
    model = nn.Linear(1, 1, bias=False)
    one = replace(data, train=[torch.ones(1, 1)] * steps, validation=[], loss=lambda out, batch: out.sum())
    start = model.weight.item()
    training = finetune(model, one, epochs=1, lr=0.5, weight_decay=0.0, optimizer="adam", warmup=0.1)
    rates = [before - after for before, after in pairwise([start, *(model.weight.item() for _ in training)])]
    assert max(rates) <= 0.5 + 1e-5
    if steps >= 20:
        top = round(0.1 * steps) - 1
        assert rates[top] == pytest.approx(0.5, rel=1e-3)
        assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
        assert rates[-1] < 1e-4


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_reads_what_was_computed_once(data: Data, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Of a GPU every reading is a wait."""
    read: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        own = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, own=own, name=name: (read.append(name), own(self))[1])
    own_loss = replace(data, loss=lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1]))
    training = finetune(small(), own_loss, epochs=1, accumulate=parts)
    next(training)
    read.clear()
    next(training)
    assert read == ["tolist"]


def test_the_network_has_the_average_of_its_weights(data: Data) -> None:
    """After each epoch; the training goes on from the weights themselves, as if nothing was averaged."""
    decay = 0.75
    plain, model = small(), small()
    average: dict[str, Tensor] = {}
    averaged = finetune(model, data, epochs=2, lr=0.1, average=decay)
    for one, other in zip(finetune(plain, data, epochs=2, lr=0.1), averaged, strict=True):
        assert one.loss == other.loss
        for name, now in state_of(plain).items():
            average[name] = now if name not in average else decay * average[name] + (1 - decay) * now
        if one.score is not None:
            for name, value in state_of(model).items():
                if value.is_floating_point():
                    torch.testing.assert_close(value, average[name])
            assert other.score == score(model, data.validation, data)


@pytest.mark.parametrize("decay", [0.9, 0.9999])
def test_indices_and_masks_are_not_averaged(data: Data, decay: float) -> None:
    """Rounded, indices would be one less after a step; infinities less themselves are NaN."""
    model, plain = small(), small()
    for network in (model, plain):
        network.register_buffer("index", torch.arange(1000))
        network.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    list(finetune(model, data, epochs=1, average=decay))
    list(finetune(plain, data, epochs=1))
    kept, trained = dict(model.named_buffers()), dict(plain.named_buffers())
    assert all(torch.equal(kept[name], trained[name]) for name in ("index", "mask", "1.num_batches_tracked"))


def test_a_resumed_run_goes_on_averaging(data: Data, tmp_path: Path) -> None:
    whole, again = small(), small()
    list(finetune(whole, data, epochs=3, average=0.75))
    for _ in islice(finetune(small(), data, epochs=3, average=0.75, state=tmp_path), STEPS + 1):
        pass
    list(finetune(again, data, epochs=3, average=0.75, state=tmp_path))
    assert same(state_of(again), state_of(whole))


def test_gradients_are_clipped_at_norm_5(data: Data) -> None:
    model = nn.Linear(1, 1, bias=False)
    steep = replace(data, train=[torch.ones(2, 1)] * 10, validation=[], loss=lambda out, batch: 1e4 * out.sum())
    before = model.weight.item()
    next(finetune(model, steep, epochs=1, lr=0.25, momentum=0.5, weight_decay=0.0))
    assert model.weight.item() == pytest.approx(before - 0.01 * 1.5 * 5.0, rel=1e-5)


def test_the_teacher_teaches_and_is_left_alone(data: Data) -> None:
    model, teacher = small(), small()
    for p in teacher.parameters():
        p.data = 1.5 * p.data
    teacher[1].train()
    before = state_of(teacher)
    only = list(finetune(model, data, epochs=6, lr=0.1, teacher=teacher, distill=1.0))
    assert only[-1].loss < 0.5 * only[0].loss
    assert same(state_of(teacher), before)
    assert teacher[1].training
    assert not teacher[4].training
    assert all(p.grad is None for p in teacher.parameters())


def test_distill_weighs_the_two_losses(data: Data) -> None:
    losses = []
    for distill in (0.0, 1.0, 0.25):
        teacher = small()[:-1].append(nn.Linear(8, CLASSES, bias=False))
        teacher[-1].weight.data = torch.eye(CLASSES, 8)
        losses.append(next(finetune(small(), data, epochs=1, teacher=teacher, distill=distill)).loss)
    assert losses[2] == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-5)
    assert losses[0] == next(finetune(small(), data, epochs=1)).loss


def loaders(data: Data) -> Data:
    """The same data from loaders of torch, which draw from the global state."""
    train, validation = (TensorDataset(*samples(seed)) for seed in (0, 1))
    return replace(
        data, train=DataLoader(train, batch_size=BATCH, shuffle=True), validation=DataLoader(validation, BATCH)
    )


@pytest.mark.parametrize("loader", [False, True])
def test_a_seed_decides_all_and_the_global_state_nothing(data: Data, loader: bool) -> None:
    found = []
    for noise, seed in [(0, 5), (1, 5), (2, 6)]:
        model = small()
        used = loaders(data) if loader else data
        torch.manual_seed(noise)
        drawn = global_draws()
        for _ in recover(model, used, epochs=2, seed=seed):
            assert global_draws() == drawn
        assert global_draws() == drawn
        found.append(state_of(model))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("loader", [False, True])
@pytest.mark.parametrize("stop", [STEPS, 2 * STEPS - 1, 3 * STEPS])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    data: Data, tmp_path: Path, stop: int, loader: bool
) -> None:
    used = loaders(data) if loader else data
    whole = small()
    expected = list(recover(whole, used, epochs=3, lr=0.1))
    state = tmp_path / "out" / "state"
    cut = small()
    for step in islice(recover(cut, used, epochs=3, lr=0.1, state=state), stop):
        assert isinstance(step, Step)
    assert [p.name for p in state.iterdir()] == [f"step-{stop // STEPS * STEPS}"]
    assert not cut.training
    (state / "saving").mkdir()  # as a killed process leaves it
    (state / "saving" / "run.json").write_text("{}")
    (state / "saving" / "stale").touch()
    again = small()
    random.random()
    np.random.rand()  # noqa: NPY002
    torch.rand(1)
    drawn = global_draws()
    rest = []
    for step in recover(again, used, epochs=3, lr=0.1, state=state):
        rest.append(step)
        assert step.score is None or not list(state.rglob("stale"))
    assert global_draws() == drawn
    assert [s.loss for s in rest] == [s.loss for s in expected[stop // STEPS * STEPS :]]
    assert same(state_of(again), state_of(whole))
    assert not again.training
    assert {p.name for p in state.iterdir()} - {"saving"} == {
        f"step-{3 * STEPS}"
    }  # for whoever writes the network to delete
    finished = small()
    assert list(recover(finished, used, epochs=3, lr=0.1, state=state)) == []
    assert same(state_of(finished), state_of(whole))
    remove(state)
    assert not state.exists()


class Noise:
    """Batches that are drawn from the global state, and do not say how many there are."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(STEPS):
            x = torch.randn(BATCH, 2, 4, 4)
            self.drawn.append(x[0, 0, 0, 0].item())
            yield x, torch.arange(BATCH) % CLASSES


def test_augmentation_differs_in_every_step_and_leaves_the_global_state(data: Data) -> None:
    noise = Noise()
    drawn = global_draws()
    training = finetune(small(), replace(data, train=noise), epochs=3)
    assert global_draws() == drawn
    noise.drawn.clear()
    assert len(list(training)) == 3 * STEPS
    assert global_draws() == drawn
    assert len(set(noise.drawn)) == 3 * STEPS


def test_the_data_are_told_the_epoch(data: Data) -> None:
    told = [data.train.epoch for _ in finetune(small(), data, epochs=2)]
    assert told == [0] * STEPS + [1] * STEPS


def test_the_files_of_others_are_neither_used_nor_deleted(data: Data, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    list(finetune(small(), data, epochs=1, state=tmp_path))
    remove(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    for name in ("step-7", "saving"):  # of another program
        (tmp_path / name / "numbers").mkdir(parents=True)
        with pytest.raises(TenfoldError, match="is not a checkpoint that tenfold wrote") as caught:
            list(finetune(small(), data, epochs=1, state=tmp_path))
        assert str(tmp_path / name) in str(caught.value)
        assert (tmp_path / name / "numbers").exists()
        shutil.rmtree(tmp_path / name)


def test_two_runs_do_not_share_a_state(data: Data, tmp_path: Path) -> None:
    first = finetune(small(), data, epochs=2, state=tmp_path / "state")
    next(first)
    second = finetune(small(), data, epochs=2, state=tmp_path / "state")
    with pytest.raises(TenfoldError, match=rf"another run \(process {os.getpid()} on .*\) is writing .*state"):
        next(second)
    assert len(list(first)) == 2 * STEPS - 1
    assert list(finetune(small(), data, epochs=2, state=tmp_path / "state")) == []
    assert [p.name for p in (tmp_path / "state").iterdir()] == [f"step-{2 * STEPS}"]


def test_a_state_of_another_run_is_refused(data: Data, tmp_path: Path) -> None:
    for _ in islice(finetune(small(), data, epochs=2, state=tmp_path), STEPS):
        pass
    others: list[tuple[nn.Module, dict[str, Any], str]] = [
        (small(), {"lr": 0.5, "seed": 3}, "lr (0.02, now 0.5), seed (0, now 3)"),
        (small()[:-1], {}, "network"),
        (small(), {"teacher": small()}, "distill (0.0, now 0.9)"),
        (small(), {"optimizer": "adam", "warmup": 0.1}, "optimizer (sgd, now adam), warmup (0.3, now 0.1)"),
    ]
    for model, changed, names in others:
        with pytest.raises(TenfoldError) as caught:
            finetune(model, data, epochs=2, state=tmp_path, **changed)
        assert all(part in str(caught.value) for part in [str(tmp_path), f"differs in {names}", "delete it"])
    assert json.loads((tmp_path / f"step-{STEPS}" / "run.json").read_text())["epochs"] == 2


def test_tied_weights_come_back_tied(data: Data, tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = small()
        model[5] = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 8))
        for p in model[5].parameters():
            p.data = torch.linspace(-1, 1, p.numel()).view(p.shape)
        model[5][1].weight = model[5][0].weight
        return model

    whole, again = tied(), tied()
    list(finetune(whole, data, epochs=2))
    for _ in islice(finetune(tied(), data, epochs=2, state=tmp_path), STEPS):
        pass
    list(finetune(again, data, epochs=2, state=tmp_path))
    assert same(state_of(again), state_of(whole))
    assert again[5][0].weight is again[5][1].weight


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("cause", ["inputs", "function"])
def test_a_loss_or_gradient_that_is_not_finite_gets_one_sentence(data: Data, what: str, cause: str) -> None:
    """The network, its batch norms included, is then as before that step."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, CLASSES))
    x, y = samples()
    good, bad = (x[:BATCH], y[:BATCH]), (x[BATCH:].clone(), y[BATCH:])
    if cause == "inputs":
        bad[0][0, 0, 0, 0] = float("nan")

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        if batch is not None and len(batch[0]) > BATCH and what == "gradient":
            return (0 * model[3].weight).sqrt().mul(0).sum()  # finite, its slope is not
        found = nn.functional.cross_entropy(outputs, batch[1])
        return found * float("inf") if len(batch[0]) > BATCH else found

    training = finetune(model, replace(data, train=[good, bad, good], loss=loss), epochs=1, lr=0.3)
    next(training)
    before = state_of(model)
    with pytest.raises(TenfoldError) as caught:
        next(training)
    said = "" if cause == "inputs" and what == "gradient" else f"the {what} is "  # (there the statistics are first)
    words = ["its inputs hold NaN or infinity; leave it out"] if cause == "inputs" else ["rate is 0.", "try lr=0.03"]
    assert all(part in str(caught.value) for part in [said, "step 2 of 3 (batch 2 of epoch 1)", *words])
    assert same(state_of(model), before)
    assert not model.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("at", [1, 3])
def test_a_batch_that_would_spoil_batch_norms_is_refused_by_its_number(data: Data, bad: float, at: int) -> None:
    model = small()
    batches = [x.clone() for x, _ in data.train]
    batches[at - 1][5, 1] = bad
    before, clean = state_of(model), state_of(model)
    with pytest.raises(TenfoldError) as caught:
        reestimate(model, batches, feed=first_part)
    cause = "though its inputs do not" if bad == 3e38 else "its inputs hold NaN or infinity; leave it out"
    assert all(part in str(caught.value) for part in [f"batch {at} makes running statistics", cause])
    assert same(state_of(model), before)
    labelled = [(x, torch.arange(BATCH) % CLASSES) for x in batches]
    blind = replace(data, train=labelled, loss=lambda outputs, batch: model[7].weight.square().sum())  # sees no NaN
    training = finetune(model, blind, epochs=1)
    for _ in islice(training, at - 1):
        clean = state_of(model)
    with pytest.raises(TenfoldError, match=rf"step {at} of 3 \(batch {at} of epoch 1\) makes running statistics"):
        next(training)
    assert same(state_of(model), clean)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_score_is_given_of_outputs_that_are_not_finite(data: Data, bad: float) -> None:
    logits, y = torch.ones(4, CLASSES), torch.zeros(4, dtype=torch.int64)
    spoilt = logits.clone()
    spoilt[1, 2] = bad
    with pytest.raises(TenfoldError, match="outputs for batch 2 hold NaN or infinity: its inputs hold"):
        score(nn.Identity(), [(logits, y), (spoilt, y)], data)
    model = nn.Linear(CLASSES, CLASSES)
    nn.init.constant_(model.bias, bad)
    with pytest.raises(TenfoldError, match="outputs for batch 1 hold NaN or infinity, though its inputs do not"):
        score(model, [(logits, y)], data)
    odd = replace(data, score=Score("perplexity", measure=lambda outputs, batch: (bad, 1)))
    with pytest.raises(TenfoldError, match=f"the score 'perplexity' is {bad}"):
        score(nn.Identity(), [(logits, y)], odd)
    masked = logits.clone()
    masked[:, 1] = -torch.inf  # how a class is ruled out
    assert score(nn.Identity(), [(masked, y)], data) == 100


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, ["epochs=0", "1 or more"]),
        ({"lr": 0.0}, ["lr=0.0", "above 0"]),
        ({"momentum": 1.0}, ["momentum=1.0", "between 0 and 1"]),
        ({"average": 1.0}, ["average=1.0", "0 (none) to below 1"]),
        ({"weight_decay": -1.0}, ["weight_decay=-1.0", "0 or more"]),
        ({"temperature": 0.0}, ["temperature=0.0", "above 0"]),
        ({"distill": 1.5}, ["distill=1.5", "0 (labels only) to 1"]),
    ],
)
def test_settings_are_checked_before_any_work(data: Data, changed: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(TenfoldError) as caught:
        finetune(small(), data, **{"epochs": 1, "teacher": small(), **changed})
    assert all(word in str(caught.value) for word in words)


def test_what_cannot_be_trained_is_said_at_once(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    with pytest.raises(TenfoldError, match="the teacher is the network"):
        finetune(model, data, epochs=1, teacher=model)
    with pytest.raises(TenfoldError, match="at least one batch"):
        finetune(model, replace(data, train=[]), epochs=1)
    with pytest.raises(TenfoldError, match="requires a gradient"):
        finetune(nn.ReLU(), data, epochs=1)
    with pytest.raises(TenfoldError, match="epochs=-1; use 0"):
        recover(model, data, epochs=-1)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(TenfoldError, match=r"pip install 'tenfold\[train\]'"):
        finetune(model, data, epochs=1)


def test_batches_that_cannot_be_iterated_again_are_named(data: Data) -> None:
    with pytest.raises(TenfoldError, match="epoch 1 of the training data had 0 batches where 3 were expected"):
        list(finetune(small(), replace(data, train=iter(data.train)), epochs=1))


def test_a_second_precision_in_a_process_is_refused(data: Data) -> None:
    list(finetune(small(), data, epochs=1))
    with pytest.raises(TenfoldError, match="accelerate refuses mixed_precision='bf16' here"):
        next(finetune(small(), data, epochs=1, mixed_precision="bf16"))


def test_bf16_trains_float32_weights() -> None:
    program = (
        "import test_recovery as t\n"
        "d = t.Data(train=t.Shuffled(*t.samples()), inputs=[], validation=[t.samples(1)], test=[])\n"
        "m = t.small()\n"
        "s = list(t.recover(m, d, epochs=4, lr=0.1, teacher=t.small(), distill=0.1, mixed_precision='bf16'))\n"
        "assert s[-1].loss < s[0].loss, s\n"
        "assert {p.dtype for p in m.parameters()} == {t.torch.float32}\n"
        "assert m(t.samples()[0]).dtype == t.torch.float32\n"
        "t.copy.deepcopy(m)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=Path(__file__).parent)


# Recovery


def test_recover_without_epochs_is_reestimation(data: Data) -> None:
    one, other = small(), small()
    assert list(recover(one, data, epochs=0)) == []
    reestimate(other, data.train, feed=data.feed)
    assert same(state_of(one), state_of(other))
    kept = small()
    assert list(recover(kept, data, epochs=0, bn=False)) == []
    assert same(state_of(kept), state_of(small()))


def test_recover_with_epochs_is_reestimation_then_finetuning(data: Data) -> None:
    one, other = small(), small()
    steps = list(recover(one, data, epochs=2, seed=4))
    data.train.set_epoch(0)
    reestimate(other, data.train, feed=data.feed)
    assert [s.loss for s in finetune(other, data, epochs=2, seed=4)] == [s.loss for s in steps]
    assert same(state_of(one), state_of(other))


# Score


def test_score_by_hand(data: Data) -> None:
    model = nn.Identity()
    model.train()
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert score(model, [(logits, torch.tensor([0, 1, 1]))], data) == pytest.approx(200 / 3)
    assert score(model, [], data) is None
    slope = replace(data, score=Score("slope", measure=lambda outputs, batch: (outputs.requires_grad, 1)))
    assert score(nn.Linear(2, 2), [(logits, None)], slope) == 0
    assert model.training


# Rehearsal


class Counted(Shuffled):
    """Batches that say how many were read."""

    read = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in super().__iter__():
            self.read += 1
            yield batch


@pytest.mark.parametrize("loader", [False, True])
def test_a_rehearsal_leaves_everything_as_it_was(data: Data, loader: bool) -> None:
    model, teacher = small(), small()
    model[1].train()
    draw = torch.Generator().manual_seed(3)
    train = DataLoader(TensorDataset(*samples()), batch_size=BATCH, shuffle=True, generator=draw)
    counted = Counted(*samples())
    counted.set_epoch(4)
    used = replace(data, train=train if loader else counted, test=[samples(2)])
    before, flags, drawn, own = state_of(model), [m.training for m in model.modules()], global_draws(), draw.get_state()
    rehearse(model, used, epochs=1, bn=True, teacher=teacher)
    assert same(state_of(model), before)
    assert same(state_of(teacher), state_of(small()))
    assert [m.training for m in model.modules()] == flags
    assert all(parameter.grad is None for parameter in (*model.parameters(), *teacher.parameters()))
    assert global_draws() == drawn
    assert torch.equal(draw.get_state(), own)
    assert (counted.epoch, counted.read) == (4, 0 if loader else 1)


def one_by_one(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x[:1], y[:1])]


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"feed": lambda batch: batch[2]}, ["data.train", "data.feed raised IndexError"]),
    ({"loss": lambda out, batch: nn.functional.mse_loss(out, batch[1][:, None, None])}, ["the loss raised"]),
    ({"loss": lambda out, batch: out}, ["the loss is a tensor of shape (16, 3); it has to give one number"]),
    ({"loss": lambda out, batch: out.detach().sum()}, ["does not depend on the network"]),
    (
        {"train": one_by_one(*samples())},
        ["estimating batch norms raised ValueError", "more than 1 value"],
    ),
    ({"train": []}, ["data.train is empty"]),
    ({"test": [(torch.ones(2, 5, 4, 4), torch.ones(2))]}, ["data.test", "the network in eval mode, or the score"]),
    ({"test": [(torch.ones(2, 2, 4, 4) * torch.nan, torch.ones(2))]}, ["data.test", "outputs for batch 1 hold NaN"]),
    ({"test": iter([])}, ["data.test is a list_iterator", "only once"]),
    ({"validation": [samples()[0]]}, ["data.validation"]),
]


@pytest.mark.parametrize(("changed", "words"), WRONG, ids=[words[-1] for _, words in WRONG])
def test_what_cannot_work_is_said_before_any_work(data: Data, changed: dict[str, Any], words: list[str]) -> None:
    used = replace(data, **{"test": [samples(1)], **changed})
    if "feed" in changed:
        used = replace(used, validation=[], test=[])
    with pytest.raises(TenfoldError) as caught:
        rehearse(small(), used, epochs=1, bn="train" in changed)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_segmentation_network_is_refused_its_teacher_at_once(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was planned for four minutes first."""
    x = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    pairs = [(x, (x[:, 0] > 0).long())]
    right = Score("pixels", measure=lambda out, batch: (float((out.argmax(1) == batch[1]).sum()), batch[1].numel()))
    used = Data(train=pairs, inputs=[x], validation=[], test=pairs, score=right)
    model = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    monkeypatch.setattr(
        importlib.import_module("tenfold.api.compress"), "profiled", lambda *_, **__: pytest.fail("measured")
    )
    with pytest.raises(TenfoldError, match=r"tried before any work: task .* choose task='segmentation'"):
        tenfold.compress(model, used, params="1.5x", epochs=1)
    own = replace(used, loss=lambda out, batch: nn.functional.cross_entropy(out, batch[1]))
    with pytest.raises(TenfoldError, match=r"data.train was tried before any work: distillation .* leave out distill"):
        tenfold.compress(model, own, params="1.5x", epochs=1, distill=0.5)
    monkeypatch.undo()
    assert tenfold.compress(model, own, params="1.5x", epochs=1, format="svd").report.recovered


@pytest.mark.parametrize("verb", ["compress", "train", "recover"])
def test_every_verb_rehearses(data: Data, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.recovery.recover", lambda *_, **__: pytest.fail("began"))
    wrong = replace(data, loss=lambda out, batch: out, test=[samples(1)])
    asked = {
        "compress": {"params": "1.5x", "epochs": 1, "distill": 0.0},
        "train": {"epochs": 1},
        "recover": {"epochs": 1},
    }
    with pytest.raises(TenfoldError, match="the loss is a tensor of shape"):
        getattr(tenfold, verb)(small(), wrong, **asked[verb])
