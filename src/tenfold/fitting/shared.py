"""One core for several Tucker networks: a joint alternating fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.fitting.als import updated
from tenfold.fitting.hooi import orthogonal_iterations, projected
from tenfold.fitting.spectra import leading_vectors, unfolded
from tenfold.fitting.tree import tree_decomposition
from tenfold.network import TensorNetwork, contract

TRIAL_SWEEPS = 10  # from each start, before the best goes on
SOLVES = 25  # conjugate gradient steps for the core of free factors
EXACT = 1e-12  # summed squared error of tensors of norm 1 at which no other start is needed


@dataclass(frozen=True)
class Member:
    """A tensor of norm 1 (or 0) and its star network."""

    tensor: Tensor
    net: TensorNetwork
    root: int

    @property
    def leaves(self) -> list[int]:
        """The factors."""
        return [k for k in range(len(self.net.cores)) if k != self.root]

    def bond(self, leaf: int) -> str:
        """The label that a factor shares with the core."""
        return next(x for x in self.net.cores[leaf] if x in self.net.bonds)

    def hub_place(self, leaf: int) -> int:
        """The dimension of the core that a factor is joined to."""
        return self.net.cores[self.root].index(self.bond(leaf))

    def changed(self, cores: Sequence[Tensor], leaf: int, matrix: Tensor) -> Tensor:
        """A factor with its vectors combined by a square matrix."""
        at = self.net.cores[leaf].index(self.bond(leaf))
        return (cores[leaf].movedim(at, -1) @ matrix).movedim(-1, at)

    def seen(self, cores: Sequence[Tensor]) -> Tensor:
        """The tensor contracted with all factors, in the order of the core."""
        rest, labels = projected(self.tensor, self.net, cores, (self.root,))
        return rest.permute([labels.index(x) for x in self.net.cores[self.root]])

    def polar(self, cores: Sequence[Tensor], leaf: int) -> Tensor:
        """The orthonormal factor that is best for the others as they are."""
        rest, labels = projected(self.tensor, self.net, cores, (self.root, leaf))
        names = self.net.cores[leaf]
        bond = self.bond(leaf)
        rows = tuple(x for x in names if x != bond)
        matrix = contract([(rest, labels), (cores[self.root], self.net.cores[self.root])], (*rows, bond))
        u, _, vh = torch.linalg.svd(matrix.reshape(-1, self.net.sizes[bond]), full_matrices=False)
        factor: Tensor = (u @ vh).reshape(matrix.shape)
        return factor.permute([(*rows, bond).index(x) for x in names]).contiguous()

    def weighed(self, cores: Sequence[Tensor], core: Tensor) -> Tensor:
        """A core through the Gram matrices of all factors."""
        names = self.net.cores[self.root]
        operands = [(core, tuple(f"{x}'" for x in names))]
        for leaf in self.leaves:
            own = self.net.cores[leaf]
            operands += [(cores[leaf], own), (cores[leaf], tuple(f"{x}'" if x in names else x for x in own))]
        return contract(operands, names)


def shared_core(
    tensors: Sequence[Tensor],
    nets: Sequence[TensorNetwork],
    root: int,
    *,
    starts: int,
    sweeps: int,
    generator: torch.Generator,
) -> list[list[Tensor]]:
    """Cores of star networks that have the one at `root` in common; the same tensor object in every list.

    The tensors are fitted at norm 1, so that no large one rules the core; the norms go into the factors, evenly. The
    largest tensor's own core is the start. The others' bases are of singular vectors, whose signs alone are open where
    orthonormal factors share a core: so the first start aligns these, the others turn the bases at random. Orthonormal
    factors first (polar updates and a mean core), then factors without that constraint.

    Args:
        nets: star networks with the same labels and sizes on the core, and no rank above the size of its mode.
        starts: so many random turns at most; none where the first start is exact.
    """
    norms = [float(tensor.norm()) for tensor in tensors]
    members = [
        Member(tensor / (norm or 1.0), net, root) for tensor, net, norm in zip(tensors, nets, norms, strict=True)
    ]
    bases = [started(member) for member in members]
    largest = max(range(len(members)), key=lambda k: members[k].tensor.numel())
    tried = [orthonormal(members, aligned(members, bases, largest), min(TRIAL_SWEEPS, sweeps))]
    for _ in range(starts if tried[0][1] > EXACT else 0):
        start = turned(members, bases, largest, generator)
        tried.append(orthonormal(members, start, min(TRIAL_SWEEPS, sweeps)))
    best, _ = orthonormal(members, min(tried, key=lambda result: result[1])[0], sweeps)
    best = free(members, best, min(TRIAL_SWEEPS, sweeps))
    for member, norm, cores in zip(members, norms, best, strict=True):
        for leaf in member.leaves:
            cores[leaf] = (cores[leaf] * norm ** (1 / len(member.leaves))).contiguous()
    return best


def started(member: Member) -> list[Tensor]:
    """The member's own orthonormal factors and core."""
    cores = tree_decomposition(member.tensor, member.net, member.root)
    return orthogonal_iterations(member.tensor, member.net, cores, member.root, sweeps=5)


