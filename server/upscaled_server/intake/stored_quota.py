"""How much each caller stores, and whether it may store more."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field

from upscaled_server.errors import QuotaExceeded
from upscaled_server.intake.owner import Owner
from upscaled_server.state.store import MAX_RANGE, Entry, KeyExists, Store, VersionChanged


@dataclass(slots=True)
class _Usage:
    bytes: int = 0
    files: int = 0
    loaded: bool = False
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Quotas:
    """Keeps `stored/CALLER/KIND-ID` with the size of each file, and the sums of each caller in memory.

    An entry goes with the file's record. `KIND` is `in` or `out`.
    """

    def __init__(self, store: Store, max_files: int) -> None:
        self._store = store
        self._max_files = max_files
        self._usages: dict[str, _Usage] = {}

    async def stored_bytes(self, caller: str) -> int:
        return (await self._usage(caller)).bytes

    async def check(self, owner: Owner, size: int) -> None:
        """Raises `QuotaExceeded` if `size` more bytes would be too many."""
        usage = await self._usage(owner.name)
        limit = owner.max_stored_bytes
        if limit and usage.bytes + size > limit:
            raise QuotaExceeded(
                f"caller:{owner.name}",
                f"caller {owner.name} may store {limit} bytes, and this would make {usage.bytes + size}; "
                "delete what is not needed, or wait until it expires",
                field="max_stored_bytes",
                limit=limit,
                actual=usage.bytes + size,
                unit="bytes",
            )

    async def begin(self, owner: Owner, kind: str, file_id: str) -> None:
        """Count a file that has no bytes yet. One that is counted already stays as it is.

        Raises `QuotaExceeded` for one file too many.
        """
        usage = await self._usage(owner.name)
        if usage.files >= self._max_files:
            raise QuotaExceeded(
                f"caller:{owner.name}",
                f"caller {owner.name} stores {usage.files} files; delete what is not needed, or wait until "
                "it expires",
                limit=self._max_files,
                actual=usage.files + 1,
                unit="files",
            )
        usage.files += 1
        try:
            await self._store.create(_key(owner.name, kind, file_id), _value(0))
        except KeyExists:
            usage.files -= 1
        except BaseException:  # a cancellation too
            usage.files -= 1
            raise

    async def grow(self, owner: Owner, size: int) -> None:
        """Count bytes that are being written; `settle` writes them down.

        Raises `QuotaExceeded`.
        """
        await self.check(owner, size)
        (await self._usage(owner.name)).bytes += size

    async def shrink(self, caller: str, size: int) -> None:
        """Take back what `grow` counted."""
        usage = await self._usage(caller)
        usage.bytes = max(0, usage.bytes - size)

    async def settle(self, caller: str, kind: str, file_id: str, size: int, *, grown: int = 0) -> None:
        """Write down that the file has `size` bytes, of which `grow` counted `grown` since the last time."""
        usage = await self._usage(caller)
        # In one go after the waits: in between, what is being written stays counted.
        change = -grown
        try:
            found = await self._store.get(_key(caller, kind, file_id))
            # An entry that is gone was given up with its file.
            if found is not None:
                before = _size(found)
                if before != size:
                    with suppress(VersionChanged):
                        await self._store.update(found.key, _value(size), found.version)
                change += size - before
        finally:
            usage.bytes = max(0, usage.bytes + change)

    async def end(self, caller: str, kind: str, file_id: str) -> None:
        """The file is gone; that it was never counted is fine."""
        usage = await self._usage(caller)
        found = await self._store.get(_key(caller, kind, file_id))
        if found is None:
            return
        with suppress(VersionChanged):
            await self._store.delete(found.key, found.version)
            usage.bytes = max(0, usage.bytes - _size(found))
            usage.files = max(0, usage.files - 1)

    async def files(self, caller: str) -> list[tuple[str, str]]:
        """Kind and id of a thousand files of a caller at most; ask again when they are gone."""
        found = await self._store.range(f"stored/{caller}")
        return [_kind_and_id(entry.key) for entry in found]

    async def _usage(self, caller: str) -> _Usage:
        usage = self._usages.setdefault(caller, _Usage())
        if not usage.loaded:
            async with usage.loading:
                if not usage.loaded:
                    await self._load(caller, usage)
        return usage

    async def _load(self, caller: str, usage: _Usage) -> None:
        after, size, files = "", 0, 0
        while page := await self._store.range(f"stored/{caller}", after=after, limit=MAX_RANGE):
            size += sum(map(_size, page))
            files += len(page)
            after = page[-1].key
        usage.bytes, usage.files, usage.loaded = size, files, True


def _key(caller: str, kind: str, file_id: str) -> str:
    return f"stored/{caller}/{kind}-{file_id}"


def _kind_and_id(key: str) -> tuple[str, str]:
    kind, _, file_id = key.rpartition("/")[2].partition("-")
    return kind, file_id


def _value(size: int) -> bytes:
    return json.dumps({"size": size}).encode()


def _size(entry: Entry) -> int:
    return int(json.loads(entry.value)["size"])
