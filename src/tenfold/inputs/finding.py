"""The batch in what a network is given, found by running it."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations, islice, product
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs.containers import tensors_in
from tenfold.inputs.forward import call, device_of, evaluating
from tenfold.inputs.inputs import ENTRIES, Inputs, Part, parts_of, size
from tenfold.protocols import BatchDim, TenfoldError

PLACES = (0, 1, ENTRIES)  # where a batch is looked for, in this order
MOST_TRIED = 16  # candidates for each of them
TOLERANCE = 5e-3  # of an output's norm: what float32 on tensor cores leaves; more where a dtype has fewer digits


def inputs_for(model: nn.Module, value: Any, batch: BatchDim = None) -> Inputs:
    """What a network is given, on its device, and where in it samples are counted.

    A batch is right where the answer to one sample alone is also the answer to it between two others. The first part of
    the inputs (a tensor, or a list of tensors) is always in it; another part is where it has as many samples, unless
    the network then does not run or answers otherwise.

    Args:
        value: a tensor, a tuple of positional or a mapping of keyword arguments, or any one argument; `Inputs` stay as
            they are.
        batch: the dimension of the first part that counts samples, where it is known; `none` where nothing counts any.
    Returns: all of it as one sample where no batch is found; one sample where the network takes only that.
    Raises: TenfoldError if there is no such dimension.
    """
    device = device_of(model)
    if isinstance(value, Inputs):
        return value if device is None else value.to(device)
    wholes = [whole if device is None else whole.to(device) for whole in readings(value)]
    if batch == "none":
        return first_that_runs(model, wholes) or wholes[0]
    places = PLACES if batch is None else (batch,)
    tried = [each for whole in wholes for place in places for each in cuts(whole, place)]
    tried.sort(key=lambda each: each.dims.count(None))  # the fewer parts all samples share, the likelier
    if batch is not None and not tried:
        raise TenfoldError(f"the inputs ({wholes[0].described}) have no dimension {batch} that could count samples.")
    with harmless(model, value) as safe:
        found = next((each for each in tried if safe and holds(model, each)), None)
        if found is None and batch is not None:
            takes_one = not safe or first_that_runs(model, [tried[0].samples(1)]) is not None
            return replace(tried[0], fixed=not takes_one)
        leading = (each for each in tried if safe and each.dims.count(0))  # (one channel of several is no sample)
        singles = (replace(each.samples(1), fixed=True) for each in leading)
        return found or first_that_runs(model, wholes) or first_that_runs(model, singles) or wholes[0]


@contextmanager
def harmless(model: nn.Module, value: Any) -> Iterator[bool]:
    """Whether a network may be tried on cut inputs; on the CPU if these hold indices.

    An index past the end of what was cut is an error there and no more, and no GPU survives it. A network on several
    devices stays where it is.
    """
    homes = {parameter.device for parameter in model.parameters()}
    if not has_indices(value) or all(home.type == "cpu" for home in homes):
        yield True
    elif len(homes) > 1:
        yield False
    else:
        model.cpu()
        try:
            yield True
        finally:
            model.to(homes.pop())


def readings(value: Any) -> list[Inputs]:
    """What a value may mean, all of it one sample: several arguments, or one that holds several."""
    each = [value]
    if isinstance(value, list):
        each = [tuple(value), (value,)]
    elif isinstance(value, Mapping):
        each = [value, (value,)]
    elif hasattr(value, "_fields"):
        each = [(value,), tuple(value)]
    return [Inputs(reading, (None,) * len(parts_of(reading))) for reading in each]


def cuts(whole: Inputs, place: int) -> Iterator[Inputs]:
    """The batches there may be where the first part has its samples at this place, the most likely one first."""
    parts = parts_of(whole.value)
    first = next((k for k, part in enumerate(parts) if not isinstance(part, Tensor) or part.ndim), None)
    count = None if first is None else size(parts[first], place)
    if not count:
        return
    choices: list[list[int | None]] = []
    for k, part in enumerate(parts):
        fitting = [at for at in dict.fromkeys((place, *PLACES)) if size(part, at) == count]
        choices.append([place] if k == first else [*fitting, None])
    for dims in islice(combined(choices), MOST_TRIED):
        yield replace(whole, dims=dims)


def combined(choices: list[list[int | None]]) -> Iterator[tuple[int | None, ...]]:
    """One of each, first all that come first, then the more of the others the later."""
    for count in range(len(choices) + 1):
        for changed in combinations(range(len(choices)), count):
            yield from product(*(each[1:] if k in changed else each[:1] for k, each in enumerate(choices)))


def has_indices(value: Any) -> bool:
    """Whether whole numbers may point into other inputs."""
    tensors = list(tensors_in(value))
    whole = [not (t.is_floating_point() or t.is_complex() or t.dtype is torch.bool) for t in tensors]
    return any(whole) and not all(whole)


def first_that_runs(model: nn.Module, each: Iterator[Inputs] | list[Inputs]) -> Inputs | None:
    """The first of some inputs on which the network runs."""
    return next((inputs for inputs in each if answers(model, inputs) is not None), None)


def holds(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the network answers the first sample alone as it does between two others."""
    one = inputs.samples(1)
    alone = answers(model, one)
    if not alone:
        return False
    among = answers(model, between(one))
    return among is not None and agree(alone, among)


