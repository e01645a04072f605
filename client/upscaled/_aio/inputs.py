"""`client.inputs`: images that are uploaded once and used by their id."""

from __future__ import annotations

import uuid
from datetime import timedelta

from upscaled._aio.calls import Calls
from upscaled._aio.uploading import send_input
from upscaled._errors import SourceError
from upscaled._retry import Retries
from upscaled._sources import choose_source
from upscaled._stored import Input
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven
from upscaled._uploads import open_upload


class AsyncInputs:
    """Images that are uploaded once and used by their id, as `client.inputs`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def upload(
        self,
        source: ImageSource,
        *,
        retention: timedelta | float | None = None,
        request_id: str | None = None,
        timeout: float | None | NotGiven = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
    ) -> Input:
        """Sends an image of this side to the server, which keeps it for `retention` (seconds or a timedelta;
        default: the server's).

        A broken upload goes on at the byte that the server has for good. With a `request_id` of the caller's
        it does so in another process too: the same id with the same file finds the same input. Size and
        SHA-256 are announced before and checked at the end. Raises UpscaledError.
        """
        chosen = choose_source(source)
        if chosen.local is None:
            raise SourceError(
                "source: the server has this image already, or fetches it itself; use it as it is"
            )
        deadline = self._calls.deadline(timeout)

        async def max_input_bytes() -> int:
            attempts = self._calls.attempts(retries, deadline)
            return (await self._calls.limits(deadline, attempts)).max_input_bytes

        upload = await open_upload(chosen.local, max_bytes=max_input_bytes)
        try:
            return await send_input(
                self._calls,
                upload,
                request_id or uuid.uuid4().hex,
                deadline,
                retries,
                begun=request_id is not None,
                retention=retention,
            )
        finally:
            await upload.close()
