"""All of recovery, in the order in which it helps."""

import logging
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from tenfold.measure.score import device_of
from tenfold.protocols import Data, TenfoldError
from tenfold.recovery.batchnorm import reestimate
from tenfold.recovery.finetune import Machine, Step, finetune
from tenfold.recovery.randomness import at_epoch, seeded

log = logging.getLogger(__name__)


class Finetuning(Machine, total=False):
    """Arguments of `finetune` that recovery hands on."""

    lr: float
    momentum: float
    weight_decay: float
    optimizer: Literal["sgd", "adam"]
    warmup: float
    temperature: float
    distill: float
    device: torch.device | str | None


def recover(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    teacher: nn.Module | None = None,
    bn: bool = True,
    seed: int = 0,
    **options: Any,
) -> Iterator[Step]:
    """Estimate batch norms anew on the training batches, then fine-tune; in place, yielding every training step.

    The work is done as the iterator is drawn from: exhaust it even with `epochs=0`, where it yields nothing.

    Args:
        model: the compressed network.
        data: `train` for both parts, `validation` for the scores.
        epochs: of fine-tuning; 0 for none.
        teacher: the dense network, to learn from its outputs.
        bn: whether to estimate batch norms anew first.
        seed: for what is drawn.
        options: more arguments of `finetune`.
    Raises: TenfoldError as `reestimate` and `finetune` do.
    """
    if epochs < 0:
        raise TenfoldError(f"cannot fine-tune for epochs={epochs}; use 0 (batch norms only) or more.")
    training = finetune(model, data, epochs=epochs, teacher=teacher, seed=seed, **options) if epochs else iter(())
    return _recover(model, data, training, bn, seed)


def _recover(model: nn.Module, data: Data, training: Iterator[Step], bn: bool, seed: int) -> Iterator[Step]:
    if bn:
        with seeded(seed, "batch norms", device_of(model)):
            count = reestimate(model, at_epoch(data.train, 0), feed=data.feed)
        log.info("%d batch norms estimated anew", count)
    yield from training
