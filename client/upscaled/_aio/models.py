"""`client.models`."""

from __future__ import annotations

from upscaled._aio.calls import Calls
from upscaled._info import Model
from upscaled._types import NOT_GIVEN, NotGiven
from upscaled.v1 import models_pb2


class AsyncModels:
    """The server's catalogue, as `client.models`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self, *, timeout: float | None | NotGiven = NOT_GIVEN) -> list[Model]:
        """Every model this caller may use, in catalogue order."""
        request = models_pb2.ListModelsRequest()
        answer = await self._calls.lookup("models", "ListModels", request, timeout)
        return [Model.from_message(model) for model in answer.models]

    async def get(self, model: str, *, timeout: float | None | NotGiven = NOT_GIVEN) -> Model:
        """One model, by name or alias. NotFoundError lists the names."""
        request = models_pb2.GetModelRequest(model=model)
        return Model.from_message(await self._calls.lookup("models", "GetModel", request, timeout))
