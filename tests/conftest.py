"""One thread, warnings as errors, and a clean compiler for every test that compiles."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("laws", deadline=None, derandomize=True, print_blob=False, max_examples=50)
settings.load_profile("laws")


@pytest.fixture
def compiler() -> Iterator[None]:
    """Dynamo with empty caches, before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
