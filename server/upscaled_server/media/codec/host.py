"""The server's side of decoding: one small process tree, one child per image."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from upscaled_server.errors import Unavailable
from upscaled_server.media.codec import wire
from upscaled_server.media.codec.admission import MemoryBudget
from upscaled_server.media.codec.limits import CodecSettings, DecodeLimits
from upscaled_server.media.codec.link import ZygoteLink
from upscaled_server.media.codec.resident import resident_bytes_of
from upscaled_server.media.codec.session import Session
from upscaled_server.media.info import ImageInfo

_PIECE_BYTES = 4 << 20
"""Of rows that a converter is given at a time."""
_CONVERTER_BYTES = 512 << 20
_CONVERTER_SECONDS = 30
_CONVERTER_SECONDS_PER_PIXEL = 3e-6  # 16 bits take up to 0.5 microseconds


class DecodedImage:
    """An image whose pixels are in its child's memory, or will be, to be read once, in order."""

    def __init__(self, info: ImageInfo, session: Session, decoding: asyncio.Task[None]) -> None:
        self.info = info
        self.rows_read = 0
        self._session = session
        self._decoding = decoding

    async def ready(self) -> None:
        """Returns when all pixels are there to be read. Raises what `CodecHost.decode` raises."""
        async with self._session.explaining():
            await self._decoding

    async def read(self, max_rows: int) -> NDArray[np.generic] | None:
        """The next rows: (n, width, channels + has_alpha), uint8 or uint16, 1 <= n <= max_rows; None at the
        end. After `ready`.

        The array is the caller's to keep and to change. Raises what `CodecHost.decode` raises.
        """
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        count = min(max_rows, self.info.height - self.rows_read)
        if not count:
            return None
        async with self._session.explaining():
            rows = await self._session.channel.rows(count, self.info)
            self.rows_read += count
            if self.rows_read == self.info.height:
                await self._session.channel.end()
        return rows


