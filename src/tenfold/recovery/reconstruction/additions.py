"""Additions that a layer's output goes into, found by watching every operation of one call."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold.inputs import tensors_in

SUMS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)
LEAST = 1e-3  # of the largest factor of a norm: a channel that counts for less makes nothing good


@dataclass(frozen=True)
class Addition:
    """A sum of a layer's output, perhaps through batch norms, and of a tensor that does not depend on it.

    Attributes:
        number: among the sums of a call.
        other: which of the two terms is the other one.
        norms: between the layer and the sum.
    """

    number: int
    other: int
    norms: tuple[nn.Module, ...] = ()

    def undone(self, difference: Tensor) -> Tensor:
        """What a difference of sums (samples, channels, ..) is before the norms; 0 where they let too little pass."""
        for norm in self.norms:
            factor = scale(norm)
            inverse = torch.where(factor.abs() > LEAST * factor.abs().max(), 1 / factor, 0)
            difference = difference * inverse.reshape(-1, *[1] * (difference.ndim - 2)).to(difference)
        return difference


def scale(norm: nn.Module) -> Tensor:
    """What a batch norm in eval mode multiplies every channel by."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    return factor if norm.weight is None else norm.weight.detach() * factor


class Sums(TorchDispatchMode):  # type: ignore[no-untyped-call]  # (torch's)
    """Inside, every sum of two tensors is shown before it is taken: its number and its terms."""

    def __init__(self, see: Callable[[int, Sequence[Any]], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.see, self.count = see, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in SUMS:
            plain = not kwargs and all(isinstance(term, Tensor) for term in args)
            if plain:
                self.see(self.count, args)
            self.count += 1
        return self.after((args, kwargs), func(*args, **kwargs or {}))

    def after(self, given: Any, result: Any) -> Any:
        """What an operation gave."""
        del given
        return result


class Descent(Sums):  # type: ignore[no-untyped-call]
    """The same, knowing which layers every tensor depends on, and which are a layer's output but for norms.

    Attributes:
        calls: of every layer, in the order of the first ones.
        sums: the first that a layer's output goes into.
    """

    def __init__(self) -> None:
        super().__init__(self.note)
        self.calls: Counter[nn.Module] = Counter()
        self.sums: dict[nn.Module, Addition] = {}
        self.behind: dict[int, frozenset[nn.Module]] = {}  # by the identity of a tensor
        self.outputs: dict[int, tuple[nn.Module, tuple[nn.Module, ...]]] = {}
        self.kept: list[Tensor] = []  # so that no tensor takes the identity of another

    def note(self, number: int, terms: Sequence[Any]) -> None:
        """Keep a sum as that of the layers whose outputs are its terms."""
        for other, term in enumerate(terms[::-1]):
            layer, norms = self.outputs.get(id(term), (None, ()))
            alone = layer is not None and layer not in self.behind.get(id(terms[other]), ())
            if layer is not None and alone and term.shape == terms[other].shape:
                self.sums.setdefault(layer, Addition(number, other, norms))

    def after(self, given: Any, result: Any) -> Any:
        before = frozenset().union(*(self.behind.get(id(tensor), ()) for tensor in tensors_in(given)))
        for tensor in tensors_in(result):
            self.behind[id(tensor)] = before
            self.outputs.pop(id(tensor), None)  # (written to in place)
            self.kept.append(tensor)
        return result

    @property
    def found(self) -> dict[nn.Module, Addition]:
        """The sums of the layers that were called once."""
        return {layer: found for layer, found in self.sums.items() if self.calls[layer] == 1}

    def gave(self, module: nn.Module, args: Sequence[Any], result: Any) -> None:
        """A hook on a layer."""
        del args
        self.calls[module] += 1
        if isinstance(result, Tensor):
            self.outputs[id(result)] = module, ()
            self.behind[id(result)] = self.behind.get(id(result), frozenset()) | {module}

    def normed(self, module: nn.Module, args: Sequence[Any], result: Any) -> None:
        """A hook on a batch norm: what it gave is the output of the layer before, scaled and shifted."""
        if args and id(args[0]) in self.outputs and isinstance(result, Tensor):
            layer, norms = self.outputs[id(args[0])]
            self.outputs[id(result)] = layer, (*norms, module)


@torch.no_grad()
def watched(model: nn.Module, layers: Iterable[nn.Module], call: Callable[[], Any]) -> Descent:
    """The calls of layers and the sums that their outputs go into.

    Args: call: of the model, in eval mode.
    Raises: what torch raises where an operation cannot be watched.
    """
    descent = Descent()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_var is not None]
    handles = [layer.register_forward_hook(descent.gave) for layer in layers]
    handles += [norm.register_forward_hook(descent.normed) for norm in norms]
    try:
        with descent:
            call()
    finally:
        for handle in handles:
            handle.remove()
    return descent


@torch.no_grad()
def called(layers: Iterable[nn.Module], call: Callable[[], Any]) -> list[nn.Module]:
    """The layers that are called, in the order of their first calls."""
    found: dict[nn.Module, None] = {}
    handles = [layer.register_forward_hook(lambda module, *_: found.setdefault(module)) for layer in layers]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return list(found)
