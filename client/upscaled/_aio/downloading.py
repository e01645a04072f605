"""A download that goes on where it broke, and is handed over only when it is proven."""

from __future__ import annotations

import asyncio
import hashlib
import io
from dataclasses import dataclass
from typing import Any, Final, Protocol

from upscaled._aio.calls import Calls
from upscaled._aio.resuming import PATIENCE_SECONDS
from upscaled._errors import BrokenStreamError, UnavailableError, UpscaledError
from upscaled._files import PartialFile
from upscaled._retry import Deadline, Retries
from upscaled._types import NotGiven
from upscaled.v1 import blobs_pb2

# Once: bytes that are wrong on the server's disk stay wrong.
_FRESH_STARTS: Final = 1
_SHA256_HEX_LENGTH: Final = 64


class Target(Protocol):
    """Takes the bytes of one file in order."""

    async def write(self, data: bytes) -> None: ...

    async def restart(self) -> None: ...


class MemoryTarget:
    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    async def write(self, data: bytes) -> None:
        self._buffer.write(data)

    async def restart(self) -> None:
        self._buffer = io.BytesIO()

    @property
    def data(self) -> bytes:
        return self._buffer.getvalue()


class PartTarget:
    """Writes in threads."""

    def __init__(self, part: PartialFile) -> None:
        self._part = part

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._part.write, data)

    async def restart(self) -> None:
        await asyncio.to_thread(self._part.restart)


@dataclass(frozen=True, slots=True)
class Announced:
    """What the server says of the whole file before its first byte."""

    size_bytes: int
    sha256: bytes

    @classmethod
    def of(cls, metadata: Any) -> Announced:
        values = {key: value for key, value in metadata or () if isinstance(value, str)}
        size, sha256 = values.get("x-upscaled-size-bytes", ""), values.get("x-upscaled-sha256", "")
        try:
            announced = cls(int(size), bytes.fromhex(sha256))
        except ValueError:
            announced = cls(-1, b"")
        if announced.size_bytes < 0 or len(sha256) != _SHA256_HEX_LENGTH:
            raise BrokenStreamError("the server did not say how long the file is and what its SHA-256 is")
        return announced


class Download:
    """Fetches one output into a target."""

    def __init__(
        self,
        calls: Calls,
        output_id: str,
        target: Target,
        deadline: Deadline,
        retries: Retries | int | NotGiven,
        *,
        expected: Announced | None = None,
    ) -> None:
        self._calls = calls
        self._output_id = output_id
        self._target = target
        self._deadline = deadline
        self._attempts = calls.attempts(retries, deadline, patience_seconds=PATIENCE_SECONDS)
        self._announced = expected
        self._received = 0
        self._digest = hashlib.sha256()

    async def run(self) -> None:
        """Returns when every byte is in the target and proven. Raises UpscaledError."""
        fresh_starts = 0
        while True:
            await self._fetch()
            if self._announced is not None and self._digest.digest() == self._announced.sha256:
                return
            if fresh_starts == _FRESH_STARTS:
                raise BrokenStreamError(
                    f"the bytes of output {self._output_id} do not have the announced SHA-256"
                )
            fresh_starts += 1
            self._received = 0
            self._digest = hashlib.sha256()
            await self._target.restart()

    async def _fetch(self) -> None:
        """Until as many bytes are there as were announced."""
        while True:
            try:
                await self._read_on()
                if not self._whole:
                    raise UnavailableError(f"the stream ended after {self._received} bytes")
            except UpscaledError as error:
                if not self._whole:
                    await self._attempts.pause(error)
            if self._whole:
                return

    @property
    def _whole(self) -> bool:
        return self._announced is not None and self._received == self._announced.size_bytes

    async def _read_on(self) -> None:
        transport = self._calls.transport
        request = blobs_pb2.DownloadOutputRequest(output_id=self._output_id, offset=self._received)
        with transport.errors():
            call: Any = transport.blobs.DownloadOutput(
                request, timeout=self._deadline.left(), metadata=transport.metadata
            )
            try:
                # Of a call that is refused these are empty; its status comes with the first message.
                metadata = await call.initial_metadata()
                async for body in call:
                    self._check(Announced.of(metadata))
                    await self._take(body.data)
            finally:
                call.cancel()

    def _check(self, announced: Announced) -> None:
        if self._announced is None:
            self._announced = announced
        elif self._announced != announced:
            raise BrokenStreamError(f"output {self._output_id} is another file than it was")

    async def _take(self, data: bytes) -> None:
        self._received += len(data)
        if self._announced is not None and self._received > self._announced.size_bytes:
            raise BrokenStreamError(
                f"output {self._output_id} is longer than the announced {self._announced.size_bytes} bytes",
                metadata={"limit": self._announced.size_bytes, "actual": self._received},
            )
        self._digest.update(data)
        await self._target.write(data)
        self._attempts.progressed()
