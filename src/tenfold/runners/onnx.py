"""An ONNX file in onnxruntime."""

from collections.abc import Callable, Sequence
from typing import Any

import onnxruntime


def opened(file: str | bytes, threads: int) -> Callable[[Sequence[Any]], list[Any]]:
    """The forward of a file, or of its bytes: arrays in the order of its inputs, arrays in that of its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or idle threads slow the others down
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def forward(arrays: Sequence[Any]) -> list[Any]:
        return list(session.run(None, dict(zip(names, arrays, strict=True))))

    return forward
