"""`AsyncClient`: the SDK's surface, with `await` and `async for`."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncGenerator
from datetime import date, datetime
from types import TracebackType
from typing import Final, Self, Unpack

from upscaled._aio.calls import Calls
from upscaled._aio.inputs import AsyncInputs
from upscaled._aio.jobs import AsyncJobs
from upscaled._aio.models import AsyncModels
from upscaled._aio.outputs import AsyncOutputs
from upscaled._aio.sinks import FileSink, MemorySink
from upscaled._aio.streams import AsyncStream
from upscaled._aio.transport import Transport
from upscaled._aio.upscaling import OnProgress, Work, collect, events, try_unary
from upscaled._channel import resolve_api_key, resolve_target
from upscaled._errors import InvalidOptionError
from upscaled._info import ServerInfo
from upscaled._options import Options, add_tiles, build_options
from upscaled._results import Event, Result
from upscaled._retry import Retries
from upscaled._sources import Chosen, choose_source
from upscaled._times import timestamp
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven, Tiles, TLSLike
from upscaled._uploads import Upload, open_upload
from upscaled._usage import Usage
from upscaled.v1 import account_pb2, options_pb2, server_pb2


class AsyncClient:
    """A connection to an `upscaled` server.

    `server` is HOST:PORT, `dns:///HOST:PORT` (all addresses, in turn) or `unix:PATH`; default:
    UPSCALED_SERVER, else 127.0.0.1:50051. `api_key` defaults to UPSCALED_API_KEY. `timeout` is the seconds a
    call may take over all its attempts; `None` means no bound. `tls` is `True`, the path of a CA file, or
    `TLS(…)`. `retries` is a number or `Retries(…)`.

    Nothing is connected before the first call. The client belongs to the event loop of that call; any number
    of tasks may use it at once.
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
        transport = Transport(resolve_target(server), api_key=resolve_api_key(api_key), tls=tls)
        self._calls = Calls(transport, timeout=timeout, retries=Retries.of(retries))
        self.models: Final = AsyncModels(self._calls)
        self.inputs: Final = AsyncInputs(self._calls)
        self.outputs: Final = AsyncOutputs(self._calls)
        self.jobs: Final = AsyncJobs(self._calls, self.outputs)

    async def upscale(
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
        """Enlarges one image and answers when it is done.

        The image is `source` (see `ImageSource`), or the server reads it itself from `url`, `input_id` or
        `output_id`; exactly one of the four. With `output` the file is written there as
        it arrives, in memory that does not depend on its size, and appears when it is whole and proven; else
        it is `Result.data`. `on_progress` is called in the client's event loop with the Plan and each
        Progress (again from the start if an attempt is repeated); it must be quick, and what it raises ends
        the call. `validate_only` checks and plans without computing.

        Small images go through the unary call, all others, those with `output` and those with `on_progress`
        through the streaming one; both give the same result. Raises UpscaledError, and OSError when `output`
        cannot be written.
        """
        message = build_options("upscale", options)
        if output is not None and (validate_only or message.delivery == options_pb2.DELIVERY_URL):
            raise InvalidOptionError("output: the server sends no file with validate_only or delivery='url'")
        chosen = choose_source(source, url=url, input_id=input_id, output_id=output_id)
        async with self._work(message, chosen, request_id, validate_only, timeout, retries) as work:
            if output is None and on_progress is None:
                limits = await self._calls.limits(work.deadline, work.attempts)
                result = await try_unary(self._calls.transport, work, limits)
                if result is not None:
                    return result
            with MemorySink() if output is None else FileSink(output) as sink:
                return await collect(self._calls.transport, work, sink, on_progress)

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
    ) -> AsyncStream[Event]:
        """Enlarges one image and hands out the events while it is made: Plan, then Progress, Tile and Chunk,
        then Done.

        `tiles` asks for finished tiles, `omit_file` leaves the encoded file out. Source and options as in
        `upscale`. The call begins with the first event that is asked for; a slow reader holds back only its
        own work. Done comes only after size and SHA-256 of the chunks were checked: without it the file must
        not be used.
        """
        message = build_options("upscale_stream", options)
        add_tiles(message, tiles)
        message.omit_file = omit_file
        # At once, not at the first event, when the sources do not add up.
        chosen = choose_source(source, url=url, input_id=input_id, output_id=output_id)

        async def run() -> AsyncGenerator[Event, None]:
            async with (
                self._work(message, chosen, request_id, validate_only, timeout, retries) as work,
                contextlib.aclosing(events(self._calls.transport, work)) as stream,
            ):
                async for event in stream:
                    yield event

        return AsyncStream(run())

    async def server_info(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> ServerInfo:
        """What the server is: version, limits, devices, formats."""
        request = server_pb2.GetServerInfoRequest()
        return ServerInfo.from_message(await self._calls.lookup("server", "GetServerInfo", request, timeout))

    async def usage(
        self,
        start: datetime | date | None = None,
        end: datetime | date | None = None,
        *,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> Usage:
        """What the key's owner has used between two times, by default in this month so far (UTC)."""
        request = account_pb2.GetUsageRequest(
            start_time=timestamp("start", start), end_time=timestamp("end", end)
        )
        return Usage.from_message(await self._calls.lookup("account", "GetUsage", request, timeout))

    async def webhook_secrets(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> list[str]:
        """What callbacks to the key's owner are signed with, the newest first; `upscaled.webhooks.verify`
        takes them all.
        """
        request = account_pb2.GetWebhookSecretsRequest()
        answer = await self._calls.lookup("account", "GetWebhookSecrets", request, timeout)
        return list(answer.secrets)

    async def aclose(self) -> None:
        """Cancels what is running and closes the connection."""
        await self._calls.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @contextlib.asynccontextmanager
    async def _work(
        self,
        options: options_pb2.UpscaleOptions,
        chosen: Chosen,
        request_id: str | None,
        validate_only: bool,
        timeout: float | None | NotGiven,
        retries: Retries | int | NotGiven,
    ) -> AsyncGenerator[Work, None]:
        deadline = self._calls.deadline(timeout)
        attempts = self._calls.attempts(retries, deadline)
        upload: Upload | None = None
        if chosen.local is not None:

            async def max_input_bytes() -> int:
                return (await self._calls.limits(deadline, attempts)).max_input_bytes

            upload = await open_upload(chosen.local, max_bytes=max_input_bytes)
        try:
            # One id over all attempts, so that the server's log shows them as one request.
            identity = request_id or uuid.uuid4().hex
            yield Work(options, chosen.message, upload, identity, validate_only, deadline, attempts)
        finally:
            if upload is not None:
                await upload.close()
