"""Orthogonal iterations: the two cores of every bond of a tree, each pair in turn the best for the others."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from tenfold.fitting.tree import isometry
from tenfold.network import TensorNetwork, contract

SETTLED = 1e-6  # of what is lost: a sweep that wins less is the last


def orthogonal_iterations(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], root: int, *, sweeps: int
) -> list[Tensor]:
    """Better cores of a tree from those of `tree_decomposition`; the error never rises.

    All cores but one are isometries, so its two cores at a bond are best as a truncated SVD of the tensor projected on
    the others: there is no normal matrix, and no SVD larger than the truncation's at that bond. The norm moves along
    the bond, through the whole tree and back to the root. On a star this is HOOI, on a chain the modified alternating
    linear scheme.

    Args:
        root: the core that is no isometry.
        sweeps: walks through the tree at most.
    Source: De Lathauwer, De Moor and Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000), 1324-1342; Holtz, Rohwedder and
        Schneider, SIAM J. Sci. Comput. 34 (2012), A683-A713.
    """
    result, total, before = list(cores), float(tensor.square().sum()), float(cores[root].square().sum())
    for _ in range(sweeps):
        for leaf, heir in walk(net, root):
            result[leaf], result[heir] = renewed(tensor, net, result, leaf, heir)
        now = float(result[root].square().sum())
        if now - before <= SETTLED * (total - now):
            break
        before = now
    return result


def walk(net: TensorNetwork, start: int, origin: int | None = None) -> Iterator[tuple[int, int]]:
    """Neighbours along a way through a tree and back: the first becomes an isometry, the norm goes to the second."""
    near = {k for x in net.cores[start] if x in net.bonds for k in net.holders[x]}
    for k in sorted(near - {start, origin}):
        beyond = list(walk(net, k, start))
        yield from [(start, k), *beyond] if beyond else []
        yield k, start


def renewed(tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], leaf: int, heir: int) -> tuple[Tensor, Tensor]:
    """The best two cores at a bond, the first an isometry, where all others are isometries towards them."""
    (bond,) = (x for x in net.cores[leaf] if x in net.cores[heir])
    rest, labels = projected(tensor, net, cores, (leaf, heir))
    core = isometry(rest, labels, net, leaf, bond)
    return core.contiguous(), contract([(rest, labels), (core, net.cores[leaf])], net.cores[heir]).contiguous()


def projected(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], but: Sequence[int]
) -> tuple[Tensor, tuple[str, ...]]:
    """The tensor contracted with all cores but some neighbours, and its labels."""
    used = [k for k in range(len(cores)) if k not in but]
    gone = {x for k in used for x in net.cores[k]}
    bonds = [x for k in used for x in net.cores[k] if any(x in net.cores[j] for j in but)]
    kept = (*(x for x in net.modes if x not in gone), *bonds)
    return contract([(tensor, net.modes), *((cores[k], net.cores[k]) for k in used)], kept), kept
