"""Hierarchical Tucker: leaves, transfers and a root over a binary tree of modes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from tenfold.documents import Natural, Positive
from tenfold.formats.base import Axes, Format, Modes
from tenfold.formats.modes import channel_factors, paired
from tenfold.formats.tucker import hub, swept
from tenfold.network import Labels, TensorNetwork
from tenfold.protocols import TenfoldError

Tree: TypeAlias = "int | tuple[Tree, Tree]"  # a leaf by its number from 1, or two subtrees
SHAPES = ("balanced", "caterpillar")


@dataclass(frozen=True)
class HT(Format):
    """Hierarchical Tucker by hierarchical SVD, leaves to root (Grasedyck, SIAM J. Matrix Anal. Appl. 31, 2010).

    Modes are pairs `(i_k, o_k)`; a kernel's window is leaf 1. The root is a core of its own (METHODS A.1). Cores stand
    in order, left subtree, node, right subtree, so that neighbours make good stages. With d leaves the error is at
    most sqrt(2d - 3) times the smallest one of these ranks.

    Attributes:
        order: into how many modes `i` and `o` are split; 3, or 2 where an axis is below 64; a planner tries 2, 3, 4.
        tree: `balanced` (left the first half of the leaves, rounded down), `caterpillar` (`(1 (2 (3 4)))`: a tensor
            train with factors on its modes), or any binary tree of all leaves in brackets, such as `((1 3) (2 4))`.
        sweeps: orthogonal iterations at most after the truncation; the error never rises.
    """

    order: Positive | None = None
    tree: str = "balanced"
    sweeps: Natural = 0

    def __post_init__(self) -> None:
        if self.tree not in SHAPES:
            tree_from(self.tree)

    def default_modes(self, axes: Axes) -> Modes:
        return channel_factors(axes, self.order)

    def core_labels(self, modes: Mapping[str, Labels]) -> tuple[Labels, ...]:
        leaves = paired(modes, "ht")
        tree = self.tree_over(len(leaves))
        if isinstance(tree, int):
            return (leaves[0],)
        left, right = tree
        return (*cores_of(left, leaves), (bond_of(left), bond_of(right)), *cores_of(right, leaves))

    def tree_over(self, count: int) -> Tree:
        """The tree of the option for so many leaves."""
        if self.tree in SHAPES:
            return split(tuple(range(1, count + 1)), halves=self.tree == "balanced")
        tree = tree_from(self.tree)
        if sorted(leaves_of(tree)) != list(range(1, count + 1)):
            raise TenfoldError(f"tree '{self.tree}' does not hold each of the {count} leaves of this weight once.")
        return tree

    def fit(self, tensor: Tensor, net: TensorNetwork, generator: torch.Generator) -> list[Tensor]:
        return swept(tensor, net, top(net), self.sweeps)

    def variants(self, axes: Axes) -> tuple[Format, ...]:
        return tuple(replace(self, order=order) for order in ((2, 3, 4) if self.order is None else (self.order,)))


def split(leaves: tuple[int, ...], *, halves: bool) -> Tree:
    """A binary tree over leaves in a row, cut in halves or after the first one."""
    if len(leaves) == 1:
        return leaves[0]
    at = len(leaves) // 2 if halves else 1
    return split(leaves[:at], halves=halves), split(leaves[at:], halves=halves)


def tree_from(text: str) -> Tree:
    """`((1 2) 3)` as a tree."""
    stack: list[list[Tree]] = [[]]
    for token in re.findall(r"[()]|[^\s(),]+", text):
        if token == "(":
            stack.append([])
        elif token == ")" and len(stack) > 1 and len(stack[-1]) == 2:
            left, right = stack.pop()
            stack[-1].append((left, right))
        elif token.isdecimal():
            stack[-1].append(int(token))
        else:
            break
    else:
        if len(stack) == 1 and len(stack[0]) == 1:
            return stack[0][0]
    raise TenfoldError(
        f"'{text}' is no binary tree; write 'balanced', 'caterpillar', or leaves in brackets by twos, such as "
        "((1 2) (3 4))."
    )


def leaves_of(tree: Tree) -> list[int]:
    """The leaves from left to right."""
    return [tree] if isinstance(tree, int) else [leaf for part in tree for leaf in leaves_of(part)]


def bond_of(tree: Tree) -> str:
    """The bond above a subtree, named by its leaves: `r3`, `r1.2`."""
    return "r" + ".".join(str(leaf) for leaf in leaves_of(tree))


def cores_of(tree: Tree, leaves: list[Labels]) -> list[Labels]:
    """Labels of the cores below a bond, in order."""
    if isinstance(tree, int):
        return [(*leaves[tree - 1], bond_of(tree))]
    left, right = tree
    return [*cores_of(left, leaves), (bond_of(left), bond_of(right), bond_of(tree)), *cores_of(right, leaves)]


def top(net: TensorNetwork) -> int:
    """The root: of the cores without modes the one with the fewest bonds; the busiest core where it was merged away."""
    inner = [k for k, core in enumerate(net.cores) if all(x in net.bonds for x in core)]
    return min(inner, key=lambda k: len(net.cores[k]), default=hub(net))
