"""Streams from the server that are taken up where they broke."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from upscaled._aio.transport import Transport
from upscaled._errors import UpscaledError
from upscaled._retry import Attempts

PATIENCE_SECONDS: Final = 60.0
"""How long what can be taken up again outlasts a server that does not answer: long enough for a restart."""


async def resumed(
    transport: Transport, open_call: Callable[[], Any], attempts: Attempts, *, request_id: str = ""
) -> AsyncGenerator[Any, None]:
    """The messages of a call, and of the calls after it when it breaks; ends with a clean end.

    `open_call` is asked anew each time, for what comes after the message that was handed out last.
    """
    while True:
        try:
            with transport.errors(request_id):
                call = open_call()
                try:
                    async for message in call:
                        attempts.progressed()
                        yield message
                finally:
                    call.cancel()
            return
        except UpscaledError as error:
            await attempts.pause(error)
