"""Files that grow piece by piece over several calls, and over the end of a process."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from upscaled_server.errors import DataLoss
from upscaled_server.storage import disk
from upscaled_server.storage.failures import translated

if TYPE_CHECKING:
    from upscaled_server.storage.blobs import BlobStore

FOLDER = "partial"


@dataclass(frozen=True, slots=True)
class Fence:
    """Who writes a file that several servers may write, one after the other: the `writer` of that number goes
    on behind the first `base` bytes, which are of those before it.

    What a writer before it, which may not know yet that its turn is over, puts there later counts for
    nothing. Numbers only grow, and no two writers of a file have the same.
    """

    writer: int = 0
    base: int = 0


FIRST = Fence()


class Moved(NamedTuple):
    """What became a file; `sha256` is 32 bytes."""

    size: int
    sha256: bytes


class Partial(Protocol):
    """A file that is being written. One caller of it at a time."""

    async def size(self) -> int:
        """Bytes that are there for good; 0 for a file that was not begun."""

    async def append(self, data: bytes) -> None:
        """Add bytes; they survive whatever happens after the return. Raises `StorageFull`."""

    def read(self) -> AsyncIterator[bytes]:
        """All bytes, in pieces of at most 1 MiB."""

    async def move_to(self, path: str, *, expected: bytes = b"") -> Moved:
        """Make the bytes the file at `path`, at once and whole. They may still be here too: `discard` them.

        Raises `DataLoss`, and changes nothing, if `expected` is given and is not their SHA-256. After a crash
        in the middle, that file is there, or everything is here.
        """

    async def discard(self) -> None:
        """Forget the bytes; that there are none is fine. Those of a later writer stay."""

    async def discard_all(self) -> None:
        """Forget the bytes of all writers."""


class LocalPartial:
    """One file, appended to in its place."""

    def __init__(self, blobs: BlobStore, root: Path, name: str) -> None:
        self._blobs = blobs
        self._root = root
        self._name = f"{FOLDER}/{name}"
        self._path = root / FOLDER / name

    async def size(self) -> int:
        return await asyncio.to_thread(_size, self._path)

    async def append(self, data: bytes) -> None:
        await self._blobs.ready()
        with self._blobs.taking(len(data)):
            await asyncio.to_thread(self._append, data)

    def read(self) -> AsyncIterator[bytes]:
        return self._blobs.read(self._name)

    async def move_to(self, path: str, *, expected: bytes = b"") -> Moved:
        sha256, size = hashlib.sha256(), 0
        async for piece in self.read():
            await asyncio.to_thread(sha256.update, piece)
            size += len(piece)
        found = _checked(sha256.digest(), expected)
        with translated(path):
            await asyncio.to_thread(self._move, self._root / path)
        return Moved(size, found)

    async def discard(self) -> None:
        await self._blobs.delete(self._name)

    async def discard_all(self) -> None:
        await self.discard()

    def _append(self, data: bytes) -> None:
        with translated(self._name):
            is_new = not self._path.exists()
            disk.make_folder(self._path.parent)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(descriptor).st_size
                try:
                    _write_all(descriptor, data)
                    os.fsync(descriptor)
                except OSError:
                    # A piece that did not fit is as if it had never come.
                    os.ftruncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)
            if is_new:
                disk.sync(self._path.parent)

    def _move(self, path: Path) -> None:
        disk.make_folder(path.parent)
        self._path.rename(path)
        disk.sync(path.parent)
        disk.sync(self._path.parent)


class _Part(NamedTuple):
    """An object of a partial file: `length` bytes from `position` on."""

    position: int
    writer: int
    length: int
    path: str


class ObjectPartial:
    """Numbered objects, put together at the end: object stores do not append.

    An object is named by the position of its first byte, its length and its writer, so a list and the fence
    tell what is there: objects that follow on each other, where two begin at one position that of the later
    writer, and from `base` on only those of the fence's own.
    """

    def __init__(self, blobs: BlobStore, name: str, fence: Fence) -> None:
        self._blobs = blobs
        self._folder = f"{FOLDER}/{name}"
        self._fence = fence
        self._end: int | None = None

    async def size(self) -> int:
        return sum(part.length for part in await self._parts())

    async def append(self, data: bytes) -> None:
        # Nobody else has this writer's number, so nobody else moves the end.
        position = await self.size() if self._end is None else self._end
        path = f"{self._folder}/{position:020}-{len(data)}-{self._fence.writer}"
        await self._blobs.put(path, data, is_new=True)
        self._end = position + len(data)

    async def read(self) -> AsyncIterator[bytes]:
        for part in await self._parts():
            async for piece in self._blobs.read(part.path):
                yield piece

    async def move_to(self, path: str, *, expected: bytes = b"") -> Moved:
        sha256 = hashlib.sha256()
        async with self._blobs.writer(path) as writer:
            async for piece in self.read():
                await asyncio.to_thread(sha256.update, piece)
                await writer.write(piece)
            found = _checked(sha256.digest(), expected)
        return Moved(writer.size, found)

    async def discard(self) -> None:
        self._end = None
        # The last first: what is left after a crash is then still the beginning of the file.
        for part in reversed(await self._all()):
            if part.writer <= self._fence.writer:
                await self._blobs.delete(part.path)

    async def discard_all(self) -> None:
        self._end = None
        await self._blobs.delete_all(self._folder)

    async def _parts(self) -> list[_Part]:
        """Those that follow on each other from the first byte."""
        by_position: dict[int, _Part] = {}
        for part in await self._all():
            if part.writer == self._fence.writer or part.position < self._fence.base:
                by_position[part.position] = part  # sorted: the latest writer comes last
        found: list[_Part] = []
        end = 0
        while end in by_position:
            found.append(by_position[end])
            end += found[-1].length
        return found

    async def _all(self) -> list[_Part]:
        return sorted([_part(path) async for path in self._blobs.list(self._folder)])


def _part(path: str) -> _Part:
    position, length, writer = map(int, path.rpartition("/")[2].split("-"))
    return _Part(position, writer, length, path)


def _checked(found: bytes, expected: bytes) -> bytes:
    if expected and found != expected:
        raise DataLoss(
            "the SHA-256 of what was written is not the one announced; write again from 0",
            limit=expected.hex(),
            actual=found.hex(),
        )
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
