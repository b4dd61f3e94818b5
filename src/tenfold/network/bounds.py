"""How large ranks may usefully be: what a bond cuts, and the bounds that follow."""

from functools import lru_cache

from tenfold.network.contraction import Labels
from tenfold.network.tensor_network import TensorNetwork


def side_of(net: TensorNetwork, bond: str) -> frozenset[int] | None:
    """The cores on the first holder's side when a bond is cut; None if the network stays in one piece."""
    first, *others = net.holders[bond]
    reached, border = {first}, [first]
    while border:
        core = border.pop()
        for label in net.cores[core]:
            if label != bond and label in net.bonds:
                border += [k for k in net.holders[label] if k not in reached]
                reached.update(net.holders[label])
    return None if reached.intersection(others) else frozenset(reached)


def unfolding_of(net: TensorNetwork, bond: str) -> tuple[Labels, Labels] | None:
    """Modes that index the rows and the columns of the matrix that a bond cuts; batched modes are in neither.

    None where cutting the bond leaves the network in one piece (a ring).
    """
    side = side_of(net, bond)
    if side is None or net.is_hyperedge(bond):
        return None
    single = [mode for mode in net.modes if mode not in net.batched]
    rows = tuple(mode for mode in single if net.holders[mode][0] in side)
    return rows, tuple(mode for mode in single if mode not in rows)


def global_bound(net: TensorNetwork, bond: str) -> int:
    """Largest useful rank from the modes alone: the smaller side of the unfolding.

    A hyperedge has the product of the modes of all cores but the largest; a ring's bond only the local one.
    """
    unfolding = unfolding_of(net, bond)
    if unfolding is not None:
        return min(net.size(side) for side in unfolding)
    single = [mode for mode in net.modes if mode not in net.batched]
    bound = net.size(single)
    largest = max(net.size(x for x in core if x in single) for core in net.cores)
    return bound // largest if net.is_hyperedge(bond) else bound


def local_bound(net: TensorNetwork, bond: str) -> int:
    """Largest useful rank at the bond's cores: the product of the other labels, hyperedges and batched left out."""
    if net.is_hyperedge(bond):
        return global_bound(net, bond)
    left_out = {bond, *net.batched, *(x for x in net.bonds if net.is_hyperedge(x))}
    return min(net.size(x for x in net.cores[k] if x not in left_out) for k in net.holders[bond])


def useful(net: TensorNetwork) -> TensorNetwork:
    """The network with every rank at most useful: global and local bounds, shrunk to a fixed point of both."""
    net = net.with_ranks([min(net.sizes[bond], global_bound(net, bond)) for bond in net.bonds])
    while (ranks := tuple(min(net.sizes[bond], local_bound(net, bond)) for bond in net.bonds)) != net.ranks:
        net = net.with_ranks(ranks)
    return net


def closing(net: TensorNetwork) -> Labels:
    """Bonds that close a loop, first seen first: without them the network is a tree, still in one piece."""
    found: list[str] = []
    while bond := next((bond for bond in net.bonds if side_of(net, bond) is None), None):
        found.append(bond)
        net = net.without((bond,))
    return tuple(found)


@lru_cache(maxsize=4096)  # layers of one shape have equal networks
def full_rank(net: TensorNetwork) -> TensorNetwork:
    """The network with every bond at its largest useful rank; a loop is opened, its closing bond at rank 1."""
    loops = closing(net)
    tree = net.without(loops)
    tree = useful(tree.with_ranks([net.size(net.modes)] * len(tree.bonds)))
    return net.with_ranks([1 if bond in loops else tree.sizes[bond] for bond in net.bonds])
