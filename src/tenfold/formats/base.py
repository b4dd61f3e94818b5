"""`Format`: how labels sit on cores, and a weight's way into them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from tenfold.fitting import Metric, balanced, quasi_newton
from tenfold.network import SPATIAL, Fold, Labels, TensorNetwork, contract, full_rank
from tenfold.protocols import TenfoldError

STEPS = 100  # of the refinement in a metric, at most
SLOW = 5e-4  # of the error at the start: what a step must save for another to follow
WORK = 2e12  # multiply-adds of it, about a minute: a weight for which they are more gets fewer steps
Axes = Mapping[str, int]
Modes = Mapping[str, Sequence[int]]  # "i" -> (4, 4, 4); "o i h w" -> (12, 12, 16) where modes straddle axes


class Suits(Protocol):
    """What may be asked for on a weight: a format, or a choice among formats by the weight's axes."""

    def suit(self, axes: Axes, *, first: bool = False) -> "Format | str":
        """The format that a weight takes, or the reason why none does."""


@dataclass(frozen=True)
class Format(ABC):
    """A named layout of cores; its fields are its options. Subclasses are final frozen dataclasses."""

    reshapes: ClassVar[bool] = False  # whether modes may cross the borders of axes
    in_auto: ClassVar[bool] = True  # whether `auto` tries it: not where a trial fit takes seconds a layer
    iterates: ClassVar[bool] = False  # whether `fit` improves cores from starts, so that its laws hold to a tolerance

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Options that a plan or a person may set."""
        return tuple(field.name for field in fields(cls))

    # ---- what a format says of itself
    @abstractmethod
    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        """Labels of the cores, input side first, for the mode labels of every axis (`"o i"` where axes straddle).

        Labels that are not modes are bonds; the rank vector follows their order of appearance.
        The axis `g` is not among them: it is put on every core.
        """

    @abstractmethod
    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        """Cores of `net` for a float64 tensor of shape `net.shape(net.modes)` without batched modes.

        Law: a tensor that has these ranks comes back (to 1e-12 where closed, to the tolerance where it iterates).
        `net` may have bonds merged away.
        """

    def default_modes(self, axes: Axes) -> Modes:
        """Axes that are split unless a plan says otherwise; the others are one mode each."""
        del axes
        return {}

    def suit(self, axes: Axes, *, first: bool = False) -> "Format | str":
        """This format, the one that stands in for it on such a weight, or the reason why none does.

        `first`: the weight belongs to the first convolution of its network.
        """
        del axes, first
        return self

    def variants(self, axes: Axes) -> tuple["Format", ...]:
        """The settings of the options that the caller left open which are worth trying on such a weight."""
        del axes
        return (self,)

    def common_ranks(self, net: TensorNetwork, rank: int) -> Sequence[int]:
        """A rank for every bond of `net` by one number: what a planner varies where no spectrum rules the bonds.

        Bonds that do not have the number itself do not change with it.
        """
        return [rank] * len(net.bonds)

    def concern(self, net: TensorNetwork, cores: Sequence[Tensor]) -> str | None:
        """What is to be known of cores that it fitted, in words that hold for every layer; None by default."""
        del net, cores
        return None

    def trial(self) -> "Format":
        """The settings for a quick fit that only estimates the error."""
        return self

    # ---- what follows
    def network(
        self, axes: Axes, ranks: Sequence[int | None] | None = None, modes: Modes | None = None
    ) -> TensorNetwork:
        """The network of a weight with these axes.

        Args:
            ranks: one for each bond in the order of `core_labels`; None at a bond merges its two cores;
                without ranks every bond has its largest useful rank.
            modes: how axes are split; what is not named stays one mode, without `modes` the format's default.
        Raises: TenfoldError for modes that do not fit, a wrong number of ranks, or a rank below 1.
        """
        folds, sizes = folded(axes, self.default_modes(axes) if modes is None else modes)
        crossing = [" ".join(fold.axes) for fold in folds if fold.straddles]
        if crossing and not self.reshapes:
            raise TenfoldError(f"modes of '{crossing[0]}' cross the borders of axes; give each axis modes of its own.")
        batch = ("g",) if "g" in axes else ()
        labels = {" ".join(fold.axes): fold.modes for fold in folds if fold.axes != batch}
        cores = tuple((*batch, *core) for core in self.core_labels(labels))
        bonds = [x for x in dict.fromkeys(x for core in cores for x in core) if x not in sizes]
        net = TensorNetwork(cores, {**sizes, **dict.fromkeys(bonds, 1)}, dict(axes), folds)
        if ranks is None:
            return full_rank(net)
        if len(ranks) != len(net.bonds):
            raise TenfoldError(
                f"{len(ranks)} ranks given, {len(net.bonds)} wanted, for the bonds {', '.join(net.bonds)}."
            )
        for bond, rank in zip(net.bonds, ranks, strict=True):
            if rank is not None and rank < 1:
                raise TenfoldError(f"no rank {rank} for bond '{bond}'; ranks are 1 or more.")
        net = net.with_ranks([rank or 1 for rank in ranks])
        for bond, rank in zip(net.bonds, ranks, strict=True):
            net = net.merged(bond) if rank is None and bond in net.bonds else net  # neighbours may share two bonds
        return net

    def decompose(
        self,
        weight: Tensor,
        net: TensorNetwork,
        metric: Metric | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Cores of `net` for a weight, in the weight's dtype; worked out in float64.

        Args:
            weight: in the order of `net.axes`, any floating dtype.
            metric: what an error costs; without it the Frobenius norm. A fit without it and a quick one in its factors
                are refined in the whole of it (`refined`).
            generator: for formats that start at random; a fresh one of seed 0 otherwise.
        Raises: TenfoldError for a weight of another shape or with values that are not finite.
        """
        if not torch.isfinite(weight).all():
            raise TenfoldError("the weight has values that are not finite; check the file it came from.")
        draw = generator or torch.Generator().manual_seed(0)
        dense = weight.detach().cpu().double()
        cores = balanced(net, self.fit_batched(net.to_modes(dense), net, draw))
        if metric is not None:
            white = balanced(net, self.trial().fit_batched(metric.whitened(net.to_modes(dense), net), net, draw))
            cores = self.refined(dense, net, [cores, metric.unwhitened(white, net)], metric)
        return [core.to(weight.dtype).to(weight.device).contiguous() for core in cores]

    def refined(
        self, dense: Tensor, net: TensorNetwork, starts: Sequence[list[Tensor]], metric: Metric
    ) -> list[Tensor]:
        """The cores that quasi-Newton steps in the whole of a metric reach from the start that is best after a fifth.

        A matrix cut once needs none: nothing is nearer than its truncation in a metric that is a product.
        """
        closed = metric.is_product(net) and len(net.bonds) < 2 and not self.iterates
        steps = 0 if closed else min(STEPS, int(WORK / metric.macs(net)))
        tried = steps // 5
        ends = [quasi_newton(dense, net, start, steps=tried, metric=metric, tolerance=SLOW) for start in starts]
        best = min(ends, key=lambda end: end[1])[0]
        return balanced(net, quasi_newton(dense, net, best, steps=steps - tried, metric=metric, tolerance=SLOW)[0])

    def decompose_group(
        self,
        weights: Sequence[Tensor],
        nets: Sequence[TensorNetwork],
        metrics: Sequence[Metric | None],
        *,
        generator: torch.Generator,
    ) -> list[list[Tensor]]:
        """Cores for every weight of a group; each on its own by default.

        A format with shared cores gives the same tensor object to every member that holds it, and names those cores in
        `shared_cores`.
        """
        members = zip(weights, nets, metrics, strict=True)
        return [self.decompose(weight, net, metric, generator=generator) for weight, net, metric in members]

    def shared_cores(self, nets: Sequence[TensorNetwork]) -> tuple[int, ...]:
        """Which cores the networks of a group have in common, by number; none by default."""
        del nets
        return ()

    def fit_batched(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        """`fit` for every value of the batched modes, stacked."""
        if not net.batched:
            return self.fit(tensor, net, generator) if net.bonds else [contract([(tensor, net.modes)], net.cores[0])]
        mode = net.batched[0]
        each = [self.fit_batched(part, slim(net), generator) for part in tensor.unbind(net.modes.index(mode))]
        return [
            torch.stack(parts, core.index(mode)) for parts, core in zip(zip(*each, strict=True), net.cores, strict=True)
        ]


def slim(net: TensorNetwork) -> TensorNetwork:
    """The network of one value of the first batched mode."""
    mode = net.batched[0]
    return TensorNetwork(
        tuple(tuple(x for x in core if x != mode) for core in net.cores),
        {label: size for label, size in net.sizes.items() if label != mode},
        {axis: size for axis, size in net.axes.items() if axis != mode},
        tuple(fold for fold in net.folds if fold.modes != (mode,)),
    )


def by_group(net: TensorNetwork, cores: Sequence[Tensor]) -> list[tuple[TensorNetwork, Sequence[Tensor]]]:
    """Network and cores of each group of a grouped convolution; one pair for any other weight."""
    if not net.batched:
        return [(net, cores)]
    each = [core.unbind(labels.index(net.batched[0])) for core, labels in zip(cores, net.cores, strict=True)]
    return [(slim(net), part) for part in zip(*each, strict=True)]


def folded(axes: Axes, modes: Modes) -> tuple[tuple[Fold, ...], dict[str, int]]:
    """Folds and mode sizes for axes of which some are split or straddled."""
    split = {tuple(key.split()): tuple(sizes) for key, sizes in modes.items()}
    named = [axis for key in split for axis in key]
    for axis in named:
        if axis not in axes:
            raise TenfoldError(f"modes are given for axis '{axis}'; the weight has the axes {' '.join(axes)}.")
        if axis == "g":
            raise TenfoldError("axis 'g' (the groups) is not split; leave it out of the modes.")
        if named.count(axis) > 1:
            raise TenfoldError(f"modes are given twice for axis '{axis}'.")
    folds: list[Fold] = []
    sizes: dict[str, int] = {}
    for axis in axes:
        key = next((key for key in split if axis in key), (axis,))
        factors = split.get(key, (axes[axis],))
        if len(key) > 1:
            labels = tuple(f"m{k + 1}" for k in range(len(factors)))
        else:
            labels = tuple(f"{axis}{k + 1}" for k in range(len(factors))) if len(factors) > 1 else (axis,)
        fold = Fold(key, labels)
        if fold not in folds:
            folds.append(fold)
            sizes.update(zip(labels, factors, strict=True))
    return tuple(folds), sizes


def spatial_axes(axes: Mapping[str, Any]) -> tuple[str, ...]:
    """The window axes of a weight, in order; none for a matrix."""
    return tuple(axis for axis in SPATIAL if axis in axes)


def is_pointwise(axes: Axes) -> bool:
    """Whether the weight is a matrix, or a kernel whose window is one position."""
    return all(axes[axis] == 1 for axis in spatial_axes(axes))


def options_of(given: Format) -> dict[str, Any]:
    """The options of a format that are not at their default, as a plan writes them."""
    values = {field.name: getattr(given, field.name) for field in fields(given)}
    return {field.name: values[field.name] for field in fields(given) if values[field.name] != field.default}
