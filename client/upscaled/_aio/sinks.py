"""Where the chunks of a file go: into memory, or into a file that appears when it is whole."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from upscaled._files import PartialFile
from upscaled._results import Result
from upscaled.v1 import result_pb2


class Sink(Protocol):
    """Takes the bytes of one file in order. Used as a context manager; leaving it unfinished leaves nothing
    behind.
    """

    async def write(self, data: bytes) -> None: ...

    async def restart(self) -> None:
        """Forgets what came so far: another attempt begins."""

    async def finish(self, message: result_pb2.UpscaleResult) -> Result:
        """The result, once every byte is there and proven."""

    def __enter__(self) -> Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class MemorySink:
    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def __enter__(self) -> MemorySink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    async def write(self, data: bytes) -> None:
        self._buffer.write(data)

    async def restart(self) -> None:
        self._buffer = io.BytesIO()

    async def finish(self, message: result_pb2.UpscaleResult) -> Result:
        # getvalue() hands out the buffer itself, so the file is not held twice.
        return Result.from_message(message, data=self._buffer.getvalue() or None)


class FileSink:
    """Opens its file when it is made, so that a folder that cannot be written to fails before any work."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        target = Path(path)
        if target.is_dir():
            raise IsADirectoryError(f"output: {os.fspath(target)!r} is a folder; name the file")
        self._part = PartialFile(target)

    def __enter__(self) -> FileSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.discard()

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._part.write, data)

    async def restart(self) -> None:
        await asyncio.to_thread(self._part.restart)

    async def finish(self, message: result_pb2.UpscaleResult) -> Result:
        return Result.from_message(message, path=await asyncio.to_thread(self._part.publish))
