"""The callers in the store, all of them in memory too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from upscaled_server.access import records
from upscaled_server.access.caller import Caller
from upscaled_server.access.records import CallerRecord
from upscaled_server.errors import AlreadyExists, Conflict, LimitExceeded
from upscaled_server.state.store import KeyExists, Store

MAX_CALLERS = 10_000


class StoredCallers:
    """Changes go to the store first, and are made one at a time (`Changes`)."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._by_name: dict[str, CallerRecord] = {}

    async def load(self) -> None:
        """Read everything. Raises `ProcessingFailed` for entries that are damaged."""
        async for entry in records.read_all(self._store, records.CALLERS):
            record = records.read_caller(entry)
            self._by_name[record.caller.name] = record

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._by_name)

    def find(self, name: str) -> CallerRecord | None:
        return self._by_name.get(name)

    async def create(self, caller: Caller) -> CallerRecord:
        """Raises `AlreadyExists`, `LimitExceeded`."""
        if caller.name in self._by_name:
            raise exists(caller.name)
        if len(self._by_name) >= MAX_CALLERS:
            raise LimitExceeded(
                "caller", "there are too many", limit=MAX_CALLERS, actual=MAX_CALLERS + 1, unit="callers"
            )
        created = self._clock()
        try:
            version = await self._store.create(
                records.caller_key(caller.name), records.caller_value(caller, created)
            )
        except KeyExists:
            raise exists(caller.name) from None
        record = self._by_name[caller.name] = CallerRecord(caller, created, version)
        return record

    async def replace(self, record: CallerRecord, caller: Caller, etag: str) -> CallerRecord:
        """Put `caller` in the place of `record`. Raises `Conflict` if `etag` is given and not its own."""
        if etag and etag != record.etag:
            raise Conflict(
                f"caller {caller.name} has been changed since it was read: read it again",
                etag=etag[:80],
                present=record.etag,
            )
        version = await self._store.update(
            records.caller_key(caller.name), records.caller_value(caller, record.created), record.version
        )
        changed = self._by_name[caller.name] = CallerRecord(caller, record.created, version)
        return changed

    async def delete(self, record: CallerRecord) -> None:
        name = record.caller.name
        await self._store.delete(records.caller_key(name), record.version)
        del self._by_name[name]


def exists(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"there is a caller named {name} already; update it, or take another name", name=name
    )