def answers(model: nn.Module, inputs: Inputs) -> list[Tensor] | None:
    """The tensors that a network gives, in order; None if it does not run."""
    device = device_of(model)
    given = inputs if device is None else inputs.to(device)
    with warnings.catch_warnings(), evaluating(model):
        warnings.simplefilter("ignore")  # of a trial on inputs that the user never gave
        try:
            return [tensor.clone() for tensor in tensors_in(call(model, given.value))]
        except Exception:  # noqa: BLE001  (a forward may raise anything on what it is not made for)
            return None


def between(one: Inputs) -> Inputs:
    """A sample between two others."""
    return one.with_parts([part if dim is None else around(part, dim) for part, dim in one.each])


def around(part: Part, dim: int) -> Part:
    """A part of one sample as a part of three, that sample in the middle."""
    if isinstance(part, Tensor):
        return torch.cat([other(part, dim), part, other(part, dim)], dim)
    if dim == ENTRIES:
        return [other(part[0], dim), part[0], other(part[0], dim)]
    return [torch.cat([other(tensor, dim), tensor, other(tensor, dim)], dim) for tensor in part]


def other(sample: Tensor, dim: int) -> Tensor:
    """Another sample of the same shape and kind: backwards, and half as large; indices stay valid, lengths the same."""
    backwards = sample.flip([k for k in range(sample.ndim) if k != dim])
    return backwards / 2 if sample.is_floating_point() or sample.is_complex() else backwards


def agree(alone: list[Tensor], among: list[Tensor]) -> bool:
    """Whether what was answered to three samples holds, in its middle, what was answered to one."""
    if len(among) == 3 * len(alone):  # answers in a list with an entry a sample
        return all(map(same, alone, among[len(alone) :]))
    if len(among) != len(alone):
        return False
    middles = [middle(*both) for both in zip(alone, among, strict=True)]
    grown = any(whole is not part for whole, part in zip(among, middles, strict=True))
    return grown and all(part is not None and same(one, part) for one, part in zip(alone, middles, strict=True))


def middle(one: Tensor, three: Tensor) -> Tensor | None:
    """The middle third of a tensor, in the shape of another; itself if it has that shape; None if it has no thirds."""
    if three.shape == one.shape:
        return three
    like = one[None] if three.ndim == one.ndim + 1 else one  # a batch of one may have been squeezed away
    thirds = [k for k in range(like.ndim) if three.ndim == like.ndim and three.shape[k] == 3 * like.shape[k]]
    if not thirds or three.numel() != 3 * like.numel():
        return None
    return three.narrow(thirds[0], like.shape[thirds[0]], like.shape[thirds[0]]).reshape(one.shape)


def same(one: Tensor, two: Tensor) -> bool:
    """Whether two answers are equal but for rounding; what is infinite or no number is left out."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, two)
    a, b = (
        torch.nan_to_num(x, 0.0, 0.0, 0.0).to(torch.complex128 if x.is_complex() else torch.float64) for x in (one, two)
    )
    most = max(TOLERANCE, torch.finfo(one.dtype).eps ** 0.5)
    return bool(torch.linalg.vector_norm(a - b) <= most * torch.linalg.vector_norm(a))
