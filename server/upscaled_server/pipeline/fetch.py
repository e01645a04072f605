"""The first step: the bytes of the encoded image, wherever they come from."""

from __future__ import annotations

from typing import Protocol

from upscaled_server.access.caller import Caller
from upscaled_server.intake.source_kinds import SourceKind
from upscaled_server.intake.upload import UploadMemory, gather
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.events import Stage
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Bytes, Chunks, Request
from upscaled_server.pipeline.stages import StageClock


class Sources(Protocol):
    """Images that are not sent: at an address, uploaded before, made before."""

    async def open(self, source: SourceKind, caller: Caller, *, max_bytes: int, deadline: float) -> bytes:
        """The encoded image, before `deadline`, a moment of `time.monotonic()`."""
        ...


class Fetch:
    """Gives the bytes of every kind of source, within the limits."""

    def __init__(self, limits: LimitSettings, sources: Sources) -> None:
        self._limits = limits
        self._sources = sources
        self._uploads = UploadMemory(limits.max_uploading_bytes)

    async def bytes_of(self, request: Request, deadline: Deadline, clock: StageClock) -> bytes | bytearray:
        """Raises what `gather` and `Sources.open` raise."""
        source, limits = request.source, self._limits
        if isinstance(source, Bytes):
            return source.data
        with clock.during(Stage.FETCH):
            if isinstance(source, Chunks):
                return await gather(
                    source.chunks,
                    max_bytes=limits.max_input_bytes,
                    idle_seconds=limits.upload_idle_seconds,
                    announced_bytes=source.announced_bytes,
                    memory=self._uploads,
                )
            return await self._sources.open(
                source, request.caller, max_bytes=limits.max_input_bytes, deadline=deadline.at
            )
