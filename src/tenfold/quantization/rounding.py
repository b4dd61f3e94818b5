"""The cores of a weight put on their grids one after the other, so that the weight errs least."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tenfold.fitting import Metric
from tenfold.fitting.als import updated
from tenfold.fitting.metric import applied
from tenfold.network import Labels, TensorNetwork, contract, unfolding_of
from tenfold.quantization.scheme import Scheme

SWEEPS = 4  # over all cores, after the first
DAMPING = 1e-2  # of the mean curvature: keeps errors that are handed on small
STEPS = 4096  # in which the errors of a core are handed on, at most

Schemes = Sequence[Scheme | None]
Coded = tuple[list[Tensor], list[Tensor | None]]  # cores on their grids, and their scales


class Rounding:
    """One weight on its way to the grids: the cores as they are, and in coordinates in which errors count alike."""

    def __init__(
        self, weight: Tensor, net: TensorNetwork, cores: Sequence[Tensor], schemes: Schemes, metric: Metric | None
    ) -> None:
        self.weight, self.net, self.schemes = weight.detach().cpu().double(), net, schemes
        self.metric = metric or Metric({})
        self.roots = self.metric.roots(net)
        self.target = self.metric.whitened(net.to_modes(self.weight), net)
        self.cores = list(cores)
        self.scales: list[Tensor | None] = [None] * len(self.cores)
        self.is_tree = all(unfolding_of(net, bond) is not None for bond in net.bonds)

    def whitened(self, k: int, core: Tensor, inverse: bool = False) -> Tensor:
        """Core k in coordinates in which errors count alike, or back."""
        for modes, roots in self.own_roots(k).items():
            core = applied(roots[inverse], core, [self.net.cores[k].index(mode) for mode in modes])
        return core

    def own_roots(self, k: int) -> Mapping[Labels, tuple[Tensor, Tensor]]:
        """Of the moments over modes of core k."""
        return {modes: roots for modes, roots in self.roots.items() if self.net.holders[modes[0]] == (k,)}

    @property
    def error(self) -> float:
        """Of the weight, in the whole of the metric."""
        return self.metric.squared_error(self.net.weight(self.cores) - self.weight, tuple(self.net.axes))

    def wanted(self, k: int) -> Tensor:
        """A better core k for the others as they are, nowhere so large that its rounding would undo that."""
        white = [self.whitened(j, core) for j, core in enumerate(self.cores)]
        if not self.is_tree:
            return self.whitened(k, updated(self.target, self.net, white, k)[0], inverse=True)
        labels, old = self.net.cores[k], white[k]
        others = [(core, self.net.cores[j]) for j, core in enumerate(white) if j != k]
        grams, step = self.grams(k), contract([(self.target, self.net.modes), *others], labels)
        now = old
        for bond, gram in grams.items():
            now = applied(gram, now, [labels.index(bond)])
        step = step - now
        for bond, gram in grams.items():
            step = applied(torch.linalg.inv(damped(gram, self.noise(k))), step, [labels.index(bond)])
        return self.whitened(k, old + step, inverse=True)

    def noise(self, k: int) -> float:
        """About what rounding core k adds to its squares, as a share."""
        scheme = self.schemes[k]
        return 1e-10 if scheme is None else float(2 * 4.0**-scheme.bits)

    def grams(self, k: int) -> dict[str, Tensor]:
        """For each bond of core k all beyond it contracted with itself, (r, r).

        Their product is what errors of the core cost together in a tree; nearly, where bonds meet again further on.
        """
        white = [(self.whitened(j, core), self.net.cores[j]) for j, core in enumerate(self.cores) if j != k]
        found = {}
        for bond in (x for x in self.net.cores[k] if x in self.net.bonds):
            inner = {x for x in self.net.bonds if x == bond or x not in self.net.cores[k]}
            twins = [(core, tuple(f"{x}'" if x in inner else x for x in labels)) for core, labels in white]
            found[bond] = contract([*white, *twins], (bond, f"{bond}'"))
        if len(found) > 1:
            scale = next(iter(found.values())).trace().clamp_min(1e-300) ** (1 / len(found) - 1)
            found = {bond: gram * scale for bond, gram in found.items()}
        return found

    def curvatures(self, k: int) -> dict[Labels, Tensor]:
        """What errors of core k cost together along some of its labels, (n, n) each; all cost their product."""
        found: dict[Labels, Tensor] = {(bond,): gram for bond, gram in self.grams(k).items()}
        for modes, (root, _) in self.own_roots(k).items():
            found[modes] = root.square().diag() if root.ndim == 1 else root @ root
        return found

    def put(self, k: int, core: Tensor) -> None:
        """Core k, on its grid if it has one."""
        scheme = self.schemes[k]
        self.cores[k] = core
        if scheme is not None:
            self.cores[k], self.scales[k] = handed_on(core, self.net.cores[k], scheme, self.curvatures(k))

    def put_alone(self) -> None:
        """Every core by itself."""
        for k, scheme in enumerate(self.schemes):
            if scheme is not None:
                self.scales[k] = scales = scheme.fitted(self.cores[k])
                self.cores[k] = scheme.on_grid(self.cores[k], scales)

    def put_together(self) -> None:
        """One core after the other, the largest first, and then each in turn as long as that helps."""
        order = sorted(range(len(self.cores)), key=lambda k: -self.cores[k].numel())
        for at, k in enumerate(order):
            self.put(k, self.cores[k])
            for j in order[at + 1 :]:
                self.cores[j] = self.wanted(j)
        least = self.error
        for _ in range(SWEEPS):
            before = least
            for k in order:
                kept = self.cores[k], self.scales[k]
                self.put(k, self.wanted(k))
                if (now := self.error) < least:
                    least = now
                else:
                    self.cores[k], self.scales[k] = kept
            if least > 0.999 * before:
                break


def handed_on(
    core: Tensor, labels: Labels, scheme: Scheme, curvatures: Mapping[Labels, Tensor]
) -> tuple[Tensor, Tensor]:
    """A core on its grid, number after number, the error of each made good by those that follow; and its scales.

    Args: curvatures: what errors cost together along some labels, (n, n) each; all cost their product.
    Source: Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323; here along several labels.
    """
    along, steps = dict[Labels, Tensor](), 1
    for own, curvature in sorted(curvatures.items(), key=lambda item: -len(item[1])):
        if steps * len(curvature) <= STEPS:
            along[own], steps = curvature, steps * len(curvature)
    columns = [x for own in along for x in own]
    order = [labels.index(x) for x in (*columns, *(x for x in labels if x not in columns))]
    back = [order.index(d) for d in range(len(order))]
    shape = [core.shape[d] for d in order]
    sizes = [len(curvature) for curvature in along.values()]
    cost = torch.ones([1] * (len(sizes) + 1), dtype=core.dtype)
    for at, curvature in enumerate(along.values()):
        cost = cost * curvature.diagonal().reshape([-1 if d == at else 1 for d in range(len(sizes) + 1)])
    rest = core.permute(order).reshape(*sizes, -1)
    scales = scheme.fitted(core, cost.expand_as(rest).reshape(shape).permute(back).contiguous())
    spread = scheme.spread(scales, core.shape).permute(*order, -1).reshape(*rest.shape, scheme.scales)
    found = visited(rest.clone(), spread, scheme, [factor_of(curvature) for curvature in along.values()])[0]
    return found.reshape(shape).permute(back).contiguous(), scales


def visited(
    rest: Tensor, spread: Tensor, scheme: Scheme, factors: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Numbers (*sizes of factors, n) put on the grid one after the other; and what each lacked, per its own factor.

    What a number lacks goes to all that come later along any factor, as the product of these says.
    """
    if not factors:
        found = scheme.nearest(rest, spread)
        return found, rest - found
    (factor, order), inner = factors[0], factors[1:]
    found, lacks = torch.empty_like(rest), torch.empty_like(rest)
    for at, k in enumerate(order.tolist()):
        found[k], lack = visited(rest[k], spread[k], scheme, inner)
        lacks[k] = lack = lack / factor[at, at]
        later = order[at + 1 :]
        for d, (other, turned) in enumerate(inner):
            lack = torch.tensordot(other, lack.index_select(d, turned), ([0], [d])).movedim(0, d)
            lack = lack.index_select(d, turned.argsort())
        rest[later] -= factor[at, at + 1 :].reshape(-1, *[1] * lack.ndim) * lack
    return found, lacks


