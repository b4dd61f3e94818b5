"""Running statistics of batch norms, estimated anew for the layers that now stand before them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tenfold.inputs import call, evaluating, to_device
from tenfold.measure.finite import all_finite, because
from tenfold.measure.score import device_of
from tenfold.protocols import TenfoldError


def reestimate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    feed: Callable[[Any], Any],
    limit: int = 32,
    device: torch.device | str | None = None,
) -> int:
    """Replace the running statistics of every batch norm by their plain average over the batches.

    The batches must be the augmented ones that the network was trained on: on plain images this costs even an
    untouched network points. Only batch norms are in train mode meanwhile; whatever is raised, every module gets its
    mode and momentum back, and the statistics are then the ones from before.

    Args:
        model: changed in place, in no other tensor than `running_mean`, `running_var` and `num_batches_tracked`.
        batches: labelled batches; the labels are not used.
        feed: the model's inputs in a batch (`Data.feed`).
        limit: batches looked at, at most; 32 of 128 images are about 4,000.
        device: where each batch is put; by default where the network is.
    Returns: the number of batch norms estimated anew; 0, and no batch looked at, where the network has none.
    Raises: TenfoldError if there are no batches, `limit` is not positive, or a batch makes statistics that are not
        finite.
    """
    if limit < 1:
        raise TenfoldError(f"limit={limit} leaves no batch to estimate batch norms from; use 1 or more.")
    norms = tracking(model)
    if not norms:
        return 0
    where = device_of(model) if device is None else device
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    with evaluating(model), _averaging(norms):
        for norm in norms:
            norm.reset_running_stats()
        seen = 0
        for seen, batch in enumerate(islice(batches, limit), start=1):
            inputs = feed(to_device(batch, where))
            call(model, inputs)
            if not all_finite(statistics_of(norms)):
                raise spoilt_statistics(inputs, f"batch {seen}")
        if not seen:
            raise TenfoldError("no batches to estimate batch norms from; give augmented training batches.")
        found = [buffer.clone() for buffer in buffers]
    with torch.no_grad():
        for buffer, value in zip(buffers, found, strict=True):
            buffer.copy_(value)
    return len(norms)


def tracking(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def statistics_of(norms: Sequence[_BatchNorm]) -> list[Tensor]:
    """Running means and variances."""
    return [t for norm in norms for t in (norm.running_mean, norm.running_var) if t is not None]


def spoilt_statistics(inputs: Any, batch: str) -> TenfoldError:
    """The refusal of a batch that has made running statistics not finite, and with them every later output."""
    return TenfoldError(
        f"{batch} makes running statistics of batch norms hold NaN or infinity"
        + because(inputs, "though its inputs do not; see that they are normalised")
    )


@contextmanager
def restored_on_error(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Whatever is raised inside, these tensors then hold the numbers from before."""
    before = [tensor.clone() for tensor in tensors]
    try:
        yield
    except BaseException:  # a stop by the keyboard, too; raised again below
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        raise


@contextmanager
def _averaging(norms: list[_BatchNorm]) -> Iterator[None]:
    """Batch norms in train mode, each batch weighing the same; afterwards their momenta are back."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
