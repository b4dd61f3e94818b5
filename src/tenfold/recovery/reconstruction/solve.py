"""Layer after layer of a block solved for what the dense block gives, from what reaches it in the compressed one."""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.fitting import Metric, balanced, quasi_newton
from tenfold.inputs import tensors_in
from tenfold.layers import FactoredWeight
from tenfold.layers.rows import Pick
from tenfold.network import GROUPS
from tenfold.quantization import rounded
from tenfold.recovery.reconstruction.additions import Addition, Sums
from tenfold.recovery.reconstruction.blocks import Block
from tenfold.recovery.reconstruction.flow import Arrived, Given, through
from tenfold.recovery.reconstruction.refine import differences
from tenfold.recovery.reconstruction.shelf import Shelf
from tenfold.recovery.reconstruction.twins import Solvable, Twins, twins_of
from tenfold.statistics.gradients import floating
from tenfold.statistics.moment import Moment
from tenfold.statistics.statistics import by_axes

RIDGES = 1e-4, 1e-3, 1e-2, 1e-1  # of the mean eigenvalue
POSITIONS = 32  # of each sample and call that are looked at
PARTS = 8  # every so many chunks, one is held out
STEPS = 60  # of the fit of a layer's cores, at most
SLOW = 5e-4  # of the error at the start: what a step must save for another to follow
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passing:
    """What a block is given, chunk by chunk: in the dense network, in the compressed one; and what it is to give.

    Attributes:
        shelf: where all of it is kept.
    """

    dense: Sequence[Given]
    ours: Sequence[Given]
    wanted: Sequence[Any]
    shelf: Shelf = field(default_factory=Shelf)

    def given(self, chunk: int) -> tuple[Given, Given]:
        """What both blocks are given of a chunk."""
        pair: tuple[Given, Given] = self.shelf.out((self.dense[chunk], self.ours[chunk]))
        return pair

    @property
    def held(self) -> list[int]:
        """The chunks that are held out."""
        count = len(self.ours)
        return [k for k in range(count) if k % PARTS == min(PARTS, count) - 1]


def solved(
    block: Block,
    dense: nn.Module,
    small: nn.Module,
    passing: Passing,
    *,
    shifts: Mapping[str, str],
    metrics: Mapping[str, Metric],
    seed: int = 0,
) -> None:
    """Solve the weights of a block in the order of their calls, each given those before it.

    A weight is the ridge regression, drawn towards the dense weight, of what the layer is to give on what it is given
    in the compressed block: what the dense one gave, or, where its output goes into a sum, what makes the sum the dense
    one. Cores are fitted to it in the metric of these inputs, and the mean of the output is made good. What does not
    lower the block's error on chunks that are held out is not done.

    Args:
        small: changed in place.
        shifts: by weight what can make good a shift of its outputs (`tenfold.statistics.shifts.shiftable`).
        metrics: by weight; their moments of outputs are used.
    """
    twins = twins_of(block, dense, small, passing.given(0), shifts)
    least = error(twins, passing)
    for weight in twins.weights:
        before = weight.state
        weight.lend()
        fit, held = seen(twins, weight, passing, seed)
        if not fit.outer.any():
            weight.put(*before)
            continue
        weight.put(*solution(weight, fit, held, metrics.get(weight.name)))
        found = error(twins, passing)
        log.info("%s: the block's error on held-out samples %.5f -> %.5f", weight.name, least, found)
        if found < least:
            least = found
        else:
            weight.put(*before)


def error(twins: Twins, passing: Passing) -> float:
    """Squared differences of what the compressed block gives on the chunks that are held out, over what is wanted."""
    apart = total = 0.0
    with torch.no_grad():
        for k in passing.held:
            given, wanted = passing.shelf.out((passing.ours[k], floating(passing.wanted[k])))
            for difference, y in zip(differences(list(twins.ours), given, wanted), wanted, strict=True):
                apart += float(difference.double().square().sum())
                total += float(y.double().square().sum())
    return apart / total if total else 0.0


# ---- what a layer is given, and what it is to give
def seen(twins: Twins, weight: Solvable, passing: Passing, seed: int) -> tuple[Moment, Moment]:
    """Moments of rows (inputs, what the dense weight lacks on them), of most chunks and of those held out."""
    features = sum(map(weight.applied.features, (weight.applied.input_axes, weight.applied.output_axes)))
    empty = Moment.of(torch.zeros(0, weight.applied.site.axes.get(GROUPS, 1), features), features)
    fit = held = empty
    for k in range(len(passing.ours)):
        theirs, ours = passing.given(k)
        wanted = reached(twins.dense, weight.dense, weight.sum, theirs)
        found = reached(twins.ours, weight.ours, weight.sum, ours)
        for at, (x, lack) in enumerate(lacking(weight, wanted, found)):
            each = rows(weight, x, lack, Picked(f"{seed}/{weight.name}/{k}/{at}"))
            if each is None:
                continue
            moment = Moment.of(each, features)
            fit, held = (fit, held + moment) if k in passing.held else (fit + moment, held)
    return fit, held


@dataclass
class Reached:
    """What was seen on the way to a layer, or to the sum that its output goes into.

    Attributes:
        calls: of the layer, what it was given and what it gave.
        other: the other term of the sum.
    """

    calls: list[tuple[Tensor, Tensor]]
    other: Tensor | None = None


def lacking(weight: Solvable, wanted: Reached, found: Reached) -> Iterator[tuple[Tensor, Tensor]]:
    """Of every call what the layer is given in the compressed block, and what its output then lacks.

    Calls on other numbers of rows (tokens that were routed elsewhere) say nothing.
    """
    for (_, y), (x, z) in zip(wanted.calls, found.calls, strict=False):
        if y.shape != z.shape or not x.is_floating_point():
            continue
        lack = y - z
        if weight.sum is not None and wanted.other is not None and found.other is not None:
            lack = lack + weight.sum.undone(wanted.other - found.other)
        yield x, lack


