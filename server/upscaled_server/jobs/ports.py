"""What other parts of the server do for jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from upscaled_server.access.caller import Caller
from upscaled_server.errors import DomainError
from upscaled_server.jobs.job import Job, JobSource
from upscaled_server.pipeline import storing
from upscaled_server.pipeline.request import Options
from upscaled_server.state.expiry import Expiry


class Blobs(Protocol):
    """Files of the server's own, by path. `put` is visible only whole; deleting what is not there is fine."""

    async def put(self, path: str, data: bytes) -> None: ...

    def read(self, path: str, offset: int = 0) -> AsyncIterator[bytes]: ...

    async def delete(self, path: str) -> None: ...

    async def delete_all(self, folder: str) -> None: ...


class Outputs(storing.Outputs, Protocol):
    """The files of callers. Deleting what is not there is fine. `expire` deletes what an entry of `expiry/`
    names, if its time is up."""

    async def delete_output(self, output_id: str) -> None: ...

    async def stored_bytes(self, caller: str) -> int: ...

    async def expire(self, expiry: Expiry) -> None: ...


class Callbacks(Protocol):
    """Tells receivers."""

    def check(self, url: str) -> None:
        """Raises what is wrong with a receiver's address."""

    async def enqueue(self, job: Job) -> None: ...


CheckOptions = Callable[[Options, Caller], object]
"""Raises what is wrong with options before the image is known."""


@dataclass(frozen=True, slots=True)
class Helpers:
    """Single questions and services."""

    caller_of: Callable[[str], Caller | None]
    """A caller by name, as it is now; None if it was deleted."""
    check_options: CheckOptions
    check_source: Callable[[JobSource, Caller], Awaitable[None]]
    """Raises where it is known at once that no image will come from there."""
    describe: Callable[[DomainError], bytes]
    """An error as a serialized `google.rpc.Status`."""
