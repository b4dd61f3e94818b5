"""Layers side by side: the same as one after the other, and how far it is."""

import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tenfold
from tenfold.measure import inspect
from tenfold.protocols import Progress, TenfoldError
from tenfold.threads import by_layer, side_by_side


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many as before in the end."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def threads_of_another() -> int:
    """What a thread that starts now would have."""
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    return found[0]


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 4), st.booleans())
def test_every_layer_is_done_once_and_told_in_order(sizes: list[int], count: int, alone: bool) -> None:
    torch.set_num_threads(count)
    named, steps = {f"layer{k}": size for k, size in enumerate(sizes)}, []

    def watch(each: Iterator[Progress]) -> Iterator[Progress]:
        for step in each:
            steps.append((step.title, step.words, step.step, step.steps))
            yield step

    found = by_layer("fit", lambda name: (name, named[name]), named, watch, alone=alone)
    assert list(found.items()) == [(name, (name, size)) for name, size in named.items()]
    assert steps == [
        ("fit", "", 0, sum(sizes)),
        *((f"fit layer{k}", f"{k + 1} of {len(sizes)}", sum(sizes[: k + 1]), sum(sizes)) for k in range(len(sizes))),
    ]
    assert torch.get_num_threads() == count == threads_of_another()


@pytest.mark.parametrize(("count", "names", "each"), [(2, "abcd", 1), (4, "ab", 2), (4, "a", 4), (3, "ab", 1)])
def test_workers_share_the_threads(count: int, names: str, each: int) -> None:
    torch.set_num_threads(count)
    workers = min(count, len(names))
    together = threading.Barrier(workers)  # which is passed only by as many at once

    def work(_: str) -> int:
        together.wait(timeout=30)
        return torch.get_num_threads()

    assert list(side_by_side(work, names)) == [each] * len(names)
    assert torch.get_num_threads() == count == threads_of_another()


def test_no_more_are_in_flight_than_there_are_threads() -> None:
    torch.set_num_threads(3)
    lock, now, most = threading.Lock(), 0, 0

    def work(_: str) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.005)
        with lock:
            now -= 1

    list(side_by_side(work, [str(k) for k in range(12)]))
    assert most == 3


@given(st.sets(st.integers(0, 7), min_size=1), st.integers(1, 3))
def test_the_first_layer_that_fails_is_the_one_that_is_named(bad: set[int], count: int) -> None:
    torch.set_num_threads(count)
    done: list[int] = []

    def work(name: str) -> None:
        if int(name) in bad:
            raise TenfoldError(f"layer {name}")
        done.append(int(name))

    with pytest.raises(TenfoldError, match=f"layer {min(bad)}"):
        by_layer("fit", work, {str(k): 1 for k in range(8)}, iter)
    assert set(range(min(bad))) <= set(done)
    assert torch.get_num_threads() == count == threads_of_another()


def test_a_stop_lets_nothing_new_start() -> None:
    torch.set_num_threads(2)
    begun: list[str] = []
    go_on = threading.Event()

    def work(name: str) -> None:
        begun.append(name)
        if name != "0":
            go_on.wait(timeout=30)

    def stopping(steps: Iterator[Progress]) -> Iterator[Progress]:
        for step in steps:
            if step.step:
                go_on.set()
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        by_layer("fit", work, {str(k): 1 for k in range(500)}, stopping)
    assert len(begun) < 500
    assert torch.get_num_threads() == 2 == threads_of_another()


@pytest.mark.parametrize("format", ["ht2,tt,svd", "cp", "scada-tucker"])
def test_plans_and_cores_are_those_of_one_thread(format: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(8, 12), nn.Linear(12, 6))
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=draw)
    profile = inspect(model)
    found = []
    for count in (1, 3):
        torch.set_num_threads(count)
        plan = tenfold.plan(model, profile, params="1.5x", format=format, seed=3)
        found.append((plan.to_yaml(), tenfold.decompose(model, plan, seed=3).state_dict()))
    (one, alone), (other, together) = found
    assert one == other
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[name], together[name]) for name in alone)