def factor_of(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """By what errors go to those that follow, upper triangular; and the order of all: what costs most comes first."""
    order = curvature.diagonal().argsort(descending=True)
    even = damped(curvature[order][:, order], DAMPING)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(even)), upper=True), order


def damped(curvature: Tensor, share: float) -> Tensor:
    """A curvature with a share of its mean added everywhere."""
    mean = curvature.diagonal().mean().clamp_min(1e-300)
    return curvature + share * mean * torch.eye(len(curvature), dtype=curvature.dtype)


def rounded(
    weight: Tensor,
    net: TensorNetwork,
    cores: Sequence[Tensor],
    schemes: Schemes,
    metric: Metric | None = None,
    *,
    generator: torch.Generator,
) -> Coded:
    """Cores on the grids of their schemes, in float64, for which the weight errs little; and their scales.

    Bonds are turned at random, so that no number stands out. Then one core after the other is rounded and the others
    are fitted again, the largest first; then each in turn is fitted to the others, rounded ones included, and rounded
    once more, as long as that helps. Never worse than every core by itself.

    Args:
        weight: in the order of `net.axes`.
        cores: of the weight, balanced.
        schemes: one for each core; None: it keeps its numbers.
        metric: what an error costs; without it the Frobenius norm.
    """
    start = [core.detach().cpu().double() for core in cores]
    plain, work = (Rounding(weight, net, each, schemes, metric) for each in (start, turned(net, start, generator)))
    plain.put_alone()
    if net.batched:  # what errors cost together is another thing in each group
        work.put_alone()
    else:
        work.put_together()
    best = work if work.error < plain.error else plain  # (terms that cancel each other bear no turning)
    return best.cores, best.scales


def turned(net: TensorNetwork, cores: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """The same weight, every bond of two cores turned at random: no number stands out, so that steps can be small."""
    result = list(cores)
    for bond in (x for x in net.bonds if not net.is_hyperedge(x)):
        noise = torch.randn(net.sizes[bond], net.sizes[bond], generator=generator, dtype=torch.float64)
        turn = torch.linalg.qr(noise)[0]
        for k in net.holders[bond]:
            result[k] = applied(turn, result[k], [net.cores[k].index(bond)])
    return result
