"""A fake server per test, on a free port; a test that leaves a prepared failure unused fails."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_server import FakeServer
from waiting import Waiting

from upscaled import Client


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.start()
    try:
        yield fake
        assert not fake.unused_failures
    finally:
        fake.stop()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSCALED_SERVER", raising=False)
    monkeypatch.delenv("UPSCALED_API_KEY", raising=False)


@pytest.fixture
def png() -> Callable[..., bytes]:
    """The head of an RGB PNG of a size; all that this side looks at."""

    def make(width: int = 4, height: int = 3, padding: int = 0) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + header + b"\0" * padding

    return make


@pytest.fixture(params=[Client, Waiting], ids=["blocking", "async"])
def client(request: pytest.FixtureRequest, server: FakeServer) -> Iterator[Any]:
    """Both clients, without retries."""
    client = request.param(server.target, api_key="k1", retries=0)
    yield client
    client.close()
