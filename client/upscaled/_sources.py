"""Where the image comes from on this side, read in bounded pieces and again for another attempt."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Protocol

from upscaled._errors import LimitExceededError, SourceError
from upscaled._types import ImageSource
from upscaled.v1 import options_pb2

CHUNK_BYTES: Final = 1024 * 1024
_SPOOL_MEMORY_BYTES: Final = 4 * 1024 * 1024


class Upload(Protocol):
    """An encoded image that can be read from its start any number of times."""

    size: int

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes in order, at most 1 MiB each."""

    async def close(self) -> None: ...


class BytesUpload:
    """An image in memory. Nothing is copied but the chunk that is being sent."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._view = memoryview(data).cast("B")
        except TypeError as error:
            raise SourceError(f"source: contiguous bytes are expected: {error}") from error
        self.size = self._view.nbytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for start in range(0, self.size, CHUNK_BYTES):
            yield bytes(self._view[start : start + CHUNK_BYTES])

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

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        await self._blocking(self._file.seek, self._start)
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


async def open_upload(source: ImageSource, *, max_bytes: Callable[[], Awaitable[int]]) -> Upload:
    """Opens a path, bytes or a binary file object.

    A path is opened once and stays open over all attempts. A file object is read from where it stands; it is
    rewound to there for another attempt and stays the caller's to close. What cannot be rewound (a pipe, a
    socket, standard input) is read once into a spool, in memory up to 4 MiB and in a temporary file beyond,
    up to `max_bytes()`.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesUpload(source)
    if isinstance(source, str | os.PathLike):
        opened = await asyncio.to_thread(_open_path, Path(source))
    elif hasattr(source, "read"):
        opened = await asyncio.to_thread(_open_file, source)
    else:
        raise SourceError(
            f"source: a path, bytes or a binary file object is expected; got {type(source).__name__}. "
            "An image of Pillow or NumPy has to be encoded first, for example as PNG into io.BytesIO"
        )
    if isinstance(opened, _Pipe):
        return await asyncio.to_thread(opened.spool, await max_bytes())
    return opened


def named_source(
    source: object, *, url: str | None, input_id: str | None, output_id: str | None
) -> options_pb2.Source | None:
    """The contract's source for what the server reads itself; `None` when the image comes from here."""
    named = {"url": url, "input_id": input_id, "output_id": output_id}
    given = [name for name, value in named.items() if value is not None]
    count = len(given) + (source is not None)
    if count != 1:
        listed = ", ".join(([] if source is None else ["source"]) + given) or "none"
        raise SourceError(
            f"source: exactly one of an image, url=, input_id= and output_id= is expected; got {listed}"
        )
    if source is not None:
        if isinstance(source, str) and source.startswith(("http://", "https://", "s3://", "gs://")):
            raise SourceError(
                f"source: {source!r} is taken for a path; pass it as url= for the server to fetch it"
            )
        return None
    return options_pb2.Source(**{given[0]: named[given[0]]})  # type: ignore[arg-type]


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
        # Closed with the upload.
        spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY_BYTES)  # noqa: SIM115
        try:
            size = self._copy(spool, max_bytes)
        except BaseException:
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
