"""Chains of plain modules as ONNX, node by node: a clock has hundreds, and torch's exporter takes seconds for each."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tenfold.layers.plain import CONVOLUTIONS, TRANSPOSED, GroupedLinear, Pad

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, IR = 18, 10
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
Node = tuple[str, list[Tensor | None], dict[str, Any]]  # operator, what it takes beside its input, attributes


class UnwrittenError(Exception):
    """A module for which there is no node here."""


def written(model: nn.Module, x: Tensor) -> "ModelProto | None":
    """A chain of plain modules on one tensor; None where one of them has no node here."""
    from onnx import helper, numpy_helper

    try:
        nodes = nodes_of(model)
    except UnwrittenError:
        return None
    made, numbers, name = [], [], "x"
    for at, (operator, tensors, attributes) in enumerate(nodes):
        names = [f"{at}.{k}" if tensor is not None else "" for k, tensor in enumerate(tensors)]
        held = zip(names, tensors, strict=True)
        numbers += [numpy_helper.from_array(tensor.detach().numpy(), key) for key, tensor in held if tensor is not None]
        made.append(helper.make_node(operator, [name, *names], [f"y{at}"], **attributes))
        name = f"y{at}"
    kind = helper.np_dtype_to_tensor_dtype(x.numpy().dtype)
    ends = [helper.make_tensor_value_info(key, kind, shape) for key, shape in (("x", list(x.shape)), (name, None))]
    graph = helper.make_graph(made, "chain", ends[:1], ends[1:], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def nodes_of(module: nn.Module) -> list[Node]:
    """What a module does, one node after the other.

    Raises: UnwrittenError.
    """
    if isinstance(module, nn.Sequential):
        return [node for part in module for node in nodes_of(part)]
    if isinstance(module, GroupedLinear):
        last = torch.tensor([-1])
        return [("Unsqueeze", [last], {}), *nodes_of(module.conv), ("Squeeze", [last], {})]
    if type(module) is nn.Linear:
        return [("Gemm", [module.weight, module.bias], {"transB": 1})]
    if isinstance(module, POOLS) and module.output_size == 1:
        return [("GlobalAveragePool", [], {})]
    if isinstance(module, Pad) and module.mode == "constant":
        sides = torch.tensor(module.pads).reshape(-1, 2).flip(0).T  # (before and after, axes)
        outer = sides.new_zeros(2, 2)
        return [("Pad", [torch.cat([outer, sides], 1).flatten()], {})]
    if isinstance(module, CONVOLUTIONS) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return [convolution(cast(nn.Conv2d | nn.ConvTranspose2d, module))]
    raise UnwrittenError


def convolution(module: nn.Conv2d | nn.ConvTranspose2d) -> Node:
    """One of any number of dimensions."""
    geometry = {"strides": module.stride, "dilations": module.dilation, "pads": (*module.padding, *module.padding),
                "group": module.groups}  # fmt: skip
    if isinstance(module, TRANSPOSED):
        return "ConvTranspose", [module.weight, module.bias], {**geometry, "output_padding": module.output_padding}
    return "Conv", [module.weight, module.bias], geometry
