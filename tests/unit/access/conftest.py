"""A directory over a real store, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from upscaled_server.access.directory import Directory
from upscaled_server.state.sqlite import SqliteStore


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
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "state.db")
    yield store
    await store.aclose()


@pytest.fixture
def directory(store: SqliteStore, clock: Clock) -> Directory:
    return Directory(store, clock)
