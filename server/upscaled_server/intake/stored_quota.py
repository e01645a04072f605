"""How much each caller stores, and whether it may store more.

Where several servers share the store, each knows a moment later what the others have written down. What they
are still writing it does not know: a caller can exceed its limit by as much as it brings to all servers but
one at the same time, and by nothing more once that is written down.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractAsyncContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field

from upscaled_server.errors import QuotaExceeded
from upscaled_server.intake.owner import Owner
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.store import MAX_RANGE, Entry, KeyExists, Store, VersionChanged

_LOG = logging.getLogger(__name__)

_PREFIX = "stored"


@dataclass(slots=True)
class _Usage:
    """Of one caller. `writing` and `beginning`: bytes and files that are counted, but not written down yet.
    `sizes`: version and size by key, where others change them too; about 0.25 kB a file."""

    stored: int = 0
    files: int = 0
    writing: int = 0
    beginning: int = 0
    sizes: dict[str, tuple[int, int]] | None = None
    loaded: bool = False
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def bytes(self) -> int:
        return self.stored + self.writing

    def forget(self, *, shared: bool) -> None:
        """Let what is written down be read again."""
        self.stored = self.files = 0
        self.sizes = {} if shared else None
        self.loaded = False

    def put(self, key: str, version: int, size: int, before: int | None = None) -> None:
        """A file has this size, where it had `before`; None: it is new."""
        if self.sizes is not None:
            known = self.sizes.get(key)
            if known is not None and known[0] >= version:
                return
            before = None if known is None else known[1]
            self.sizes[key] = version, size
        self.stored = max(0, self.stored + size - (before or 0))
        self.files += before is None

    def drop(self, key: str, size: int = 0) -> None:
        """A file of this size is gone."""
        if self.sizes is not None:
            known = self.sizes.pop(key, None)
            if known is None:
                return
            size = known[1]
        self.stored = max(0, self.stored - size)
        self.files = max(0, self.files - 1)


class Quotas:
    """Keeps `stored/CALLER/KIND-ID` with the size of each file, and the sums of each caller in memory.

    An entry goes with the file's record. `KIND` is `in` or `out`.
    """

    def __init__(self, store: Store, max_files: int) -> None:
        self._store = store
        self._max_files = max_files
        self._usages: dict[str, _Usage] = {}
        self._reader: ChangeReader | None = None

    async def follow(self) -> None:
        """Count what other servers write down too, for ever."""
        reader = ChangeReader(self._store, _PREFIX, self._take, self._forget, wanted=self._is_known)
        with closing(reader):
            self._reader = reader
            try:
                await reader.follow()
            finally:
                self._reader = None
                await self._forget()

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
        files = usage.files + usage.beginning
        if files >= self._max_files:
            raise QuotaExceeded(
                f"caller:{owner.name}",
                f"caller {owner.name} stores {files} files; delete what is not needed, or wait until "
                "it expires",
                limit=self._max_files,
                actual=files + 1,
                unit="files",
            )
        usage.beginning += 1
        key = _key(owner.name, kind, file_id)
        try:
            with suppress(KeyExists):
                usage.put(key, await self._store.create(key, _value(0)), 0)
        finally:
            usage.beginning -= 1

    async def grow(self, owner: Owner, size: int) -> None:
        """Count bytes that are being written; `settle` writes them down.

        Raises `QuotaExceeded`.
        """
        await self.check(owner, size)
        (await self._usage(owner.name)).writing += size

    async def shrink(self, caller: str, size: int) -> None:
        """Take back what `grow` counted."""
        usage = await self._usage(caller)
        usage.writing = max(0, usage.writing - size)

    async def settle(self, caller: str, kind: str, file_id: str, size: int, *, grown: int = 0) -> None:
        """Write down that the file has `size` bytes, of which `grow` counted `grown` since the last time."""
        usage = await self._usage(caller)
        try:
            found = await self._store.get(_key(caller, kind, file_id))
            # An entry that is gone was given up with its file.
            if found is not None:
                before, version = _size(found), found.version
                if before != size:
                    with suppress(VersionChanged):
                        version = await self._store.update(found.key, _value(size), found.version)
                usage.put(found.key, version, size, before)
        finally:
            # In one go with what is written down: in between, what is being written stays counted.
            usage.writing = max(0, usage.writing - grown)

    async def end(self, caller: str, kind: str, file_id: str) -> None:
        """The file is gone; that it was never counted is fine."""
        usage = await self._usage(caller)
        found = await self._store.get(_key(caller, kind, file_id))
        if found is None:
            return
        with suppress(VersionChanged):
            await self._store.delete(found.key, found.version)
            usage.drop(found.key, _size(found))

    async def files(self, caller: str) -> list[tuple[str, str]]:
        """Kind and id of a thousand files of a caller at most; ask again when they are gone."""
        found = await self._store.range(f"{_PREFIX}/{caller}")
        return [_kind_and_id(entry.key) for entry in found]

    async def _usage(self, caller: str) -> _Usage:
        usage = self._usages.setdefault(caller, _Usage())
        if not usage.loaded:
            async with usage.loading:
                if not usage.loaded:
                    await self._load(caller, usage)
        return usage

    async def _load(self, caller: str, usage: _Usage) -> None:
        async with self._nothing_taken():
            usage.forget(shared=self._reader is not None)
            after = ""
            while page := await self._store.range(f"{_PREFIX}/{caller}", after=after, limit=MAX_RANGE):
                for entry in page:
                    usage.put(entry.key, entry.version, _size(entry))
                after = page[-1].key
            usage.loaded = True

    def _nothing_taken(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._reader is None else self._reader.paused()

    def _is_known(self, key: str) -> bool:
        return key.split("/")[1] in self._usages

    def _take(self, key: str, entry: Entry | None) -> None:
        usage = self._usages[key.split("/")[1]]
        if entry is None:
            usage.drop(key)
            return
        try:
            usage.put(key, entry.version, _size(entry))
        except (ValueError, TypeError, KeyError):
            _LOG.error("the entry %s cannot be read, and is not counted", key)

    async def _forget(self) -> None:
        for usage in self._usages.values():
            usage.forget(shared=self._reader is not None)


def _key(caller: str, kind: str, file_id: str) -> str:
    return f"{_PREFIX}/{caller}/{kind}-{file_id}"


def _kind_and_id(key: str) -> tuple[str, str]:
    kind, _, file_id = key.rpartition("/")[2].partition("-")
    return kind, file_id


def _value(size: int) -> bytes:
    return json.dumps({"size": size}).encode()


def _size(entry: Entry) -> int:
    return int(json.loads(entry.value)["size"])
