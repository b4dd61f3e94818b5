"""One batch through all that will be needed, before any work."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenfold import processes
from tenfold.inputs import call, to_device
from tenfold.measure.score import device_of, score
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery.accelerated import check_shard, training_device
from tenfold.recovery.batchnorm import reestimate, tracking
from tenfold.recovery.distillation import distance_to_teacher
from tenfold.recovery.parts import parts_of
from tenfold.recovery.randomness import first, undisturbed
from tenfold.surgery import copied
from tenfold.tasks import Objective


def rehearse(
    model: nn.Module,
    data: Data,
    *,
    epochs: int = 0,
    bn: bool = False,
    teacher: nn.Module | None = None,
    temperature: float = 4.0,
    device: torch.device | str | None = None,
    accumulate: int = 1,
    shard: bool = False,
    judged_on: Sequence[str] = ("validation", "test"),
) -> None:
    """Try on one batch what recovery and judging will do: feed, both modes, loss and its slope, distillation, score.

    Copies of the networks are used, on the device where the training will run; networks, random states and batches are
    left as they were.

    Args:
        model: the network to be trained, or the dense one whose place it will take.
        epochs: 0 where there is no training; bn: whether batch norms are estimated anew; the others: as in
            `finetune`. A network that is to be shared out is tried where it is, on a part of a batch as all.
        judged_on: the splits that are scored.
    Raises: TenfoldError, one sentence that says which split and which part cannot work.
    """
    where = device_of(model)
    if epochs:
        found = training_device(device)
        check_shard(shard)
        where = where if shard else found
    with undisturbed(where):
        trial = copied(model).to(where)
        for split in judged_on:
            batch = first(split, getattr(data, split))
            if batch is not None:
                with trying(split, "the network in eval mode, or the score", "feed and score have to suit the network"):
                    score(trial, [batch], data, device=where)
        if not epochs and not (bn and tracking(model)):
            return
        batch = first("train", data.train)
        if batch is None:
            without = "" if epochs else ", or leave batch norms as they are (--no-bn, bn=False)"
            raise TenfoldError(f"data.train is empty; give training data of at least one batch{without}.")
        if bn:
            with trying("train", "estimating batch norms", "the batches have to be inputs of the network"):
                reestimate(trial, [batch], feed=data.feed, device=where)
        if epochs:
            lesson = None if teacher is None else copied(teacher).eval().to(where)
            objective, parts = Objective.of(data), accumulate * processes.count()
            with trying("train", "cutting it into parts", "tensors have to have the samples first"):
                part = next(parts_of(batch, objective, [0], parts))
            _train(trial.train(), objective, to_device(part.batch, where), lesson, temperature)


def _train(trial: nn.Module, objective: Objective, batch: Any, teacher: nn.Module | None, temperature: float) -> None:
    """One step of a training, without the step."""
    for parameter in trial.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    with trying("train", "data.feed", "it gives the network's inputs in a batch"):
        inputs = objective.data.feed(batch)
    with trying("train", "the network in train mode", "the batches have to be inputs of the network"):
        outputs = call(trial, inputs)
    with trying("train", "the loss", "it takes the network's outputs and the batch, and gives one number"):
        loss = objective.loss(outputs, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TenfoldError(f"the loss is {_described(loss)}; it has to give one number, a tensor.")
        if not loss.requires_grad:
            raise TenfoldError("the loss does not depend on the network; nothing can be learnt.")
    if teacher is not None:
        with trying("train", "the teacher", "without it, distill=0, the labels teach alone"), torch.no_grad():
            wanted = call(teacher, inputs)
        with trying("train", "the distillation", "without it, distill=0, the labels teach alone"):
            loss = loss + distance_to_teacher(objective, outputs, wanted, batch, temperature)
    with trying("train", "the slope of the loss", "every part of the network and of the loss has to have one"):
        torch.autograd.backward(loss)


@contextmanager
def trying(split: str, what: str, way: str) -> Iterator[None]:
    """Say that it was a trial, which part of it failed, and what would work."""
    try:
        yield
    except TenfoldError as error:
        raise TenfoldError(f"one batch of data.{split} was tried before any work: {error}") from error
    except Exception as error:  # a user's network and data may raise anything
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise TenfoldError(
            f"one batch of data.{split} was tried before any work, and {what} raised {type(error).__name__}"
            f"{f': {said}' if said else ''}; {way}."
        ) from error


def _described(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
