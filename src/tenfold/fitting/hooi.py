"""Higher-order orthogonal iteration: the factors of a Tucker network, each in turn the best for the others."""

from collections.abc import Sequence

from torch import Tensor

from tenfold.fitting.spectra import leading_vectors, unfolded
from tenfold.network import TensorNetwork, contract


def orthogonal_iterations(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], root: int, *, sweeps: int, tolerance: float = 1e-4
) -> list[Tensor]:
    """Better factors of a star network from orthonormal ones; the error never rises.

    No normal matrix of the core is formed, as alternating least squares would: its size is the product of all ranks.

    Args:
        root: the core that every other one is joined to by one bond.
        tolerance: stop when a sweep raises the squared norm of the core by less than this share of what is lost.
    Source: De Lathauwer, De Moor and Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000), 1324-1342.
    """
    result, total, before = list(cores), float(tensor.square().sum()), float(cores[root].square().sum())
    for _ in range(sweeps if len(cores) > 1 else 0):
        for leaf in (k for k in range(len(cores)) if k != root):
            rest, labels = projected(tensor, net, result, (root, leaf))
            bond = next(x for x in net.cores[leaf] if x in net.bonds)
            rows = [x for x in net.cores[leaf] if x != bond]
            vectors = leading_vectors(unfolded(rest, [labels.index(x) for x in rows]), net.sizes[bond])
            shaped = vectors.reshape(*net.shape(rows), -1)
            result[leaf] = shaped.permute([(*rows, bond).index(x) for x in net.cores[leaf]]).contiguous()
        core, labels = projected(tensor, net, result, (root,))
        result[root] = core.permute([labels.index(x) for x in net.cores[root]]).contiguous()
        now = float(core.square().sum())
        if now - before <= tolerance * (total - now):
            break
        before = now
    return result


def projected(
    tensor: Tensor, net: TensorNetwork, cores: Sequence[Tensor], but: Sequence[int]
) -> tuple[Tensor, tuple[str, ...]]:
    """The tensor contracted with all factors but some, and its labels."""
    used = [k for k in range(len(cores)) if k not in but]
    gone = {x for k in used for x in net.cores[k]}
    bonds = [x for k in used for x in net.cores[k] if x in net.bonds]
    kept = (*(x for x in net.modes if x not in gone), *bonds)
    return contract([(tensor, net.modes), *((cores[k], net.cores[k]) for k in used)], kept), kept
