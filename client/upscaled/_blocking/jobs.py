"""`client.jobs` and its jobs, for callers that block."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from upscaled._aio.job import AsyncJob
from upscaled._blocking.stream import Stream
from upscaled._jobs import JobEvent, JobFacts
from upscaled._options import Options
from upscaled._results import Progress, Result, Tile
from upscaled._retry import Retries
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven, Tiles
from upscaled.v1 import jobs_pb2

if TYPE_CHECKING:
    from upscaled._blocking.client import Client


class Job(JobFacts):
    """Work that the server keeps until it is done, whatever becomes of this process. Its properties tell
    what was last heard of it.
    """

    def __init__(self, client: Client, core: AsyncJob) -> None:
        self._client = client
        self._core = core

    @property
    def _message(self) -> jobs_pb2.Job:
        return self._core._message

    def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Progress], None] | None = None
    ) -> Result:
        return self._client._thread.run(self._core.wait(timeout, on_progress=on_progress))

    def watch(self, after: int | None = None) -> Stream[JobEvent]:
        return Stream(self._client, self._client._thread, self._core.watch(after))

    def tiles(self, after: int | None = None) -> Stream[Tile]:
        return Stream(self._client, self._client._thread, self._core.tiles(after))

    def refresh(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Self:
        self._client._thread.run(self._core.refresh(timeout=timeout))
        return self

    def cancel(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Self:
        self._client._thread.run(self._core.cancel(timeout=timeout))
        return self

    def delete(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> None:
        self._client._thread.run(self._core.delete(timeout=timeout))

    def download(self, path: str | os.PathLike[str], *, timeout: float | None | NotGiven = NOT_GIVEN) -> Path:
        return self._client._thread.run(self._core.download(path, timeout=timeout))

    def read(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> bytes:
        return self._client._thread.run(self._core.read(timeout=timeout))


class Jobs:
    """Work that outlives calls, as `client.jobs`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        source: ImageSource | None = None,
        *,
        url: str | None = None,
        input_id: str | None = None,
        output_id: str | None = None,
        tiles: bool | Tiles = False,
        callback_url: str | None = None,
        wait: timedelta | float | None = None,
        retention: timedelta | float | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout: float | None | NotGiven = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
        **options: Unpack[Options],
    ) -> Job:
        created = self._client._thread.run(
            self._client._core.jobs.create(
                source,
                url=url,
                input_id=input_id,
                output_id=output_id,
                tiles=tiles,
                callback_url=callback_url,
                wait=wait,
                retention=retention,
                request_id=request_id,
                validate_only=validate_only,
                timeout=timeout,
                retries=retries,
                **options,
            )
        )
        return Job(self._client, created)

    def get(self, job_id: str, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Job:
        found = self._client._thread.run(self._client._core.jobs.get(job_id, timeout=timeout))
        return Job(self._client, found)

    def list(
        self,
        *,
        states: str | Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: datetime | date | None = None,
        created_before: datetime | date | None = None,
        page_size: int | None = None,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> Stream[Job]:
        client = self._client
        found = client._core.jobs.list(
            states=states,
            labels=labels,
            created_after=created_after,
            created_before=created_before,
            page_size=page_size,
            timeout=timeout,
        )
        return Stream(client, client._thread, found, lambda job: Job(client, job))
