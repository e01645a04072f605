"""`client.models`, `client.inputs` and `client.outputs` for callers that block."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from upscaled._aio.outputs import OutputLike
from upscaled._info import Model
from upscaled._retry import Retries
from upscaled._stored import Input, SignedUrl
from upscaled._types import NOT_GIVEN, ImageSource, NotGiven

if TYPE_CHECKING:
    from upscaled._blocking.client import Client


class Models:
    """The server's catalogue, as `client.models`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> list[Model]:
        return self._client._thread.run(self._client._core.models.list(timeout=timeout))

    def get(self, model: str, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Model:
        return self._client._thread.run(self._client._core.models.get(model, timeout=timeout))


class Inputs:
    """Images that are uploaded once and used by their id, as `client.inputs`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def upload(
        self,
        source: ImageSource,
        *,
        retention: timedelta | float | None = None,
        request_id: str | None = None,
        timeout: float | None | NotGiven = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
    ) -> Input:
        return self._client._thread.run(
            self._client._core.inputs.upload(
                source, retention=retention, request_id=request_id, timeout=timeout, retries=retries
            )
        )


class Outputs:
    """Results that the server keeps, as `client.outputs`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def download(
        self,
        output: OutputLike,
        path: str | os.PathLike[str],
        *,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> Path:
        return self._client._thread.run(self._client._core.outputs.download(output, path, timeout=timeout))

    def read(self, output: OutputLike, *, timeout: float | None | NotGiven = NOT_GIVEN) -> bytes:
        return self._client._thread.run(self._client._core.outputs.read(output, timeout=timeout))

    def sign(
        self,
        output: OutputLike,
        lifetime: timedelta | float | None = None,
        *,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> SignedUrl:
        return self._client._thread.run(self._client._core.outputs.sign(output, lifetime, timeout=timeout))
