"""Files that grow piece by piece over several calls, and over the end of a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError

from upscaled_server.errors import Conflict
from upscaled_server.storage import disk
from upscaled_server.storage.failures import translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from upscaled_server.storage.blobs import BlobStore

FOLDER = "partial"


class Partial(Protocol):
    """A file that is being written. One caller of it at a time."""

    async def size(self) -> int:
        """Bytes that are there for good; 0 for a file that was not begun."""

    async def append(self, data: bytes) -> None:
        """Add bytes; they survive whatever happens after the return. Raises `StorageFull`."""

    def read(self) -> AsyncIterator[bytes]:
        """All bytes, in pieces of at most 1 MiB."""

    async def move_to(self, path: str) -> None:
        """Make the bytes the file at `path`, at once and whole. Nothing is left here.

        After a crash in the middle, that file is there, or everything is here.
        """

    async def discard(self) -> None:
        """Forget the bytes; that there are none is fine."""


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

    async def move_to(self, path: str) -> None:
        with translated(path):
            await asyncio.to_thread(self._move, self._root / path)

    async def discard(self) -> None:
        await self._blobs.delete(self._name)

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


class ObjectPartial:
    """Numbered objects, put together at the end: object stores do not append.

    An object is named by the position of its first byte and by its length, so a list tells what is there. Two
    writers at one position cannot both succeed.
    """

    def __init__(self, blobs: BlobStore, store: ObjectStore, name: str) -> None:
        self._blobs = blobs
        self._store = store
        self._folder = f"{FOLDER}/{name}"

    async def size(self) -> int:
        return sum(length for _, length in await self._parts())

    async def append(self, data: bytes) -> None:
        await self._blobs.ready()
        position = await self.size()
        path = f"{self._folder}/{position:020}-{len(data)}"
        with self._blobs.taking(len(data)), translated(path):
            try:
                await obstore.put_async(self._store, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                raise Conflict("somebody else is writing this file", position=position) from None

    async def read(self) -> AsyncIterator[bytes]:
        for path, _ in await self._parts():
            async for piece in self._blobs.read(path):
                yield piece

    async def move_to(self, path: str) -> None:
        async with self._blobs.writer(path) as writer:
            async for piece in self.read():
                await writer.write(piece)
        await self.discard()

    async def discard(self) -> None:
        # The last first: what is left after a crash is then still the beginning of the file.
        for path in reversed([path async for path in self._blobs.list(self._folder)]):
            await self._blobs.delete(path)

    async def _parts(self) -> list[tuple[str, int]]:
        """Paths and lengths of the objects that follow on each other from the first byte."""
        found = []
        position = 0
        for path in sorted([path async for path in self._blobs.list(self._folder)]):
            begin, length = map(int, path.rpartition("/")[2].split("-"))
            if begin == position:
                found.append((path, length))
                position += length
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
