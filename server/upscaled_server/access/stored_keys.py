"""The keys in the store, all of them in memory too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from upscaled_server.access import keys, records
from upscaled_server.access.keys import Key
from upscaled_server.access.records import KeyRecord
from upscaled_server.errors import FailedPrecondition, LimitExceeded, NotFound
from upscaled_server.state.store import Store

MAX_WORKING_KEYS = 100
"""Of one caller."""
_MAX_ENDED_KEYS = 100
"""Of one caller; the oldest are forgotten first."""

_USE_PRECISION_SECONDS = 60.0


class StoredKeys:
    """Changes go to the store first, and are made one at a time (`Changes`).

    `on_end` is told the id of every key that is revoked or forgotten.
    """

    def __init__(self, store: Store, clock: Callable[[], float], on_end: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_end = on_end
        self._by_id: dict[str, KeyRecord] = {}
        self._ids: dict[bytes, str] = {}
        self._uses: dict[str, float] = {}

    async def load(self) -> None:
        """Read everything. Raises `ProcessingFailed` for entries that are damaged."""
        async for entry in records.read_all(self._store, records.KEYS):
            self._remember(records.read_key(entry))

    def __len__(self) -> int:
        """Ended ones count."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Key]:
        return (record.key for record in self._by_id.values())

    def find(self, digest: bytes) -> Key | None:
        """The key whose digest this is."""
        key_id = self._ids.get(digest)
        return None if key_id is None else self._by_id[key_id].key

    def get(self, key_id: str) -> Key:
        """Raises `NotFound`, which does not repeat what may be a whole key."""
        if (record := self._by_id.get(key_id)) is None:
            raise NotFound(
                "key",
                key_id if keys.is_id(key_id) else "(not an id)",
                hint="an id is the first 16 characters of a key; `upscaled keys list` shows them",
            )
        return record.key

    def note_use(self, key: Key) -> None:
        """A call was made with the key, mounted or stored; written down by `flush_uses`."""
        now = self._clock()
        if now - (self._uses.get(key.id) or key.last_used or 0.0) >= _USE_PRECISION_SECONDS:
            self._uses[key.id] = now - now % _USE_PRECISION_SECONDS

    def with_use(self, key: Key) -> Key:
        """The key with its last use, to the minute."""
        used = self._uses.get(key.id)
        return key if used is None else replace(key, last_used=used)

    async def flush_uses(self) -> None:
        for key_id, used in list(self._uses.items()):
            if key_id in self._by_id:
                await self._write(replace(self._by_id[key_id].key, last_used=used))
                del self._uses[key_id]

    async def create(
        self, caller: str, description: str, admin: bool, lifetime: float | None
    ) -> tuple[Key, str]:
        """The key, and the whole of it. Raises `LimitExceeded`."""
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
        self._remember(KeyRecord(key, version))
        return key, whole

    async def rotate(self, old: Key, overlap: float) -> tuple[Key, str]:
        """A new key like the old one, which works for `overlap` seconds more. Raises `FailedPrecondition`,
        `LimitExceeded`."""
        now = self._clock()
        if not old.works_at(now):
            raise FailedPrecondition(
                f"key {old.id} works no more and cannot be rotated; create a new one for {old.caller}",
                key=old.id,
            )
        created = await self.create(old.caller, old.description, old.admin, old.lifetime)
        ends = now + overlap if old.expires is None else min(old.expires, now + overlap)
        await self._write(replace(old, expires=ends))
        return created

    async def revoke(self, key: Key) -> Key:
        """The key as it is then."""
        if key.revoked is None:
            key = key.ended_at(self._clock())
            await self._write(key)
            self._on_end(key.id)
        return self.with_use(key)

    async def delete_of(self, caller: str) -> None:
        """Every key of a caller."""
        for record in self._of(caller):
            await self._forget(record)

    async def _make_room(self, caller: str, now: float) -> None:
        of_caller = self._of(caller)
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
        surplus = max(0, len(ended) - _MAX_ENDED_KEYS)
        for each in sorted(ended, key=lambda record: record.key.created)[:surplus]:
            await self._forget(each)

    def _of(self, caller: str) -> list[KeyRecord]:
        return [record for record in self._by_id.values() if record.key.caller == caller]

    async def _write(self, key: Key) -> None:
        record = self._by_id[key.id]
        version = await self._store.update(records.key_key(key), records.key_value(key), record.version)
        self._remember(KeyRecord(key, version))

    def _remember(self, record: KeyRecord) -> None:
        self._by_id[record.key.id] = record
        self._ids[record.key.digest] = record.key.id

    async def _forget(self, record: KeyRecord) -> None:
        await self._store.delete(records.key_key(record.key), record.version)
        del self._by_id[record.key.id]
        del self._ids[record.key.digest]
        self._uses.pop(record.key.id, None)
        self._on_end(record.key.id)
