"""Work whose file is stored instead of handed over."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from upscaled_server.access.caller import Caller
from upscaled_server.pipeline.deadline import Deadline
from upscaled_server.pipeline.events import Chunk, Event, Plan
from upscaled_server.pipeline.request import Request


class Images(Protocol):
    """`Upscaling`."""

    def run(self, request: Request, deadline: Deadline) -> AsyncGenerator[Event, None]: ...


class OutputWriter(Protocol):
    """An output being written; it is there once its context ends without an error."""

    async def write(self, data: bytes) -> None: ...


class Outputs(Protocol):
    """Stored outputs."""

    def new_output(
        self,
        caller: Caller,
        *,
        output_id: str,
        file_name: str,
        content_type: str,
        width: int,
        height: int,
        expires_at: float,
    ) -> AbstractAsyncContextManager[OutputWriter]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """The output that is to be made. `expires_at` in seconds since 1970."""

    output_id: str
    expires_at: float


async def run_stored(
    images: Images, outputs: Outputs, request: Request, deadline: Deadline, target: Target
) -> AsyncGenerator[Event, None]:
    """The events of a request but for the chunks of its file, which become the output `target`.

    The output is complete before `Done` comes and anything is charged; work that is cut off or fails leaves
    none. The file is named after the output unless the request names it. Close the generator to stop the
    work. Not for requests that make no file.
    """
    name = request.options.file_name or f"upscaled-{target.output_id.lower()}"
    # Left with an error, it leaves no file behind; left without, the file is complete.
    async with AsyncExitStack() as file:
        writer: OutputWriter | None = None
        writing_seconds = 0.0

        async def complete() -> float:
            await file.aclose()
            return writing_seconds

        request = replace(request, options=replace(request.options, file_name=name), handed_over=complete)
        async with aclosing(images.run(request, deadline)) as events:
            async for event in events:
                if isinstance(event, Plan):
                    writer = await file.enter_async_context(_output(outputs, request.caller, event, target))
                if not isinstance(event, Chunk):
                    yield event
                elif writer is not None:
                    began = time.perf_counter()
                    await writer.write(event.data)
                    writing_seconds += time.perf_counter() - began


def _output(
    outputs: Outputs, caller: Caller, plan: Plan, target: Target
) -> AbstractAsyncContextManager[OutputWriter]:
    return outputs.new_output(
        caller,
        output_id=target.output_id,
        file_name=plan.file_name,
        content_type=plan.content_type,
        width=plan.output_width,
        height=plan.output_height,
        expires_at=target.expires_at,
    )
