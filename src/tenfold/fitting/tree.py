"""Orthogonal truncation over the bonds of a tree: one algorithm for SVD, Tucker, tensor train, HT and HT-2."""

from torch import Tensor

from tenfold.fitting.spectra import leading_vectors, unfolded
from tenfold.network import TensorNetwork, contract


def tree_decomposition(tensor: Tensor, net: TensorNetwork, root: int, *, together: bool = False) -> list[Tensor]:
    """Cores of a tree network for a tensor, leaves to root; all but the root are isometries.

    Whatever the order, the squared error is at most the sum over the bonds of the squared tails of the
    unfoldings of `tensor`, and so at most the number of bonds times the best possible.

    Args:
        tensor: of shape `net.shape(net.modes)`.
        root: the core that is left at the end and carries the norm.
        together: truncate all leaves of a round from the same tensor (HOSVD, HT-2), instead of each
            from what the one before left (ST-HOSVD, TT-SVD).
    Source: Grasedyck, SIAM J. Matrix Anal. Appl. 31 (2010), Algorithm 1; Oseledets, SIAM J. Sci. Comput. 33
        (2011), Algorithm 1; Vannieuwenhoven et al., SIAM J. Sci. Comput. 34 (2012), Algorithm 1.
    """
    cores: dict[int, Tensor] = {}
    rest, labels = tensor, net.modes
    while len(cores) < len(net.cores) - 1:
        leaves = [leaf for leaf in range(len(net.cores)) if leaf not in cores and leaf != root]
        leaves = [leaf for leaf in leaves if len(open_bonds(net, leaf, cores)) == 1]
        for leaf in leaves if together else leaves[:1]:
            cores[leaf] = isometry(rest, labels, net, leaf, open_bonds(net, leaf, cores)[0])
        done = leaves if together else leaves[:1]
        gone = {x for leaf in done for x in net.cores[leaf]}
        bonds = [x for leaf in done for x in net.cores[leaf] if x not in labels]
        kept = (*(x for x in labels if x not in gone), *bonds)
        rest = contract([(rest, labels), *((cores[leaf], net.cores[leaf]) for leaf in done)], kept)
        labels = kept
    cores[root] = rest.permute([labels.index(x) for x in net.cores[root]])
    return [cores[k].contiguous() for k in range(len(net.cores))]


def open_bonds(net: TensorNetwork, core: int, done: dict[int, Tensor]) -> list[str]:
    """Bonds of a core to cores that are not done."""
    return [x for x in net.cores[core] if x in net.bonds and any(k not in done and k != core for k in net.holders[x])]


def isometry(rest: Tensor, labels: tuple[str, ...], net: TensorNetwork, leaf: int, bond: str) -> Tensor:
    """The leading left vectors of the unfolding that the leaf's bond cuts, as the leaf's core."""
    rows = [x for x in labels if x in net.cores[leaf]]
    vectors = leading_vectors(unfolded(rest, [labels.index(x) for x in rows]), net.sizes[bond])
    shaped = vectors.reshape(*net.shape(rows), net.sizes[bond])
    return shaped.permute([(*rows, bond).index(x) for x in net.cores[leaf]])
