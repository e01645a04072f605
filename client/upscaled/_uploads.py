"""An encoded image on this side, read in bounded pieces, from any byte on, as often as needed."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Protocol, cast

from upscaled._errors import LimitExceededError, SourceError
from upscaled._pictures import encode_picture

CHUNK_BYTES: Final = 1024 * 1024
_SPOOL_MEMORY_BYTES: Final = 4 * 1024 * 1024


class Upload(Protocol):
    """An encoded image that can be read any number of times."""

    size: int

    def chunks(self, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Its bytes from `start` on, in order, at most 1 MiB each."""

    async def close(self) -> None: ...


class BytesUpload:
    """An image in memory. Nothing is copied but the chunk that is being sent."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._view = memoryview(data).cast("B")
        except TypeError as error:
            raise SourceError(f"source: contiguous bytes are expected: {error}") from error
        self.size = self._view.nbytes

    async def chunks(self, start: int = 0) -> AsyncGenerator[bytes, None]:
        for at in range(start, self.size, CHUNK_BYTES):
            yield bytes(self._view[at : at + CHUNK_BYTES])

    async def close(self) -> None:
        return


class FileUpload:
    """An open seekable binary file, from `start` to its end. Read in threads, one chunk at a time."""

    def __init__(self, file: IO[bytes], *, start: int, size: int, name: str, owned: bool) -> None:
        self._file = file
        self._start = start
        self.size = size
        self._name = name
        self._owned = owned

    async def chunks(self, start: int = 0) -> AsyncGenerator[bytes, None]:
        await self._blocking(self._file.seek, self._start + start)
        while chunk := await self._blocking(self._file.read, CHUNK_BYTES):
            yield chunk

    async def close(self) -> None:
        if self._owned:
            await asyncio.to_thread(self._file.close)

    async def _blocking(self, function: Callable[..., Any], argument: int) -> Any:
        try:
            return await asyncio.to_thread(function, argument)
        except (OSError, ValueError) as error:
            raise SourceError(f"source: reading {self._name} failed: {error}") from error


async def open_upload(source: object, *, max_bytes: Callable[[], Awaitable[int]]) -> Upload:
    """Opens a path, bytes, a binary file object, or a picture of Pillow or NumPy.

    A path is opened once and stays open over all attempts. A file object is read from where it stands; it is
    rewound to there for another attempt and stays the caller's to close. What cannot be rewound (a pipe, a
    socket, standard input) is read once into a spool, in memory up to 4 MiB and in a temporary file beyond,
    up to `max_bytes()`. A picture becomes a PNG in memory.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesUpload(source)
    if isinstance(source, str | os.PathLike):
        opened = await asyncio.to_thread(_open_path, Path(source))
    elif hasattr(source, "read"):
        opened = await asyncio.to_thread(_open_file, cast("BinaryIO", source))
    elif (png := await asyncio.to_thread(encode_picture, source)) is not None:
        return BytesUpload(png)
    else:
        raise SourceError(
            f"source: a path, bytes, a binary file object, a picture of Pillow or NumPy, a URL or an earlier "
            f"result is expected; got {type(source).__name__}"
        )
    if isinstance(opened, _Pipe):
        return await asyncio.to_thread(opened.spool, await max_bytes())
    return opened


async def digest(upload: Upload) -> bytes:
    """SHA-256 of an upload, 32 bytes; reads it once."""
    found = hashlib.sha256()
    async for chunk in upload.chunks():
        found.update(chunk)
    return found.digest()


def _open_path(path: Path) -> FileUpload | _Pipe:
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"source: cannot open {os.fspath(path)!r}: {error.strerror or error}") from error
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode):
        return FileUpload(file, start=0, size=status.st_size, name=os.fspath(path), owned=True)
    return _Pipe(file, name=os.fspath(path), owned=True)


def _open_file(file: BinaryIO) -> FileUpload | _Pipe:
    name = str(getattr(file, "name", "the file object"))
    if isinstance(file, io.TextIOBase):
        raise SourceError(f"source: {name} is open as text; open it with mode 'rb'")
    try:
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
    except (AttributeError, OSError, ValueError):
        return _Pipe(file, name=name, owned=False)
    return FileUpload(file, start=start, size=size, name=name, owned=False)


class _Pipe:
    """A file that can be read only once."""

    def __init__(self, file: IO[bytes], *, name: str, owned: bool) -> None:
        self._file = file
        self._name = name
        self._owned = owned

    def spool(self, max_bytes: int) -> Upload:
        spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY_BYTES)  # noqa: SIM115 - closed with the upload
        try:
            size = self._copy(spool, max_bytes)
        except BaseException:  # a cancellation too
            spool.close()
            raise
        finally:
            if self._owned:
                self._file.close()
        return FileUpload(spool, start=0, size=size, name=self._name, owned=True)

    def _copy(self, spool: IO[bytes], max_bytes: int) -> int:
        size = 0
        try:
            while chunk := self._file.read(CHUNK_BYTES):
                size += len(chunk)
                if size > max_bytes:
                    raise LimitExceededError(
                        f"source: {self._name} is larger than the {max_bytes} bytes this server takes",
                        reason="LIMIT_EXCEEDED",
                        metadata={"field": "source", "limit": max_bytes, "actual": size, "unit": "bytes"},
                    )
                spool.write(chunk)
        except (OSError, TypeError, ValueError) as error:
            raise SourceError(f"source: reading {self._name} failed: {error}") from error
        return size
