"""`Client`: the asynchronous client for callers that block."""

from __future__ import annotations

import os
import weakref
from datetime import date, datetime
from types import TracebackType
from typing import Self, Unpack

from upscaled._aio.client import AsyncClient
from upscaled._aio.upscaling import OnProgress
from upscaled._blocking.jobs import Jobs
from upscaled._blocking.parts import Inputs, Models, Outputs
from upscaled._blocking.stream import Stream
from upscaled._info import ServerInfo
from upscaled._loop import LoopThread
from upscaled._options import Options
from upscaled._results import Event, Result
from upscaled._retry import Retries
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven, Tiles, TLSLike
from upscaled._usage import Usage


class Client:
    """A connection to an `upscaled` server; arguments as `AsyncClient`.

    Any number of threads may use one client. It is not usable in a forked process: make one there.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None | NotGiven = NOT_GIVEN,
        timeout: float | None = None,
        tls: TLSLike = None,
        retries: Retries | int = Retries(),  # noqa: B008 - frozen
    ) -> None:
        self._core = AsyncClient(server, api_key=api_key, timeout=timeout, tls=tls, retries=retries)
        self._thread = LoopThread()
        # Also at the end of the process: grpc must not find a running loop among the ruins.
        self._finalizer = weakref.finalize(self, _close, self._core, self._thread)

    def upscale(
        self,
        source: ImageSource | None = None,
        *,
        url: str | None = None,
        input_id: str | None = None,
        output_id: str | None = None,
        output: str | os.PathLike[str] | None = None,
        on_progress: OnProgress | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout: float | None | NotGiven = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
        **options: Unpack[Options],
    ) -> Result:
        return self._thread.run(
            self._core.upscale(
                source,
                url=url,
                input_id=input_id,
                output_id=output_id,
                output=output,
                on_progress=on_progress,
                request_id=request_id,
                validate_only=validate_only,
                timeout=timeout,
                retries=retries,
                **options,
            )
        )

    def upscale_stream(
        self,
        source: ImageSource | None = None,
        *,
        url: str | None = None,
        input_id: str | None = None,
        output_id: str | None = None,
        tiles: bool | Tiles = False,
        omit_file: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout: float | None | NotGiven = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
        **options: Unpack[Options],
    ) -> Stream[Event]:
        events = self._core.upscale_stream(
            source,
            url=url,
            input_id=input_id,
            output_id=output_id,
            tiles=tiles,
            omit_file=omit_file,
            request_id=request_id,
            validate_only=validate_only,
            timeout=timeout,
            retries=retries,
            **options,
        )
        return Stream(self, self._thread, events)

    # Made anew each time: kept, they and the client would hold each other.

    @property
    def models(self) -> Models:
        """The server's catalogue."""
        return Models(self)

    @property
    def jobs(self) -> Jobs:
        """Work that outlives calls."""
        return Jobs(self)

    @property
    def inputs(self) -> Inputs:
        """Images that are uploaded once and used by their id."""
        return Inputs(self)

    @property
    def outputs(self) -> Outputs:
        """Results that the server keeps."""
        return Outputs(self)

    def usage(
        self,
        start: datetime | date | None = None,
        end: datetime | date | None = None,
        *,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> Usage:
        return self._thread.run(self._core.usage(start, end, timeout=timeout))

    def webhook_secrets(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> list[str]:
        return self._thread.run(self._core.webhook_secrets(timeout=timeout))

    def server_info(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> ServerInfo:
        return self._thread.run(self._core.server_info(timeout=timeout))

    def close(self) -> None:
        """Cancels what is running, in whichever thread, and closes the connection."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(core: AsyncClient, thread: LoopThread) -> None:
    thread.stop(core.aclose())
