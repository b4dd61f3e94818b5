"""One thread, warnings as errors, and a clean compiler for every test that compiles."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
for name, examples in {"quick": 20, "thorough": 200}.items():
    settings.register_profile(name, deadline=None, derandomize=True, print_blob=False, max_examples=examples)
settings.load_profile("quick")


@pytest.fixture
def compiler() -> Iterator[None]:
    """Dynamo with empty caches, before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
