"""`.onnx`: what onnxruntime and many others run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from tenfold import runners
from tenfold.measure.runtimes import by_exporter
from tenfold.protocols import TenfoldError
from tenfold.targets.base import Target

MOST_BYTES = 2**31 - 2**20  # of one protobuf message, and some room for the graph
BATCH = "batch"  # the name of the dimension that counts samples


class ONNX(Target):
    """One file with all weights inside, by torch's own exporter."""

    packages = "onnx", "onnxscript", "onnxruntime"
    runner = Path(runners.__file__).with_name("onnx.py")

    def made(self, program: ExportedProgram, outputs: Sequence[str]) -> bytes:
        held = sum(tensor.nbytes for tensor in program.state_dict.values())
        if held > MOST_BYTES:
            raise TenfoldError(f"one ONNX file holds 2 GiB, and the weights are {held / 2**30:.1f}; export to .pt2.")
        made = by_exporter(program, output_names=list(outputs))
        return without_traces(made, [str(symbol) for symbol in program.range_constraints])


def without_traces(model: Any, symbols: Sequence[str]) -> bytes:
    """The file without what only tells where the network's code lay; its one symbol is named for what it counts."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    for each in (model, graph, *graph.node, *graph.initializer, *values):
        each.ClearField("metadata_props")
    if len(symbols) == 1:
        for value in values:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_param = re.sub(rf"\b{symbols[0]}\b", BATCH, dim.dim_param)
    content: bytes = model.SerializeToString()
    return content
