"""A directory over a real store, with a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from upscaled_server.access.directory import Directory
from upscaled_server.state.store import Store


@dataclass
class Clock:
    """Seconds, moved by hand."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(store: Store, clock: Clock) -> Directory:
    return Directory(store, clock)
