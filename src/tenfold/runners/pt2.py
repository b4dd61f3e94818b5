"""A file of `torch.export.save` in torch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument
from torch.utils import _pytree as pytree


def opened(file: str, threads: int) -> Callable[[Sequence[Any]], list[Any]]:
    """The forward of a file: arrays in the order of its tensors, arrays in that of its outputs."""
    torch.set_num_threads(threads)
    with open(file, "rb") as content:
        program = torch.export.load(content)
    network = program.module()

    def forward(arrays: Sequence[Any]) -> list[Any]:
        args, kwargs = pytree.tree_unflatten(list(leaves(program, arrays)), program.call_spec.in_spec)
        with torch.no_grad():
            found = pytree.tree_leaves(network(*args, **kwargs))
        return [array(each) for each in found if isinstance(each, torch.Tensor)]

    return forward


def leaves(program: ExportedProgram, arrays: Sequence[Any]) -> Iterator[Any]:
    """What the program is given, flat: tensors of these arrays, and between them the constants it was made with."""
    dtypes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    given = iter(arrays)
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            is_tensor = isinstance(spec.arg, TensorArgument)
            yield torch.from_numpy(next(given)).to(dtypes[spec.arg.name].dtype) if is_tensor else spec.arg.value


def array(tensor: torch.Tensor) -> Any:
    """A tensor for NumPy, which knows no bfloat16."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
