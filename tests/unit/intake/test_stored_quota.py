"""What a caller stores is counted at every moment, also between the steps that write it down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stored_tools import Kept

from upscaled_server.access.caller import Caller
from upscaled_server.errors import QuotaExceeded, StorageFull
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.state.store import Entry, Store

ANNA = Caller("anna", max_stored_bytes=100)


class _Held:
    """A store whose updates and reads wait for `go`, and then fail where `error` is set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def update(self, key: str, value: bytes, version: int) -> int:
        self.reached.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return await self._store.update(key, value, version)

    async def get(self, key: str) -> Entry | None:
        await asyncio.sleep(0)
        return await self._store.get(key)


async def test_bytes_stay_counted_while_they_are_written_down(kept: Kept) -> None:
    store = _Held(kept.store)
    quotas = Quotas(store, 10)  # type: ignore[arg-type]
    await quotas.begin(ANNA, "out", "a")
    await quotas.grow(ANNA, 80)
    settling = asyncio.create_task(quotas.settle("anna", "out", "a", 80, grown=80))
    await store.reached.wait()
    with pytest.raises(QuotaExceeded) as refused:
        await quotas.grow(ANNA, 30)
    assert (refused.value.numbers["limit"], refused.value.numbers["actual"]) == (100, 110)
    store.go.set()
    await settling
    assert await quotas.stored_bytes("anna") == 80


async def test_what_could_not_be_written_down_is_not_counted_twice(kept: Kept) -> None:
    store = _Held(kept.store)
    store.error = StorageFull("the disk is full")
    store.go.set()
    quotas = Quotas(store, 10)  # type: ignore[arg-type]
    await quotas.begin(ANNA, "out", "a")
    await quotas.grow(ANNA, 80)
    with pytest.raises(StorageFull):
        await quotas.settle("anna", "out", "a", 80, grown=80)
    # As after a restart, which knows no more than what is written down.
    assert await quotas.stored_bytes("anna") == await Quotas(kept.store, 10).stored_bytes("anna") == 0
