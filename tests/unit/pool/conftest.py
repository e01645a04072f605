"""What tests of the pool's parts share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is still referred to from cycles stays, as in a worker that rests."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
