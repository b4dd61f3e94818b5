"""`TensorLike`: what is read as a tensor without being one; its numbers are multiplied up when they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map_only

from tenfold.protocols import TenfoldError

# what the sizes and the dtype alone answer
SIZES = frozenset({
    "dim", "element_size", "is_complex", "is_contiguous", "is_floating_point", "is_sparse", "itemsize", "layout",
    "nbytes", "ndim", "ndimension", "nelement", "numel", "size", "stride",
})  # fmt: skip
# methods that Python looks up on the class, and those that `nn.Module` has, too, with another meaning
READ = (
    "__abs__", "__add__", "__array__", "__getitem__", "__len__", "__matmul__", "__mul__", "__neg__", "__pow__",
    "__radd__", "__rmatmul__", "__rmul__", "__rsub__", "__rtruediv__", "__sub__", "__truediv__",
    "bfloat16", "cpu", "cuda", "double", "float", "half", "to", "type",
)  # fmt: skip
HOOKS = frozenset({"register_hook", "register_post_accumulate_grad_hook", "retain_grad"})  # on what is thrown away


class TensorLike(ABC):
    """A weight in several pieces: sizes and dtype at once; read as a tensor, the rebuilt one, with its gradients.

    Torch's functions and operators take it, and it has the methods and properties of a tensor. What would change it
    is refused, because the change would be lost with the tensor that it was made on.
    """

    grad = None  # the pieces have it

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Of the rebuilt tensor."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Of the pieces."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Of the pieces."""

    @property
    @abstractmethod
    def requires_grad(self) -> bool:
        """Whether some piece is trained."""

    @abstractmethod
    def dense(self) -> Tensor:
        """The rebuilt tensor."""

    @property
    def data(self) -> "Rebuilt":
        """The same without gradients; it cannot be written to."""
        return Rebuilt(self.shape, self.dtype, self.device, False, lambda: self.dense().detach())

    @data.setter
    def data(self, value: Tensor) -> None:
        refuse("data")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Tensor, name):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        if name in SIZES:
            return getattr(torch.empty(self.shape, dtype=self.dtype, device="meta"), name)
        return refusal(name) if changes(name) else getattr(self.dense(), name)

    def __setitem__(self, key: Any, value: Any) -> None:
        refuse("weight[..] = ..")

    def unseen(self) -> None:
        """Be no tensor to torch's functions: `nn.TransformerEncoder` drops padding only where it sees none like it."""
        vars(self)["__torch_function__"] = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        name = getattr(func, "__name__", "")
        if changes(name) and args and isinstance(args[0], TensorLike):
            refuse(name)
        rebuilt, named = tree_map_only(TensorLike, lambda each: each.dense(), (args, kwargs or {}))
        return func(*rebuilt, **named)

    def __fx_create_arg__(self, tracer: fx.Tracer) -> Any:
        return tracer.create_arg(self.dense())


class Rebuilt(TensorLike):
    """The weight of modules that stand in the place of one, as long as it is looked at."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        requires_grad: bool,
        build: Callable[[], Tensor],
    ) -> None:
        self.like = torch.Size(shape), dtype, device, requires_grad
        self.build = build

    @property
    def shape(self) -> torch.Size:
        return self.like[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.like[1]

    @property
    def device(self) -> torch.device:
        return self.like[2]

    @property
    def requires_grad(self) -> bool:
        return self.like[3]

    def dense(self) -> Tensor:
        return self.build()


def reading(name: str) -> Callable[..., Any]:
    """A method that the rebuilt tensor answers."""

    def method(self: TensorLike, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.dense(), name)(*args, **kwargs)

    return method


for each in READ:
    setattr(TensorLike, each, reading(each))


def changes(name: str) -> bool:
    """Whether a function of this name writes to its tensor."""
    return name in HOOKS or (name.endswith("_") and not name.endswith("__"))


def refusal(name: str) -> Callable[..., None]:
    """A method that refuses."""
    return lambda *args, **kwargs: refuse(name)


def refuse(name: str) -> None:
    """Raise for a change of what is rebuilt at every look."""
    raise TenfoldError(f"'{name}' would be lost on a weight that is rebuilt when it is read; change its parameters.")
