"""The callers in the store, all of them in memory too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing

from upscaled_server.access import records
from upscaled_server.access.caller import Caller
from upscaled_server.access.records import CallerRecord
from upscaled_server.errors import AlreadyExists, Conflict, LimitExceeded, NotFound, ProcessingFailed
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged

_LOG = logging.getLogger(__name__)

MAX_CALLERS = 10_000


class StoredCallers:
    """Changes go to the store first, and are made one at a time (`Changes`)."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._by_name: dict[str, CallerRecord] = {}

    async def load(self) -> None:
        """Read everything. Raises `ProcessingFailed` for entries that are damaged."""
        gone = set(self._by_name)
        async for entry in records.read_all(self._store, records.CALLERS):
            record = records.read_caller(entry)
            self._remember(record)
            gone.discard(record.caller.name)
        for name in gone:
            self._by_name.pop(name, None)

    async def follow(self) -> None:
        """Take over what others change, for ever."""
        with closing(ChangeReader(self._store, records.CALLERS, self._take, self.load)) as reader:
            await reader.follow()

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
        return self._remember(CallerRecord(caller, created, version))

    async def replace(self, record: CallerRecord, caller: Caller, etag: str) -> CallerRecord:
        """Put `caller` in the place of `record`. Raises `Conflict` if `etag` is given and not its own, also
        where somebody else was faster; `NotFound` if it is gone."""
        while True:
            if etag and etag != record.etag:
                raise Conflict(
                    f"caller {caller.name} has been changed since it was read: read it again",
                    etag=etag[:80],
                    present=record.etag,
                )
            key, value = records.caller_key(caller.name), records.caller_value(caller, record.created)
            try:
                version = await self._store.update(key, value, record.version)
            except VersionChanged:
                record = await self._now(record)
            else:
                return self._remember(CallerRecord(caller, record.created, version))

    async def delete(self, record: CallerRecord) -> None:
        """That it is gone already is fine."""
        name = record.caller.name
        try:
            while True:
                try:
                    await self._store.delete(records.caller_key(name), record.version)
                    break
                except VersionChanged:
                    record = await self._now(record)
        except NotFound:
            pass
        known = self._by_name.get(name)
        # Not one that somebody has made again since.
        if known is not None and known.version <= record.version:
            del self._by_name[name]

    async def is_kept(self, name: str) -> bool:
        """As the store says, whatever was heard."""
        return await self._store.get(records.caller_key(name)) is not None

    async def _now(self, record: CallerRecord) -> CallerRecord:
        """A caller that somebody else has changed. Raises `NotFound`."""
        key = records.caller_key(record.caller.name)
        entry = await self._store.get(key)
        if entry is None:
            raise NotFound("caller", record.caller.name)
        return self._remember(records.read_caller(entry))

    def _take(self, key: str, entry: Entry | None) -> None:
        if entry is None:
            self._by_name.pop(key.rpartition("/")[2], None)
            return
        try:
            self._remember(records.read_caller(entry))
        except ProcessingFailed as error:
            _LOG.error("%s", error.message)

    def _remember(self, record: CallerRecord) -> CallerRecord:
        """What is known then, which may be newer."""
        known = self._by_name.get(record.caller.name)
        if known is None or known.version < record.version:
            self._by_name[record.caller.name] = known = record
        return known


def exists(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"there is a caller named {name} already; update it, or take another name", name=name
    )
