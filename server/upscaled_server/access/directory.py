"""Every caller and key: those in the store, and those of the file that the operator mounts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from upscaled_server.access.caller import Caller
from upscaled_server.access.changes import Changes
from upscaled_server.access.keys import Key
from upscaled_server.access.mounted import Mounted
from upscaled_server.access.records import CallerRecord
from upscaled_server.access.stored_callers import StoredCallers, exists
from upscaled_server.access.stored_keys import StoredKeys
from upscaled_server.errors import FailedPrecondition, NotFound
from upscaled_server.state.store import Store

DEFAULT_OVERLAP_SECONDS = 24 * 3600.0


class Directory:
    """Reads are from memory and never wait. Changes are written first and then seen by the next call; those
    of other servers that share the store are seen a moment later, by whoever runs `follow`.

    What is mounted from a file goes before what is stored, and cannot be changed here.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.on_end: Callable[[str], None] = lambda _key_id: None
        """Told the id of every key that ends before its time."""
        self._callers = StoredCallers(store, clock)
        self._keys = StoredKeys(store, clock, lambda key_id: self.on_end(key_id))
        self._mounted = Mounted()
        self._mounted_ids: dict[bytes, str] = {}
        self._changes = Changes()

    async def load(self) -> None:
        """Read everything. Raises `ProcessingFailed` for entries that are damaged."""
        await self._callers.load()
        await self._keys.load()

    async def follow(self) -> None:
        """Take over what other servers change, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._callers.follow())
            group.create_task(self._keys.follow())

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
        return self._keys.find(digest)

    def caller(self, name: str) -> CallerRecord:
        """Raises `NotFound`."""
        if (mounted := self._mounted.callers.get(name)) is not None:
            return CallerRecord(mounted, created=0.0, mounted=True)
        if (record := self._callers.find(name)) is None:
            raise NotFound("caller", name, hint="`upscaled callers list` shows them")
        return record

    def callers(self) -> list[CallerRecord]:
        """By name."""
        return [self.caller(name) for name in sorted({*self._callers, *self._mounted.callers})]

    def keys_of(self, caller: str = "") -> list[Key]:
        """Of one caller or all, by caller, then by time of creation."""
        mounted = self._mounted.keys
        every = [*mounted.values(), *(key for key in self._keys if key.id not in mounted)]
        found = [self._keys.with_use(key) for key in every if caller in ("", key.caller)]
        return sorted(found, key=lambda key: (key.caller, key.created, key.id))

    def note_use(self, key: Key) -> None:
        """A call was made with the key; written down by `flush_uses`."""
        self._keys.note_use(key)

    async def create_caller(self, caller: Caller) -> CallerRecord:
        """Raises `InvalidField`, `AlreadyExists`, `LimitExceeded`."""
        caller.check()
        return await self._changes.make(self._create_caller(caller))

    async def update_caller(self, caller: Caller, etag: str = "") -> CallerRecord:
        """Replace the limits of the caller of this name. Raises `InvalidField`, `NotFound`; `Conflict` if
        `etag` is given and not the present one."""
        caller.check()
        return await self._changes.make(self._update_caller(caller, etag))

    async def delete_caller(self, name: str) -> None:
        """With its keys, which end at once. Raises `NotFound`."""
        await self._changes.make(self._delete_caller(name))

    async def create_key(
        self, caller: str, *, description: str = "", admin: bool = False, lifetime: float | None = None
    ) -> tuple[Key, str]:
        """The key, and the whole of it, which is not kept. Raises `NotFound`, `LimitExceeded`."""
        return await self._changes.make(self._create_key(caller, description, admin, lifetime))

    async def rotate_key(self, key_id: str, overlap: float = DEFAULT_OVERLAP_SECONDS) -> tuple[Key, str]:
        """A new key like this one, which works for `overlap` seconds more. What had a lifetime gets it anew.

        Raises `NotFound`, `LimitExceeded`, and `FailedPrecondition` for a key that works no more.
        """
        return await self._changes.make(self._rotate_key(key_id, overlap))

    async def revoke_key(self, key_id: str) -> Key:
        """End a key, and the calls made with it. Revoking twice changes nothing. Raises `NotFound`."""
        return await self._changes.make(self._revoke_key(key_id))

    async def flush_uses(self) -> None:
        """Write down when keys were last used."""
        await self._changes.make(self._keys.flush_uses())

    # Each looks up what it changes when its turn has come.

    async def _create_caller(self, caller: Caller) -> CallerRecord:
        if caller.name in self._mounted.callers:
            raise exists(caller.name)
        return await self._callers.create(caller)

    async def _update_caller(self, caller: Caller, etag: str) -> CallerRecord:
        return await self._callers.replace(self._stored_caller(caller.name), caller, etag)

    async def _delete_caller(self, name: str) -> None:
        record = self._stored_caller(name)
        # Keys first: cut short, it leaves a caller without them, which can be deleted again.
        await self._keys.delete_of(name)
        await self._callers.delete(record)
        # Another server may have made one in between; who makes one later sees that the caller is gone.
        await self._keys.delete_of(name)

    async def _create_key(
        self, caller: str, description: str, admin: bool, lifetime: float | None
    ) -> tuple[Key, str]:
        self._stored_caller(caller)
        return await self._of_caller(await self._keys.create(caller, description, admin, lifetime))

    async def _rotate_key(self, key_id: str, overlap: float) -> tuple[Key, str]:
        old = self._stored_key(key_id)
        self._stored_caller(old.caller)
        return await self._of_caller(await self._keys.rotate(old, overlap))

    async def _of_caller(self, created: tuple[Key, str]) -> tuple[Key, str]:
        """A new key, unless another server has deleted the caller meanwhile. Raises `NotFound`."""
        key = created[0]
        if not await self._callers.is_kept(key.caller):
            await self._keys.delete(key)
            raise NotFound("caller", key.caller)
        return created

    async def _revoke_key(self, key_id: str) -> Key:
        return await self._keys.revoke(self._stored_key(key_id))

    def _stored_caller(self, name: str) -> CallerRecord:
        record = self.caller(name)
        if record.mounted:
            raise _mounted(f"caller {name}")
        return record

    def _stored_key(self, key_id: str) -> Key:
        if key_id in self._mounted.keys:
            raise _mounted(f"key {key_id}")
        return self._keys.get(key_id)


def _mounted(what: str) -> FailedPrecondition:
    return FailedPrecondition(f"{what} comes from UPSCALED_API_KEYS_FILE: change it there")