class Converter:
    """Brings rows of sRGB into the space of a profile, in a child of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def convert(self, rows: NDArray[np.generic]) -> NDArray[np.generic]:
        """New rows of the same shape; alpha is carried over. One call at a time. Raises as `decode` does."""
        step = max(1, _PIECE_BYTES // max(1, rows[:1].nbytes))
        async with self._session.explaining():
            parts = [
                await self._session.channel.converted(rows[top : top + step])
                for top in range(0, len(rows), step)
            ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class CodecHost:
    """Decodes untrusted images in processes apart. For one event loop.

    `start` before use, `aclose` at the end; it can be started again. If the codec process dies, the
    decodes that run in it fail with Unavailable, and the next one starts a new process.
    """

    def __init__(self, settings: CodecSettings | None = None) -> None:
        self._settings = settings or CodecSettings()
        self._link: ZygoteLink | None = None
        self._linking = asyncio.Lock()
        self._closed = True
        self._turns = asyncio.Semaphore(self._settings.parallel_decodes)
        self._open = asyncio.Semaphore(self._settings.open_images)
        self._memory = MemoryBudget(self._settings.decoded_bytes, free_below=self._settings.small_bytes)
        self._sessions: set[Session] = set()
        self._cpu_seconds_before = 0.0

    async def start(self) -> None:
        """Starts the codec process. Raises ProcessingFailed if it does not come up."""
        self._closed = False
        await self._living()

    async def aclose(self) -> None:
        """Ends the codec process and its children; decodes still open fail with Unavailable."""
        self._closed = True
        async with self._linking:
            await self._let_go()

    @property
    def pid(self) -> int | None:
        """Of the codec process, for supervision and tests; None while there is none."""
        return self._link.pid if self._link is not None and self._link.alive else None

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all codec processes since the first start, without children that run."""
        return self._cpu_seconds_before + (0.0 if self._link is None else self._link.cpu_seconds)

    @property
    def resident_bytes(self) -> int:
        """Of the codec process and its children; pages that they share count for each of them."""
        pid = self.pid
        return 0 if pid is None else resident_bytes_of(pid)

    @property
    def open_count(self) -> int:
        """Images being decoded or read."""
        return len(self._sessions)

    @contextlib.asynccontextmanager
    async def decode(
        self,
        data: bytes | bytearray | memoryview,
        limits: DecodeLimits,
        *,
        owner: str = "",
        batch: bool = False,
    ) -> AsyncIterator[DecodedImage]:
        """Decodes the first frame of `data`; on entry its header is known, and its pixels are being decoded
        with all that this takes: `DecodedImage.ready` waits for them. Leaving the context ends the
        child. `owner` and `batch` say whose turn it is when all decodes together hold as much as they may.

        Once entered, `data` is not needed any more. Waits for its turn (see `CodecSettings`) without a limit
        of its own: the caller bounds it by its deadline.

        Raises NotAnImage, DamagedImage, UnsupportedImage, or LimitExceeded (field "image") for what is
        the image's doing; Unavailable if the child was killed from outside or the codec process went
        away; ProcessingFailed if the child broke the protocol. Cancelling kills the child.
        """
        async with self._session(data, limits) as session:
            async with session.explaining():
                header = await session.header()
                # While it waits for memory a large image must not keep small ones from a processor.
                session.end_turn()
                session.hold(await self._memory.take(header.working_bytes, owner=owner, batch=batch))
                await session.take_turn()
                await session.channel.go()
            # Whatever else the caller waits for before it asks, the turn ends with the work.
            decoding = asyncio.create_task(session.decoded(header.holding_bytes))
            try:
                yield DecodedImage(header.info, session, decoding)
            finally:
                decoding.cancel()
                await asyncio.wait([decoding])
                if not decoding.cancelled():
                    decoding.exception()  # raised by `ready`, if anybody still wanted to know

    async def probe(self, data: bytes | bytearray | memoryview, limits: DecodeLimits) -> ImageInfo:
        """Reads the header only. Raises as `decode` does; damage in the pixels goes unnoticed."""
        async with self._session(data, limits) as session, session.explaining():
            return (await session.header()).info

    @contextlib.asynccontextmanager
    async def converter(
        self, profile: bytes, *, width: int, height: int, channels: int, has_alpha: bool, bits: int
    ) -> AsyncIterator[Converter]:
        """A way from sRGB rows of this shape to the space of `profile`, which came with an image.

        Does not wait for a turn: its work is bounded by the rows that its caller has. Raises DamagedImage for
        a profile that cannot be used, else as `decode` does.
        """
        limits = DecodeLimits(
            memory_bytes=_CONVERTER_BYTES,
            cpu_seconds=_CONVERTER_SECONDS + int(width * height * _CONVERTER_SECONDS_PER_PIXEL),
        )
        session = Session(limits, self._turns)
        self._sessions.add(session)
        try:
            await session.spawn(
                await self._living(), profile, wire.Conversion(width, channels, has_alpha, bits)
            )
            async with session.explaining():
                await session.channel.decoded()
            yield Converter(session)
        finally:
            self._sessions.discard(session)
            await session.aclose()

    @contextlib.asynccontextmanager
    async def _session(
        self, data: bytes | bytearray | memoryview, limits: DecodeLimits
    ) -> AsyncIterator[Session]:
        async with self._open:
            session = Session(limits, self._turns)
            self._sessions.add(session)
            try:
                await session.take_turn()
                await session.spawn(await self._living(), data)
                yield session
            finally:
                self._sessions.discard(session)
                await session.aclose()

    async def _living(self) -> ZygoteLink:
        async with self._linking:
            if self._closed:
                raise Unavailable("the codec process is stopped")
            if self._link is not None and not self._link.alive:
                await self._let_go()
            if self._link is None:
                self._link = await ZygoteLink.start(self._settings.start_seconds)
            return self._link

    async def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._cpu_seconds_before += link.cpu_seconds
            await link.aclose()
