"""From where an image is to its bytes."""

from __future__ import annotations

import time
from typing import Protocol

from upscaled_server.errors import LimitExceeded
from upscaled_server.intake.owner import Owner
from upscaled_server.intake.source_kinds import InputId, SourceKind, Url
from upscaled_server.intake.stored import StoredFiles


class Fetches(Protocol):
    """Gets images from elsewhere; `intake.fetch` has the real one."""

    async def fetch(self, url: str, *, max_bytes: int, deadline_seconds: float, caller: str) -> bytes:
        """The whole body, of at most `max_bytes`."""


class Sources:
    def __init__(self, files: StoredFiles, fetcher: Fetches) -> None:
        self._files = files
        self._fetcher = fetcher

    async def open(self, source: SourceKind, caller: Owner, *, max_bytes: int, deadline: float) -> bytes:
        """The encoded image, before `deadline`, a moment of `time.monotonic()`. Nothing is written to disk.

        Raises `NotFound` for a file that is not the caller's, `InputIncomplete`, `LimitExceeded`, and what
        fetching raises.
        """
        if isinstance(source, Url):
            return await self._fetcher.fetch(
                source.url,
                max_bytes=max_bytes,
                deadline_seconds=deadline - time.monotonic(),
                caller=caller.name,
            )
        if isinstance(source, InputId):
            uploaded = await self._files.input(caller.name, source.id)
            _check_size("source.input_id", uploaded.size_bytes, max_bytes)
            pieces = self._files.read_input(uploaded)
        else:
            made = await self._files.output(caller.name, source.id)
            _check_size("source.output_id", made.size_bytes, max_bytes)
            pieces = self._files.read_output(made)
        return b"".join([piece async for piece in pieces])


def _check_size(field: str, actual: int, limit: int) -> None:
    if actual > limit:
        raise LimitExceeded(field, "the encoded image is too large", limit=limit, actual=actual, unit="bytes")
