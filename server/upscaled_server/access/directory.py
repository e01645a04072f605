"""Every caller and key: in memory for the calls, in the store to outlive the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from upscaled_server.access import keys, records
from upscaled_server.access.caller import Caller
from upscaled_server.access.keys import Key
from upscaled_server.access.mounted import Mounted
from upscaled_server.access.records import CallerRecord, KeyRecord
from upscaled_server.errors import AlreadyExists, Conflict, FailedPrecondition, LimitExceeded, NotFound
from upscaled_server.state.store import MAX_RANGE, KeyExists, Store

MAX_CALLERS = 10_000
MAX_WORKING_KEYS = 100
"""Of one caller."""
_MAX_ENDED_KEYS = 100
"""Of one caller; the oldest are forgotten first."""

DEFAULT_OVERLAP_SECONDS = 24 * 3600.0
_USE_PRECISION_SECONDS = 60.0

_T = TypeVar("_T")


class Directory:
    """Reads are from memory and never wait. Changes are written first and then seen by the next call.

    What is mounted from a file goes before what is stored, and cannot be changed here.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._callers: dict[str, CallerRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._ids: dict[bytes, str] = {}
        self._mounted_ids: dict[bytes, str] = {}
        self._uses: dict[str, float] = {}
        self._mounted = Mounted()
        self._one_change = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self.on_end: Callable[[str], None] = lambda _key_id: None
        """Told the id of every key that ends before its time."""

    async def load(self) -> None:
        """Read everything. Raises `ProcessingFailed` for entries that are damaged."""
        async for entry in self._all(records.CALLERS):
            caller = records.read_caller(entry)
            self._callers[caller.caller.name] = caller
        async for entry in self._all(records.KEYS):
            record = records.read_key(entry)
            self._remember_key(record)

    def mount(self, mounted: Mounted) -> None:
        """Take over the content of the file, in place of what it held before."""
        before, self._mounted = self._mounted.keys, mounted
        self._mounted_ids = {key.digest: key.id for key in mounted.keys.values()}
        for key_id in before.keys() - mounted.keys.keys():
            self.on_end(key_id)

    @property
    def has_keys(self) -> bool:
        """Whether a key was ever made, or is mounted: ended ones count, so that the last to end opens no
        door."""
        return bool(self._keys or self._mounted.keys)

    def find_key(self, digest: bytes) -> Key | None:
        """The key whose digest this is."""
        if (mounted := self._mounted_ids.get(digest)) is not None:
            return self._mounted.keys[mounted]
        key_id = self._ids.get(digest)
        return None if key_id is None else self._keys[key_id].key

    def caller(self, name: str) -> CallerRecord:
        """Raises `NotFound`."""
        if (mounted := self._mounted.callers.get(name)) is not None:
            return CallerRecord(mounted, created=0.0, mounted=True)
        if (record := self._callers.get(name)) is None:
            raise NotFound("caller", name, hint="`upscaled callers list` shows them")
        return record

    def callers(self) -> list[CallerRecord]:
        """By name."""
        return [self.caller(name) for name in sorted({*self._callers, *self._mounted.callers})]

    def keys_of(self, caller: str = "") -> list[Key]:
        """Of one caller or all, by caller, then by time of creation."""
        found = [key for key in self._each_key() if caller in ("", key.caller)]
        return sorted(
            (self._with_use(key) for key in found), key=lambda key: (key.caller, key.created, key.id)
        )

    def note_use(self, key: Key) -> None:
        """A call was made with the key; written down by `flush_uses`."""
        now = self._clock()
        if now - (self._uses.get(key.id) or key.last_used or 0.0) >= _USE_PRECISION_SECONDS:
            self._uses[key.id] = now - now % _USE_PRECISION_SECONDS

    async def create_caller(self, caller: Caller) -> CallerRecord:
        """Raises `InvalidField`, `AlreadyExists`."""
        caller.check()
        return await self._change(self._create_caller(caller))

    async def update_caller(self, caller: Caller, etag: str = "") -> CallerRecord:
        """Replace the limits of the caller of this name. Raises `InvalidField`, `NotFound`; `Conflict` if
        `etag` is given and not the present one."""
        caller.check()
        return await self._change(self._update_caller(caller, etag))

    async def delete_caller(self, name: str) -> None:
        """With its keys, which end at once. Raises `NotFound`."""
        await self._change(self._delete_caller(name))

    async def create_key(
        self, caller: str, *, description: str = "", admin: bool = False, lifetime: float | None = None
    ) -> tuple[Key, str]:
        """The key, and the whole of it, which is not kept. Raises `NotFound`, `LimitExceeded`."""
        return await self._change(self._create_key(caller, description, admin, lifetime))

    async def rotate_key(self, key_id: str, overlap: float = DEFAULT_OVERLAP_SECONDS) -> tuple[Key, str]:
        """A new key like this one, which works for `overlap` seconds more. What had a lifetime gets it anew.

        Raises `NotFound`, `FailedPrecondition` for a key that works no more.
        """
        return await self._change(self._rotate_key(key_id, overlap))

    async def revoke_key(self, key_id: str) -> Key:
        """End a key, and the calls made with it. Revoking twice changes nothing. Raises `NotFound`."""
        return await self._change(self._revoke_key(key_id))

    async def flush_uses(self) -> None:
        """Write down when keys were last used."""
        await self._change(self._flush_uses())

    async def _create_caller(self, caller: Caller) -> CallerRecord:
        if caller.name in self._callers or caller.name in self._mounted.callers:
            raise _exists(caller.name)
        if len(self._callers) >= MAX_CALLERS:
            raise LimitExceeded(
                "caller", "there are too many", limit=MAX_CALLERS, actual=MAX_CALLERS + 1, unit="callers"
            )
        created = self._clock()
        try:
            version = await self._store.create(
                records.caller_key(caller.name), records.caller_value(caller, created)
            )
        except KeyExists:
            raise _exists(caller.name) from None
        record = self._callers[caller.name] = CallerRecord(caller, created, version)
        return record

    async def _update_caller(self, caller: Caller, etag: str) -> CallerRecord:
        record = self._stored_caller(caller.name)
        if etag and etag != record.etag:
            raise Conflict(
                f"caller {caller.name} has been changed since it was read: read it again",
                etag=etag[:80],
                present=record.etag,
            )
        version = await self._store.update(
            records.caller_key(caller.name), records.caller_value(caller, record.created), record.version
        )
        changed = self._callers[caller.name] = CallerRecord(caller, record.created, version)
        return changed

    async def _delete_caller(self, name: str) -> None:
        record = self._stored_caller(name)
        # Keys first: cut short, it leaves a caller without them, which can be deleted again.
        for each in [each for each in self._keys.values() if each.key.caller == name]:
            await self._forget_key(each)
        await self._store.delete(records.caller_key(name), record.version)
        del self._callers[name]

    async def _create_key(
        self, caller: str, description: str, admin: bool, lifetime: float | None
    ) -> tuple[Key, str]:
        self._stored_caller(caller)
        now = self._clock()
        await self._make_room(caller, now)
        whole = keys.generate()
        key = Key(
            id=whole[: keys.ID_LENGTH],
            caller=caller,
            digest=keys.digest(whole),
            created=now,
            description=description,
            admin=admin,
            lifetime=lifetime,
            expires=None if lifetime is None else now + lifetime,
        )
        version = await self._store.create(records.key_key(key), records.key_value(key))
        self._remember_key(KeyRecord(key, version))
        return key, whole

    async def _rotate_key(self, key_id: str, overlap: float) -> tuple[Key, str]:
        old, now = self._stored_key(key_id).key, self._clock()
        if not old.works_at(now):
            raise FailedPrecondition(
                f"key {key_id} works no more and cannot be rotated; create a new one for {old.caller}",
                key=key_id,
            )
        created = await self._create_key(old.caller, old.description, old.admin, old.lifetime)
        ends = now + overlap if old.expires is None else min(old.expires, now + overlap)
        await self._write_key(replace(old, expires=ends))
        return created

    async def _revoke_key(self, key_id: str) -> Key:
        key = self._stored_key(key_id).key
        if key.revoked is None:
            key = key.ended_at(self._clock())
            await self._write_key(key)
            self.on_end(key_id)
        return self._with_use(key)

    async def _flush_uses(self) -> None:
        for key_id, used in list(self._uses.items()):
            if key_id in self._keys:
                await self._write_key(replace(self._keys[key_id].key, last_used=used))
                del self._uses[key_id]

    async def _make_room(self, caller: str, now: float) -> None:
        of_caller = [each for each in self._keys.values() if each.key.caller == caller]
        ended = [each for each in of_caller if not each.key.works_at(now)]
        working = len(of_caller) - len(ended)
        if working >= MAX_WORKING_KEYS:
            raise LimitExceeded(
                "caller",
                f"{caller} has too many keys; revoke some",
                limit=MAX_WORKING_KEYS,
                actual=working + 1,
                unit="keys",
            )
        for each in sorted(ended, key=lambda record: record.key.created)[
            : max(0, len(ended) - _MAX_ENDED_KEYS)
        ]:
            await self._forget_key(each)

    async def _write_key(self, key: Key) -> None:
        record = self._keys[key.id]
        version = await self._store.update(records.key_key(key), records.key_value(key), record.version)
        self._remember_key(KeyRecord(key, version))

    def _remember_key(self, record: KeyRecord) -> None:
        self._keys[record.key.id] = record
        self._ids[record.key.digest] = record.key.id

    async def _forget_key(self, record: KeyRecord) -> None:
        await self._store.delete(records.key_key(record.key), record.version)
        del self._keys[record.key.id]
        del self._ids[record.key.digest]
        self._uses.pop(record.key.id, None)
        self.on_end(record.key.id)

    def _stored_caller(self, name: str) -> CallerRecord:
        record = self.caller(name)
        if record.mounted:
            raise _mounted(f"caller {name}")
        return record

    def _stored_key(self, key_id: str) -> KeyRecord:
        if key_id in self._mounted.keys:
            raise _mounted(f"key {key_id}")
        if (record := self._keys.get(key_id)) is None:
            raise NotFound(
                "key",
                key_id if keys.is_id(key_id) else "(not an id)",
                hint="an id is the first 16 characters of a key; `upscaled keys list` shows them",
            )
        return record

    def _each_key(self) -> Iterator[Key]:
        yield from self._mounted.keys.values()
        yield from (each.key for each in self._keys.values() if each.key.id not in self._mounted.keys)

    def _with_use(self, key: Key) -> Key:
        used = self._uses.get(key.id)
        return key if used is None else replace(key, last_used=used)

    async def _change(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Make one change after the other, each to its end: who asked for it may leave in the middle, and
        memory must still say what the store says."""

        async def alone() -> _T:
            async with self._one_change:
                return await work

        task = asyncio.create_task(alone())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _all(self, prefix: str) -> Any:
        last = ""
        while page := await self._store.range(prefix, after=last):
            for entry in page:
                yield entry
            last = page[-1].key
            if len(page) < MAX_RANGE:
                return


def _exists(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"there is a caller named {name} already; update it, or take another name", name=name
    )


def _mounted(what: str) -> FailedPrecondition:
    return FailedPrecondition(f"{what} comes from UPSCALED_API_KEYS_FILE: change it there")
