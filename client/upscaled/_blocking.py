"""`Client`: the asynchronous client for callers that block. Every method hands the same call to `AsyncClient`
in a private event loop; what a call does, and its documentation, is there.
"""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import Self, Unpack

from upscaled._aio.client import AsyncClient
from upscaled._aio.events import EventStream
from upscaled._aio.upscaling import OnProgress
from upscaled._info import Model, ServerInfo
from upscaled._loop import LoopThread
from upscaled._options import Options
from upscaled._results import Event, Result
from upscaled._retry import Retries
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven, Tiles, TLSLike


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
    ) -> Stream:
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
        return Stream(self, events)

    @property
    def models(self) -> Models:
        """The server's catalogue."""
        return Models(self)

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


class Models:
    """The server's catalogue, as `client.models`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> list[Model]:
        return self._client._thread.run(self._client._core.models.list(timeout=timeout))

    def get(self, model: str, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Model:
        return self._client._thread.run(self._client._core.models.get(model, timeout=timeout))


class Stream:
    """The events of one upscale. Leaving it early (a `break` that drops the last reference, `close()`, the
    end of a `with`, closing the client) cancels the work on the server at once.
    """

    def __init__(self, client: Client, events: EventStream) -> None:
        self._client = client  # keeps the connection open while somebody reads
        self._thread = client._thread
        self._events = events

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            return self._thread.run(self._events.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Cancels the call if it is still running."""
        self._thread.run(self._events.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._thread.call_soon(self._events.aclose())


def _close(core: AsyncClient, thread: LoopThread) -> None:
    thread.stop(core.aclose())
