"""The keys in the store, all of them in memory too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from upscaled_server.access import keys, records
from upscaled_server.access.keys import Key
from upscaled_server.access.records import KeyRecord
from upscaled_server.errors import FailedPrecondition, LimitExceeded, NotFound, ProcessingFailed
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.store import Entry, Store, VersionChanged

_LOG = logging.getLogger(__name__)

MAX_WORKING_KEYS = 100
"""Of one caller."""
_MAX_ENDED_KEYS = 100
"""Of one caller; the oldest are forgotten first."""

_USE_PRECISION_SECONDS = 60.0


class StoredKeys:
    """Changes go to the store first, and are made one at a time (`Changes`).

    `on_end` is told the id of every key that is revoked or forgotten, by whomever.
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
        gone = set(self._by_id)
        async for entry in records.read_all(self._store, records.KEYS):
            record = records.read_key(entry)
            self._remember(record)
            gone.discard(record.key.id)
        for key_id in gone:
            self._remove(key_id)

    async def follow(self) -> None:
        """Take over what others change, for ever."""
        with closing(ChangeReader(self._store, records.KEYS, self._take, self.load)) as reader:
            await reader.follow()

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
        if now - (self._last_used(key) or 0.0) >= _USE_PRECISION_SECONDS:
            self._uses[key.id] = now - now % _USE_PRECISION_SECONDS

    def with_use(self, key: Key) -> Key:
        """The key with its last use, to the minute."""
        return replace(key, last_used=self._last_used(key))

    async def flush_uses(self) -> None:
        """Of several servers that do so, the latest use stays."""
        for key_id, used in list(self._uses.items()):
            if key_id in self._by_id:
                with suppress(NotFound):  # deleted meanwhile
                    await self._change(key_id, partial(_used_at, used=used))
                if self._uses.get(key_id) == used:
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
        await self._change(old.id, lambda key: _expiring_by(key, now + overlap))
        return created

    async def revoke(self, key: Key) -> Key:
        """The key as it is then. Raises `NotFound` if somebody else has deleted it."""
        now = self._clock()
        return self.with_use(
            await self._change(key.id, lambda each: each if each.revoked is not None else each.ended_at(now))
        )

    async def delete_of(self, caller: str) -> None:
        """Every key of a caller, also those that others have made and nobody here has heard of."""
        async for entry in records.read_all(self._store, f"{records.KEYS}/{caller}"):
            self._take(entry.key, entry)
        for record in self._of(caller):
            await self._forget(record.key.id)

    async def delete(self, key: Key) -> None:
        await self._forget(key.id)

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
            await self._forget(each.key.id)

    def _of(self, caller: str) -> list[KeyRecord]:
        return [record for record in self._by_id.values() if record.key.caller == caller]

    async def _change(self, key_id: str, edit: Callable[[Key], Key]) -> Key:
        """The key after the change, which is made to what others have made of it. Raises `NotFound`."""
        while (key := edit(self.get(key_id))) != (record := self._by_id[key_id]).key:
            try:
                version = await self._store.update(
                    records.key_key(key), records.key_value(key), record.version
                )
            except VersionChanged:
                await self._read_again(record)
            else:
                self._remember(KeyRecord(key, version))
                break
        return key

    async def _forget(self, key_id: str) -> None:
        """That it is gone already is fine."""
        while (record := self._by_id.get(key_id)) is not None:
            try:
                await self._store.delete(records.key_key(record.key), record.version)
            except VersionChanged:
                await self._read_again(record)
            else:
                self._remove(key_id)

    async def _read_again(self, record: KeyRecord) -> None:
        """After somebody else has changed it."""
        key = records.key_key(record.key)
        entry = await self._store.get(key)
        if entry is None:
            self._remove(record.key.id)
        else:
            self._remember(records.read_key(entry))

    def _take(self, store_key: str, entry: Entry | None) -> None:
        if entry is None:
            self._remove(records.key_id(store_key))
            return
        try:
            self._remember(records.read_key(entry))
        except ProcessingFailed as error:
            _LOG.error("%s", error.message)

    def _remember(self, record: KeyRecord) -> None:
        """Unless what is known is newer."""
        key = record.key
        known = self._by_id.get(key.id)
        if known is not None and known.version >= record.version:
            return
        self._by_id[key.id] = record
        self._ids[key.digest] = key.id
        if known is not None and known.key.revoked is None and key.revoked is not None:
            self._on_end(key.id)

    def _remove(self, key_id: str) -> None:
        record = self._by_id.pop(key_id, None)
        if record is not None:
            del self._ids[record.key.digest]
            self._uses.pop(key_id, None)
            self._on_end(key_id)

    def _last_used(self, key: Key) -> float | None:
        """Here or, as far as it was written down, anywhere."""
        return max(self._uses.get(key.id, 0.0), key.last_used or 0.0) or None


def _used_at(key: Key, used: float) -> Key:
    return key if (key.last_used or 0.0) >= used else replace(key, last_used=used)


def _expiring_by(key: Key, moment: float) -> Key:
    return replace(key, expires=moment if key.expires is None else min(key.expires, moment))
