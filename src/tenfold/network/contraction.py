"""Contractions of labelled tensors: the path is found once a shape, then run as pairwise products."""

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from opt_einsum import contract_path, get_symbol
from torch import Tensor

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Contraction:
    """Pairwise steps `(positions, equation)`; each takes its operands off the list and appends the product.

    The path is opt_einsum's. The steps are run here because its own expressions do not trace under
    `torch.compile(fullgraph=True)` (they look their back end up at run time).
    """

    steps: tuple[tuple[tuple[int, ...], str], ...]
    macs: int  # multiply-adds of all steps

    def __call__(self, *operands: Tensor) -> Tensor:
        stack = list(operands)
        for positions, equation in self.steps:
            stack.append(torch.einsum(equation, *[stack.pop(at) for at in positions]))
        return stack[0]


@lru_cache(maxsize=4096)
def contraction(operands: tuple[Labels, ...], shapes: tuple[tuple[int, ...], ...], output: Labels) -> Contraction:
    """The cheapest order of pairwise products for labelled operands of these shapes, to the `output` labels.

    A label that the output keeps, or that more than two operands hold, is multiplied element by element
    until its last operand has come.
    """
    symbol = {label: get_symbol(k) for k, label in enumerate(dict.fromkeys(x for labels in operands for x in labels))}
    terms = ",".join("".join(symbol[x] for x in labels) for labels in operands)
    equation = f"{terms}->{''.join(symbol[x] for x in output)}"
    path, _ = contract_path(equation, *shapes, shapes=True)
    sizes = {x: n for labels, shape in zip(operands, shapes, strict=True) for x, n in zip(labels, shape, strict=True)}
    remaining, steps, macs = list(operands), [], 0
    for positions in path:
        taken = tuple(sorted(positions, reverse=True))
        parts = [remaining.pop(at) for at in taken]
        needed = set(output).union(*remaining)
        kept = output if not remaining else tuple(x for x in dict.fromkeys(x for p in parts for x in p) if x in needed)
        steps.append((taken, einsum_equation(parts, kept)))
        macs += math.prod(sizes[x] for x in set().union(*parts)) if len(parts) > 1 else 0
        remaining.append(kept)
    return Contraction(tuple(steps), macs)


def einsum_equation(operands: Sequence[Labels], output: Labels) -> str:
    """`ab,bc->ac` for any label names."""
    letters = dict(zip(dict.fromkeys(x for labels in operands for x in labels), string.ascii_letters, strict=False))
    terms = ",".join("".join(letters[x] for x in labels) for labels in operands)
    return f"{terms}->{''.join(letters[x] for x in output)}"


def contract(operands: Sequence[tuple[Tensor, Labels]], output: Labels) -> Tensor:
    """Contract labelled tensors to the `output` labels, by a cached path."""
    tensors = [tensor for tensor, _ in operands]
    labels = tuple(labels for _, labels in operands)
    return contraction(labels, tuple(tuple(t.shape) for t in tensors), output)(*tensors)
