"""A store of a process that is killed after so many changes."""

from __future__ import annotations

import asyncio

from upscaled_server.state.store import Entry, Store


class Killed(asyncio.CancelledError):
    """The process is gone: nothing that follows happens."""


class DyingStore:
    """A store that is there for so many changes, and then neither changes nor answers."""

    def __init__(self, store: Store, changes: int) -> None:
        self._store = store
        self.left = changes

    def _spend(self) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1

    async def get(self, key: str) -> Entry | None:
        if self.left <= 0:
            raise Killed
        return await self._store.get(key)

    async def create(self, key: str, value: bytes) -> int:
        self._spend()
        return await self._store.create(key, value)

    async def update(self, key: str, value: bytes, version: int) -> int:
        self._spend()
        return await self._store.update(key, value, version)

    async def delete(self, key: str, version: int) -> None:
        self._spend()
        await self._store.delete(key, version)

    async def range(
        self, prefix: str, *, after: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[Entry]:
        return await self._store.range(prefix, after=after, limit=limit, reverse=reverse)

    async def aclose(self) -> None:
        pass
