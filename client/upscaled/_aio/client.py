"""`AsyncClient`: the SDK's surface, with `await` and `async for`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Final, Self, Unpack

from upscaled._aio.events import EventStream
from upscaled._aio.sinks import FileSink, MemorySink
from upscaled._aio.transport import Transport
from upscaled._aio.upscaling import OnProgress, Work, collect, events, try_unary
from upscaled._channel import resolve_api_key, resolve_target
from upscaled._errors import InvalidOptionError, NotImplementedByServerError
from upscaled._info import Limits, Model, ServerInfo
from upscaled._options import Options, add_tiles, build_options
from upscaled._results import Event, Result
from upscaled._retry import Attempts, Deadline, Retries
from upscaled._sources import Upload, named_source, open_upload
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven, Tiles, TLSLike
from upscaled.v1 import models_pb2, options_pb2, server_pb2

# Answers that come from the server's memory; without a timeout of the caller's they still end.
_LOOKUP_TIMEOUT_SECONDS: Final = 30.0
_LIMITS_KEPT_SECONDS: Final = 600.0
# What a server has that does not answer GetServerInfo: the contract's defaults.
_DEFAULT_LIMITS: Final = server_pb2.Limits(
    max_input_bytes=64 << 20, max_inline_bytes=32 << 20, max_message_bytes=64 << 20
)


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
        self._transport = Transport(resolve_target(server), api_key=resolve_api_key(api_key), tls=tls)
        self._timeout = timeout
        self._retries = Retries.of(retries)
        self._limits: Limits | None = None
        self._limits_until = 0.0
        self.models: Final = AsyncModels(self)

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

        The image is `source` (a path, bytes or a binary file object), or the server reads it itself from
        `url`, `input_id` or `output_id`; exactly one of the four. With `output` the file is written there as
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
        named = {"url": url, "input_id": input_id, "output_id": output_id}
        async with self._work(message, source, named, request_id, validate_only, timeout, retries) as work:
            if output is None and on_progress is None:
                limits = await self._known_limits(work.deadline, work.attempts)
                result = await try_unary(self._transport, work, limits)
                if result is not None:
                    return result
            with MemorySink() if output is None else FileSink(output) as sink:
                return await collect(self._transport, work, sink, on_progress)

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
    ) -> EventStream:
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
        named = {"url": url, "input_id": input_id, "output_id": output_id}
        named_source(source, **named)  # says at once, not at the first event, when the sources do not add up

        async def run() -> AsyncGenerator[Event, None]:
            async with (
                self._work(message, source, named, request_id, validate_only, timeout, retries) as work,
                contextlib.aclosing(events(self._transport, work)) as stream,
            ):
                async for event in stream:
                    yield event

        return EventStream(run())

    async def server_info(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> ServerInfo:
        """What the server is: version, limits, devices, formats."""
        deadline = Deadline(self._lookup_timeout(timeout))
        return await self._server_info(deadline, Attempts(self._retries, deadline))

    async def aclose(self) -> None:
        """Cancels what is running and closes the connection."""
        await self._transport.aclose()

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
        source: ImageSource | None,
        named: Mapping[str, str | None],
        request_id: str | None,
        validate_only: bool,
        timeout: float | None | NotGiven,
        retries: Retries | int | NotGiven,
    ) -> AsyncGenerator[Work, None]:
        deadline = Deadline(self._timeout if isinstance(timeout, NotGiven) else timeout)
        attempts = Attempts(self._retries if isinstance(retries, NotGiven) else Retries.of(retries), deadline)
        message = named_source(source, **named)
        upload: Upload | None = None
        if source is not None:

            async def max_input_bytes() -> int:
                return (await self._known_limits(deadline, attempts)).max_input_bytes

            upload = await open_upload(source, max_bytes=max_input_bytes)
        try:
            # One id over all attempts, so that the server's log shows them as one request.
            identity = request_id or uuid.uuid4().hex
            yield Work(options, message, upload, identity, validate_only, deadline, attempts)
        finally:
            if upload is not None:
                await upload.close()

    async def _known_limits(self, deadline: Deadline, attempts: Attempts) -> Limits:
        now = asyncio.get_running_loop().time()
        if self._limits is None or now >= self._limits_until:
            try:
                self._limits = (await self._server_info(deadline, attempts)).limits
            except NotImplementedByServerError:
                self._limits = Limits.from_message(_DEFAULT_LIMITS)
            self._limits_until = now + _LIMITS_KEPT_SECONDS
        return self._limits

    async def _server_info(self, deadline: Deadline, attempts: Attempts) -> ServerInfo:
        request = server_pb2.GetServerInfoRequest()
        answer = await self._transport.unary(
            lambda: self._transport.server.GetServerInfo, request, deadline=deadline, attempts=attempts
        )
        return ServerInfo.from_message(answer)

    def _lookup_timeout(self, timeout: float | None | NotGiven) -> float | None:
        chosen = self._timeout if isinstance(timeout, NotGiven) else timeout
        return _LOOKUP_TIMEOUT_SECONDS if chosen is None else chosen


class AsyncModels:
    """The server's catalogue, as `client.models`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> list[Model]:
        """Every model this caller may use, in catalogue order."""
        answer = await self._call("ListModels", models_pb2.ListModelsRequest(), timeout)
        return [Model.from_message(model) for model in answer.models]

    async def get(self, model: str, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Model:
        """One model, by name or alias. NotFoundError lists the names."""
        return Model.from_message(
            await self._call("GetModel", models_pb2.GetModelRequest(model=model), timeout)
        )

    async def _call(self, method: str, request: Any, timeout: float | None | NotGiven) -> Any:
        client = self._client
        deadline = Deadline(client._lookup_timeout(timeout))
        return await client._transport.unary(
            lambda: getattr(client._transport.models, method),
            request,
            deadline=deadline,
            attempts=Attempts(client._retries, deadline),
        )
