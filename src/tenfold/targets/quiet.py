"""Exporters, without what they say of their own code."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGS = "torch.onnx", "onnxscript", "onnx_ir"


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and of their logs only errors."""
    logs = [logging.getLogger(name) for name in LOGS]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
