"""`Models`: which networks this server can run."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import grpc.aio

from upscaled.v1 import models_pb2, models_pb2_grpc
from upscaled_server.engine.catalogue import DEFAULT_MODEL, Catalogue, ModelSpec, Spec
from upscaled_server.engine.weights.inventory import Inventory
from upscaled_server.errors import InvalidField
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pool.pool import Pool

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ModelsServicer(models_pb2_grpc.ModelsServicer):
    def __init__(self, catalogue: Catalogue, inventory: Inventory, pool: Pool, limits: LimitSettings) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._pool = pool
        self._limits = limits

    async def ListModels(
        self, message: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        return models_pb2.ListModelsResponse(models=[await self._model(spec) for spec in self._catalogue])

    async def GetModel(self, message: models_pb2.GetModelRequest, context: Context) -> models_pb2.Model:
        if not message.model:
            raise InvalidField("model", "is missing", limit="a name or alias", actual="nothing")
        return await self._model(self._catalogue.resolve(message.model))

    async def _model(self, spec: Spec) -> models_pb2.Model:
        weights = await asyncio.to_thread(self._inventory.describe, spec)
        measured = self._pool.seconds_per_pixel(spec.name)
        seconds = self._published_seconds(spec) if measured is None else measured
        model = models_pb2.Model(
            name=spec.name,
            aliases=spec.aliases,
            description=spec.description,
            architecture=str(spec.architecture),
            scale=spec.scale,
            license=spec.licence,
            available=weights is not None,
            loaded=self._pool.loaded(spec.name),
            is_default=spec.name == DEFAULT_MODEL,
            denoise=bool(spec.counterpart),
            seconds_per_megapixel=seconds * 1e6,
            speed_measured=measured is not None,
            max_input_pixels=min(
                self._limits.max_input_pixels, self._limits.max_output_pixels // spec.scale**2
            ),
        )
        if isinstance(spec, ModelSpec):
            model.official_file.CopyFrom(
                models_pb2.OfficialFile(
                    url=spec.official.url,
                    sha256=bytes.fromhex(spec.official.sha256),
                    size_bytes=spec.official.size_bytes,
                )
            )
        if weights is not None:
            model.weights.CopyFrom(
                models_pb2.Weights(
                    source=weights.origin,
                    precision=weights.precision,
                    sha256=bytes.fromhex(weights.sha256),
                    size_bytes=weights.size_bytes,
                )
            )
        return model

    def _published_seconds(self, spec: Spec) -> float:
        """Seconds per input pixel before anything was measured here: the catalogue's, over the cores
        there are."""
        return self._pool.traits(spec.name).seconds_per_pixel / self._pool.devices[0].cores