def aligned(members: Sequence[Member], bases: Sequence[list[Tensor]], largest: int) -> list[list[Tensor]]:
    """Everyone's bases around the largest's core, every vector with the sign at which the cores agree.

    Cores that differ by signs have a product whose sign is one of every index: positive but for it, so by Perron and
    Frobenius the leading vector of each unfolding has these signs.
    """
    core = bases[largest][members[largest].root]
    result = []
    for member, own in zip(members, bases, strict=True):
        agreement, cores = core * own[member.root], list(own)
        cores[member.root] = core
        for leaf in member.leaves:
            vector = leading_vectors(unfolded(agreement, [member.hub_place(leaf)]), 1)[:, 0]
            cores[leaf] = member.changed(own, leaf, torch.where(vector < 0, -1.0, 1.0).diag().to(core))
        result.append(cores)
    return result


def turned(
    members: Sequence[Member], bases: Sequence[list[Tensor]], largest: int, generator: torch.Generator
) -> list[list[Tensor]]:
    """Everyone's bases, all but the largest's turned at random within their spans, around the largest's core."""
    core = bases[largest][members[largest].root]
    result = []
    for k, (member, own) in enumerate(zip(members, bases, strict=True)):
        cores = list(own)
        cores[member.root] = core
        for leaf in member.leaves if k != largest else ():
            size = core.shape[member.hub_place(leaf)]
            turn = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
            cores[leaf] = member.changed(own, leaf, turn)
        result.append(cores)
    return result


def orthonormal(
    members: Sequence[Member], cores: Sequence[list[Tensor]], sweeps: int
) -> tuple[list[list[Tensor]], float]:
    """Sweeps of polar updates and mean cores; the summed squared error never rises."""
    result, error = [list(own) for own in cores], float("inf")
    for _ in range(sweeps):
        for member, own in zip(members, result, strict=True):
            for leaf in member.leaves:
                own[leaf] = member.polar(own, leaf)
        core = torch.stack([member.seen(own) for member, own in zip(members, result, strict=True)]).mean(0)
        for member, own in zip(members, result, strict=True):
            own[member.root] = core
        error = sum(float(member.tensor.square().sum()) for member in members)
        error -= len(members) * float(core.square().sum())
    return result, error


def free(members: Sequence[Member], cores: Sequence[list[Tensor]], sweeps: int) -> list[list[Tensor]]:
    """Sweeps in which the factors need not be orthonormal; the core solves its joint normal equations."""
    result = [list(own) for own in cores]
    for _ in range(sweeps):
        for member, own in zip(members, result, strict=True):
            for leaf in member.leaves:
                own[leaf], _ = updated(member.tensor, member.net, own, leaf)
        core = solved(members, result)
        for member, own in zip(members, result, strict=True):
            own[member.root] = core
    return result


def solved(members: Sequence[Member], cores: Sequence[list[Tensor]]) -> Tensor:
    """The core that is best for all factors, by conjugate gradients from the one there is; no Kronecker product."""
    pairs = list(zip(members, cores, strict=True))

    def normal(core: Tensor) -> Tensor:
        return torch.stack([member.weighed(own, core) for member, own in pairs]).sum(0)

    core = cores[0][members[0].root]
    residual = torch.stack([member.seen(own) for member, own in pairs]).sum(0) - normal(core)
    direction, squared = residual, float(residual.square().sum())
    for _ in range(SOLVES):
        if squared <= 1e-30:
            break
        image = normal(direction)
        step = squared / max(float((direction * image).sum()), 1e-300)
        core, residual = core + step * direction, residual - step * image
        now = float(residual.square().sum())
        direction, squared = residual + now / squared * direction, now
    return core.contiguous()
