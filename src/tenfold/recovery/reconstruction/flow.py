"""What enters and leaves the blocks of a network, without running again what came before."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.inputs import Inputs, call, evaluating, exchanged, tensors_in
from tenfold.inputs.containers import mapped
from tenfold.layers.recurrence import differentiable
from tenfold.recovery.reconstruction.blocks import Block
from tenfold.recovery.reconstruction.shelf import Shelf

Given = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments


class Arrived(Exception):  # noqa: N818  (a way out of a forward, no error)
    """The block is reached: nothing after it need run."""


@dataclass
class Flow:
    """A network on all chunks of samples, block after block.

    Before each block the network runs with what the last block gave in that one's place, and with empty numbers in the
    places of those further up; where this gives the block other inputs (a skip that passes over a block), it runs
    whole.

    Attributes:
        shelf: keeps what blocks give.
        given: for each block that is done what it gave of every chunk; the shapes only where the next one has been
            entered.
    """

    model: nn.Module
    chunks: Sequence[Inputs]
    shelf: Shelf = field(default_factory=Shelf)
    given: dict[Block, list[Any]] = field(default_factory=dict)

    def entering(self, block: Block) -> Iterator[Given]:
        """What a block is given, chunk after chunk; what the last one gave of a chunk is then let go."""
        last = list(self.given.values())[-1:]
        with evaluating(self.model):  # once: it looks at all that the network keeps
            short = self.is_short(block)
            for k in range(len(self.chunks)):
                arrived = self.arriving(block, k, short=short)
                for outputs in last:
                    outputs[k] = empty(outputs[k])
                yield arrived

    def is_short(self, block: Block) -> bool:
        """Whether what the last block gave is all that the next one's inputs depend on."""
        if not self.given:
            return False
        try:
            found = list(tensors_in(self.arriving(block, 0, short=True)))
        except RuntimeError:  # torch's, where empty numbers cannot be written to
            return False
        true = list(tensors_in(self.arriving(block, 0, short=False)))
        return len(found) == len(true) and all(map(torch.equal, found, true))

    def arriving(self, block: Block, k: int, *, short: bool) -> Given:
        """What a block is given of one chunk; the network is being evaluated."""
        found: list[Given] = []

        def arrive(*args: Any, **kwargs: Any) -> Any:
            found.append((args, kwargs))
            raise Arrived

        forwards: dict[nn.Module, Callable[..., Any]] = {}
        for done, outputs in self.given.items() if short else ():
            forwards |= dict.fromkeys(done.of(self.model), giving(self.shelf.out(outputs[k])))
        forwards[block.of(self.model)[0]] = arrive
        with exchanged(forwards):
            try:
                call(self.model, self.chunks[k].value)
            except Arrived:
                return found[0]
        raise AssertionError(f"block '{block.name}' was called before, and is not any more")

    def passed(self, block: Block, given: Iterable[Given]) -> list[Any]:
        """What a block gives of every chunk; the next one's inputs are then known."""
        modules = block.of(self.model)
        with evaluating(self.model):
            self.given[block] = [self.shelf.keep(through(modules, self.shelf.out(each))) for each in given]
        return self.given[block]


def through(modules: Sequence[nn.Module], given: Given) -> Any:
    """A block's modules, one after the other."""
    first, *others = modules
    with differentiable(modules):
        result = first(*given[0], **given[1])
        for module in others:
            result = module(result)
    return result


def giving(value: Any) -> Callable[..., Any]:
    """A forward that gives this whatever it is given."""
    return lambda *_, **__: value


def empty(outputs: Any) -> Any:
    """Zeros of the same shapes, which take no memory."""
    return mapped(lambda x: x.new_zeros(()).expand(x.shape) if isinstance(x, Tensor) else x, outputs)
