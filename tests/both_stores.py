"""Either store, so that one test body runs over both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from tests.nats_servers import NatsServer, settings_for
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore
from upscaled_server.state.sqlite import SqliteStore
from upscaled_server.state.store import Store

STORES = ("sqlite", "nats")


class OpenStore(Protocol):
    """Opens the same state every time."""

    def __call__(self) -> AbstractAsyncContextManager[Store]: ...


def sqlite_opener(path: Path) -> OpenStore:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        store = await SqliteStore.open(path)
        try:
            yield store
        finally:
            await store.aclose()

    return opened


def nats_opener(server: NatsServer, settings: ClusterSettings | None = None) -> OpenStore:
    return nats_store_opener(settings or settings_for([server]))


def nats_store_opener(settings: ClusterSettings) -> OpenStore:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        store = await NatsStore.open(settings)
        try:
            yield store
        finally:
            await store.aclose()

    return opened