@dataclass(frozen=True)
class Picked:
    """Positions of a sample, drawn for a place and always the same."""

    place: str

    def __call__(self, positions: int) -> Tensor:
        if positions <= POSITIONS:
            return torch.arange(positions)
        draw = torch.Generator().manual_seed(zlib.crc32(self.place.encode()))
        return torch.randperm(positions, generator=draw)[:POSITIONS]


def rows(weight: Solvable, x: Tensor, lack: Tensor, pick: Pick) -> Tensor | None:
    """Inputs and what lacks in the outputs, side by side, (n, groups, k); None where the kind does not know them."""
    kind, module = weight.applied.kind, weight.ours
    given, taken = kind.input_rows(module, x, pick), kind.output_rows(module, lack, pick)
    if given is None or taken is None:
        return None
    covered = taken[1] * taken[0][0, 0].numel() / (lack.numel() / len(taken[0]))  # rows that an output is in
    return torch.cat([given[0], taken[0] / covered], -1).flatten(0, 1)


def reached(modules: nn.ModuleList, layer: nn.Module, addition: Addition | None, given: Given) -> Reached:
    """A block run until a layer is done, or its sum is reached."""
    found = Reached([])

    def after(_: nn.Module, args: Any, kwargs: Any, result: Tensor) -> None:
        found.calls.append((next(tensors_in((args, kwargs))), result))

    def see(number: int, terms: Sequence[Tensor]) -> None:
        if addition is not None and number == addition.number:
            found.other = terms[addition.other]
            raise Arrived

    handle = layer.register_forward_hook(after, with_kwargs=True)
    try:
        with torch.no_grad(), Sums(see) if addition is not None else nullcontext():
            through(list(modules), given)
    except Arrived:
        pass
    finally:
        handle.remove()
    return found


# ---- the regression
def solution(weight: Solvable, fit: Moment, held: Moment, metric: Metric | None) -> tuple[list[Tensor], Tensor | None]:
    """What to put: cores or weight, and what owns the mean."""
    place = weight.applied
    inputs, centred = place.features(place.input_axes), weight.mend is not None
    change, moment = regression(fit.second(centred=centred), held.second(centred=centred), inputs)
    dense = weight.weight.cpu().double()
    wanted = dense + in_axes(change, weight)
    numbers, now = [wanted], wanted
    if isinstance(weight.own, FactoredWeight):
        moments = by_axes(" ".join(place.input_axes), moment)
        outputs = by_axes(" ".join(place.output_axes), moment).keys()
        moments |= {key: value for key, value in (metric.moments if metric else {}).items() if key in outputs}
        start, net = [core.detach().cpu().double() for core in weight.own.cores], weight.own.net
        found, _ = quasi_newton(wanted, net, start, steps=STEPS, metric=Metric(moments), tolerance=SLOW)
        cores, scales = balanced(net, found), list[Tensor | None]()
        if any(weight.own.schemes):
            draw = torch.Generator().manual_seed(zlib.crc32(weight.name.encode()))
            cores, scales = rounded(wanted, net, cores, weight.own.schemes, Metric(moments), generator=draw)
        numbers, now = [*cores, *(scale for scale in scales if scale is not None)], net.weight(cores)
    if weight.mend is None:
        return numbers, None
    moved = as_matrix(now - dense, weight) @ fit.mean[:, :inputs, None]  # (groups, outputs, 1)
    shift = (fit.mean[:, inputs:] - moved.squeeze(-1)).flatten()
    return numbers, weight.mend.dense.cpu().double() + weight.mend.sign * shift


def regression(fit: Tensor, held: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """The change of a weight that gives what it lacks, by moments (groups, k, k) of its inputs and of what it lacks.

    Args: inputs: how many of the features are inputs.
    Returns: (groups, outputs, inputs), with the ridge that serves the held-out rows best, or no change; and the moment
        of the inputs, the ridge added.
    """
    moment, cross = fit[:, :inputs, :inputs], fit[:, inputs:, :inputs]
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp_min(0)
    level = float(values.mean())
    best, least, ridge = torch.zeros_like(cross), 0.0, RIDGES[-1] * level
    for each in RIDGES if level > 0 else ():
        change = (cross @ vectors / (values + each * level).unsqueeze(1)) @ vectors.mT
        found = float(((change @ held[:, :inputs, :inputs] - 2 * held[:, inputs:, :inputs]) * change).sum())
        if found < least:
            best, least, ridge = change, found, each * level
    return best, moment + ridge * torch.eye(inputs, dtype=moment.dtype)


def as_matrix(tensor: Tensor, weight: Solvable) -> Tensor:
    """A tensor of the weight's axes as (groups, outputs, inputs)."""
    axes, place = list(weight.applied.site.axes), weight.applied
    turned = tensor.permute([axes.index(axis) for axis in order(weight)])
    return turned.reshape(-1, place.features(place.output_axes), place.features(place.input_axes))


def in_axes(matrix: Tensor, weight: Solvable) -> Tensor:
    """The way back."""
    sizes, turned = weight.applied.site.axes, order(weight)
    return matrix.reshape([sizes[axis] for axis in turned]).permute([turned.index(axis) for axis in sizes])


def order(weight: Solvable) -> list[str]:
    """The axes of a weight: groups, outputs, inputs."""
    front = [axis for axis in weight.applied.site.axes if axis == GROUPS]
    return [*front, *weight.applied.output_axes, *weight.applied.input_axes]
