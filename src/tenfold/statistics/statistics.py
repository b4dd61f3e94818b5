"""`Statistics`: what a network's inputs and outputs look like at every weight."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from tenfold.fitting import Metric
from tenfold.network import GROUPS
from tenfold.statistics.moment import Moment
from tenfold.statistics.slope import Slope

DAMPING = 1e-6  # of the mean eigenvalue, added to every moment
TINY = 1e-300


@dataclass(frozen=True)
class Halves:
    """A moment of most samples, and one of the samples held out from it."""

    fitted: Moment
    held: Moment | None

    @property
    def whole(self) -> Moment:
        """Of all samples."""
        return self.fitted if self.held is None else self.fitted + self.held

    def second(self, *, centred: bool) -> Tensor:
        """The second moment of all samples, drawn towards a multiple of the identity by the share that is nearest to
        what the held-out samples show.
        """
        moment = self.whole.second(centred=centred)
        if moment.ndim == 2:  # diagonals
            return moment + moment.mean(-1, keepdim=True) * DAMPING
        size = moment.shape[-1]
        eye = torch.eye(size, dtype=moment.dtype)
        share = DAMPING
        if self.held is not None:
            parts = (half.second(centred=centred) for half in (self.fitted, self.held))
            share = max(share, shrinkage(*parts))
        level = moment.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
        return (1 - share) * moment + share * level * eye


def shrinkage(fitted: Tensor, held: Tensor) -> float:
    """The share, 0 to 1, of the prior (of equal trace, a multiple of the identity) in the mix with a fitted moment that
    is nearest to a held-out one, (groups, k, k) each.

    Source: the estimate of Ledoit and Wolf, J. Multivariate Analysis 88 (2004), 365-411, with held-out samples in the
        place of fourth moments.
    """
    size = fitted.shape[-1]
    level = fitted.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    apart = fitted - level * torch.eye(size, dtype=fitted.dtype)
    spread = float(apart.square().sum())
    return min(max(float(((fitted - held) * apart).sum()) / spread, 0.0), 1.0) if spread else 1.0


@dataclass(frozen=True)
class Seen:
    """What was seen of one place of a weight.

    Attributes:
        input_axes, output_axes: of the weight, as keys of a `Metric`.
        inputs: rows that it met, over the input axes.
        outputs: gradients at its outputs, over the output axes, summed over a sample's positions; None where none
            reached it.
        slope: gradients of the weight itself; None where none reached it, or other places share it.
    """

    input_axes: str
    output_axes: str
    inputs: Halves
    outputs: Halves | None
    slope: Slope | None

    def moments(self, *, centred: bool) -> dict[str, Tensor]:
        """The second moments, by axes, scaled so that the trace of their product is what gradients of the weight say.

        A product of moments takes what an error does at several positions, or steps, to be unrelated; it adds up.
        """
        inputs = self.inputs.second(centred=centred)
        if self.outputs is None:
            return by_axes(self.input_axes, inputs)
        outputs = self.outputs.second(centred=False)
        if self.slope is not None:
            wanted = self.slope.trace(self.inputs.whole.mean if centred else None)
            scale = wanted / (traces(inputs) * traces(outputs)).clamp_min(TINY)  # (groups,)
            inputs = inputs * scale.reshape(-1, *[1] * (inputs.ndim - 1))
        return by_axes(self.input_axes, inputs) | by_axes(self.output_axes, outputs)


@dataclass(frozen=True)
class Statistics:
    """Of every weight that could be watched, by the name of its site.

    Attributes:
        weights_hash: of the network that they belong to.
        inputs_hash: of the samples that it was given.
        samples: how many.
        seed: of what was drawn.
        counted: what counted of the network's outputs, in words.
        seen: by weight, for each of its places.
        reasons: weights that could not be watched, with the reason.
        notes: what is only approximate, by weight.
        shifts: by weight what can make good a shift of its outputs' mean, the name of a bias or of a running mean.
    """

    weights_hash: str
    inputs_hash: str
    samples: int
    seed: int
    counted: str
    seen: Mapping[str, tuple[Seen, ...]] = field(hash=False)
    reasons: Mapping[str, str] = field(hash=False)
    notes: Mapping[str, str] = field(hash=False)
    shifts: Mapping[str, str] = field(hash=False)

    @property
    def key(self) -> str:
        """By which they are told from others."""
        return key_of(self.weights_hash, self.inputs_hash, self.seed, self.counted)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """By weight what an error of it costs: the expected square of what it does to the network's outputs.

        Moments of inputs are about the mean where a shift is made good (`shift_means`). Of a weight with several places
        the costs are added up, and the product nearest to the sum is kept. Weights that met nothing but zeros (or one
        value, whose shift is made good), or whose outputs count for nothing, have none: nobody knows what they cost.
        """
        found = {}
        for name, seen in self.seen.items():
            places = [each.moments(centred=name in self.shifts) for each in seen]
            if all(float(trace(moment)) > 0 for place in places for moment in place.values()):
                found[name] = Metric(places[0] if len(places) == 1 else summed(places))
        return found

    @property
    def position_by_position(self) -> "Statistics":
        """The same, but errors at different positions, or steps, are taken to be unrelated: without the slopes."""
        apart = {name: tuple(replace(each, slope=None) for each in seen) for name, seen in self.seen.items()}
        return replace(self, seen=apart)

    def mean(self, name: str) -> Tensor:
        """The mean of what a weight meets in its first place, (groups, k)."""
        return self.seen[name][0].inputs.whole.mean


def key_of(weights_hash: str, inputs_hash: str, seed: int, counted: str) -> str:
    """The key of statistics."""
    return f"{weights_hash} on {inputs_hash}, seed {seed}, {counted}"


def summed(places: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """One product for a sum of products: the partial traces of the sum, scaled to its trace."""
    keys = list(places[0])
    if any(set(place) != set(keys) for place in places) or len(keys) < 2:
        return dict(places[0])
    traces = [{key: float(trace(place[key])) for key in keys} for place in places]
    total = sum(math.prod(each.values()) for each in traces)
    found = {}
    for key in keys:
        each_whole = any(place[key].ndim > 1 for place in places)
        parts = [
            (whole(place[key]) if each_whole else place[key]) * (math.prod(each.values()) / each[key])
            for place, each in zip(places, traces, strict=True)
        ]
        found[key] = sum(parts[1:], parts[0]) / total ** (1 / 2)
    return found


def trace(moment: Tensor) -> Tensor:
    """Of a moment, full or a diagonal."""
    return moment.sum() if moment.ndim == 1 else moment.diagonal(dim1=-2, dim2=-1).sum()


def traces(moment: Tensor) -> Tensor:
    """Of the moments of groups, full (groups, k, k) or diagonals (groups, k): (groups,)."""
    return moment.sum(-1) if moment.ndim == 2 else moment.diagonal(dim1=-2, dim2=-1).sum(-1)


def whole(moment: Tensor) -> Tensor:
    """A diagonal as a matrix; a matrix as it is."""
    return moment.diag() if moment.ndim == 1 else moment


def by_axes(axes: str, moment: Tensor) -> dict[str, Tensor]:
    """A moment as a `Metric` has it: without groups where there is one; diagonals of several as one over them all."""
    if len(moment) == 1:
        return {axes: moment[0]}
    return {f"{GROUPS} {axes}": moment.flatten()} if moment.ndim == 2 else {axes: moment}
