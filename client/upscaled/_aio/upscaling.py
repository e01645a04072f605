"""The main job on this side: choose the call, make it, try it again where that can help."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from upscaled._aio.attempt import attempt, delivers_file
from upscaled._aio.choice import UNARY_INPUT_BYTES, fits_unary
from upscaled._aio.events import event_of
from upscaled._aio.proof import check_inline
from upscaled._aio.sinks import Sink
from upscaled._aio.transport import Transport
from upscaled._errors import BrokenStreamError, LimitExceededError, UpscaledError
from upscaled._info import Limits
from upscaled._results import Event, Plan, Progress, Result
from upscaled._retry import Attempts, Deadline
from upscaled._uploads import Upload
from upscaled.v1 import options_pb2, result_pb2, upscaler_pb2

OnProgress = Callable[[Plan | Progress], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One request as it goes over every attempt: either `upload` holds the image, or `source` names it."""

    options: options_pb2.UpscaleOptions
    source: options_pb2.Source | None
    upload: Upload | None
    request_id: str
    validate_only: bool
    deadline: Deadline
    attempts: Attempts

    def start(self) -> upscaler_pb2.UpscaleStart:
        return upscaler_pb2.UpscaleStart(
            options=self.options,
            request_id=self.request_id,
            validate_only=self.validate_only,
            size_bytes=self.upload.size if self.upload is not None else 0,
            source=self.source,
        )


async def try_unary(transport: Transport, work: Work, limits: Limits) -> Result | None:
    """The result of the unary call, or `None` when the streaming call has to do it."""
    source = work.source
    image: bytes | None = None
    if work.upload is not None:
        if work.upload.size > min(UNARY_INPUT_BYTES, limits.max_message_bytes // 2):
            return None
        image = b"".join([chunk async for chunk in work.upload.chunks()])
        source = options_pb2.Source(image=image)
    if not (work.validate_only or fits_unary(work.options, image, limits)):
        return None
    request = upscaler_pb2.UpscaleRequest(
        source=source, options=work.options, request_id=work.request_id, validate_only=work.validate_only
    )
    try:
        answer: result_pb2.UpscaleResult = await transport.unary(
            lambda: transport.upscaler.Upscale,
            request,
            deadline=work.deadline,
            attempts=work.attempts,
            request_id=work.request_id,
        )
    except LimitExceededError as error:
        if error.reason != "INLINE_TOO_LARGE":
            raise
        return None
    if delivers_file(work.options, validate_only=work.validate_only):
        check_inline(answer)
    return Result.from_message(answer)


async def collect(transport: Transport, work: Work, sink: Sink, on_progress: OnProgress | None) -> Result:
    """The result of the streaming call, with the file in `sink`. Nothing was handed out before the end, so a
    call that broke in the middle is tried again from the start.
    """
    while True:
        try:
            return await _collect_once(transport, work, sink, on_progress)
        except UpscaledError as error:
            await work.attempts.pause(error)
        await sink.restart()


async def _collect_once(
    transport: Transport, work: Work, sink: Sink, on_progress: OnProgress | None
) -> Result:
    async with contextlib.aclosing(attempt(transport, work.start(), work.upload, work.deadline)) as messages:
        async for message in messages:
            kind = message.WhichOneof("event")
            if kind == "chunk":
                await sink.write(message.chunk.data)
            elif kind == "done":
                return await sink.finish(message.done)
            elif on_progress is not None:
                event = event_of(message)
                if isinstance(event, Plan | Progress):
                    on_progress(event)
    raise BrokenStreamError("the events ended without the last one", request_id=work.request_id)


async def events(transport: Transport, work: Work) -> AsyncGenerator[Event, None]:
    """The events as they come. Tried again only while none was handed out."""
    while True:
        delivered = False
        try:
            async with contextlib.aclosing(
                attempt(transport, work.start(), work.upload, work.deadline)
            ) as messages:
                async for message in messages:
                    event = event_of(message)
                    if event is not None:
                        delivered = True
                        yield event
            return
        except UpscaledError as error:
            if delivered:
                raise
            await work.attempts.pause(error)
