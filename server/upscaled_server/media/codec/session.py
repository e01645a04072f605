"""One decode, from its child's birth to its end, and why it ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal, TypeAlias

from upscaled_server.errors import (
    DamagedImage,
    DomainError,
    LimitExceeded,
    ProcessingFailed,
    Unavailable,
)
from upscaled_server.media.codec import wire
from upscaled_server.media.codec.admission import Share
from upscaled_server.media.codec.channel import ChildEndedError, RowChannel, TooSlowError
from upscaled_server.media.codec.limits import DecodeLimits
from upscaled_server.media.codec.link import LOST, ZygoteLink
from upscaled_server.telemetry import metrics

FailureReason: TypeAlias = Literal["crash", "exit", "killed", "cpu_time", "wall_time", "protocol", "lost"]
"""See `metrics.CODEC_FAILURES`."""

_WRITE_BYTES = 4 << 20
_END_SECONDS = 5.0
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}


class Session:
    """Owns one child, its row socket, its turn at a processor and its share of memory; gives all back."""

    def __init__(self, limits: DecodeLimits, turns: asyncio.Semaphore) -> None:
        self._limits = limits
        self._turns = turns
        self._has_turn = False
        self._share: Share | None = None
        self._link: ZygoteLink | None = None
        self._child = 0
        self._ended: asyncio.Future[int | None] | None = None
        self._channel: RowChannel | None = None

    @property
    def channel(self) -> RowChannel:
        if self._channel is None:
            raise Unavailable("the image has been closed")
        return self._channel

    async def take_turn(self) -> None:
        await self._turns.acquire()
        self._has_turn = True

    def end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.release()

    def hold(self, share: Share) -> None:
        """Keeps `share` until the child has ended."""
        self._share = share

    async def spawn(
        self,
        link: ZygoteLink,
        data: bytes | bytearray | memoryview,
        conversion: wire.Conversion | None = None,
    ) -> None:
        """Hands `data` (an image, or the profile of a conversion) to a new child.

        The only copy made of it is freed by the child once it has decoded.
        """
        encoded = await _memfd(data)
        try:
            ours, theirs = socket.socketpair()
            self._channel = RowChannel(ours, self._limits.wall_seconds)
            with theirs:
                self._link = link
                self._child, self._ended = await link.spawn(
                    encoded,
                    theirs,
                    dataclasses.asdict(self._limits),
                    None if conversion is None else dataclasses.asdict(conversion),
                )
        finally:
            os.close(encoded)

    async def header(self) -> wire.Header:
        header = await self.channel.header()
        pixels = header.info.width * header.info.height
        if pixels > self._limits.max_pixels:
            raise wire.ProtocolBrokenError(f"a header of {pixels} pixels passed the limit")
        return header

    async def decoded(self, holding_bytes: int) -> None:
        """Waits for the pixels; then the turn is over, and so much memory is still held."""
        await self.channel.decoded()
        self.end_turn()
        if self._share is not None:
            self._share.shrink(holding_bytes)

    @contextlib.asynccontextmanager
    async def explaining(self) -> AsyncIterator[None]:
        """Turns the ways in which a child can fail us into the domain's errors."""
        try:
            yield
        except TooSlowError as error:
            _count("wall_time")
            raise LimitExceeded(
                "image",
                "decoding takes too long",
                limit=self._limits.wall_seconds,
                actual="more",
                unit="seconds",
            ) from error
        except wire.ProtocolBrokenError as error:
            _count("protocol")
            raise ProcessingFailed(f"the decoder broke the protocol: {wire.printable(str(error))}") from error
        except ChildEndedError as error:
            raise self._why(await self._status()) from error

    async def aclose(self) -> None:
        """Kills the child if it still runs, and waits until it is gone, however often the caller cancels."""
        self.end_turn()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        try:
            if self._ended is not None and not self._ended.done():
                await _undisturbed(self._kill())
        finally:
            if self._share is not None:
                self._share.release()

    async def _kill(self) -> None:
        if self._link is not None:
            await self._link.kill(self._child)
            await self._status()

    async def _status(self) -> int | None:
        if self._ended is None:
            return LOST
        try:
            return await asyncio.wait_for(asyncio.shield(self._ended), _END_SECONDS)
        except TimeoutError:
            return LOST

    def _why(self, status: int | None) -> DomainError:
        if status is LOST:
            _count("lost")
            return Unavailable(
                "the codec process ended while it decoded this image; the call can be tried again"
            )
        if os.WIFEXITED(status):
            _count("exit")
            return ProcessingFailed(f"the decoder ended early, with exit status {os.WEXITSTATUS(status)}")
        name = signal.Signals(os.WTERMSIG(status))
        if name == signal.SIGXCPU:
            _count("cpu_time")
            seconds = self._limits.cpu_seconds
            return LimitExceeded(
                "image",
                "decoding takes too much processor time",
                limit=seconds,
                actual="more",
                unit="seconds",
            )
        if name in _CRASHES:
            _count("crash")
            return DamagedImage(f"these bytes crash the decoder ({name.name})")
        _count("killed")
        return Unavailable(
            f"the decoder was killed ({name.name}), most likely because the machine ran out of memory"
        )


def _count(reason: FailureReason) -> None:
    metrics.CODEC_FAILURES.labels(reason).inc()


async def _memfd(data: bytes | bytearray | memoryview) -> int:
    """A sealed anonymous file with `data`, rewound. Pauses between pieces: 64 MiB take some milliseconds."""
    descriptor = os.memfd_create("upscaled-encoded", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest[:_WRITE_BYTES]) :]
            if rest:
                await asyncio.sleep(0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
        )
    except BaseException:  # an interrupt too
        os.close(descriptor)
        raise
    return descriptor


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Awaits `work` to its end even if the caller is cancelled meanwhile, and only then lets that through."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
