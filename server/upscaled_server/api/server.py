"""`Server`: what this server is and what it allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc.aio

from upscaled.v1 import server_pb2, server_pb2_grpc
from upscaled_server.access.access import Access
from upscaled_server.access.caller import Caller
from upscaled_server.api import caller
from upscaled_server.engine.catalogue import DEFAULT_MODEL
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pool.pool import Pool

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ServerServicer(server_pb2_grpc.ServerServicer):
    def __init__(
        self,
        pool: Pool,
        limits: LimitSettings,
        access: Access,
        *,
        version: str,
        input_formats: Sequence[str],
        output_formats: Sequence[str],
        keeping: KeepingSettings,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._access = access
        self._version = version
        self._input_formats = input_formats
        self._output_formats = output_formats
        self._keeping = keeping

    async def GetServerInfo(
        self, message: server_pb2.GetServerInfoRequest, context: Context
    ) -> server_pb2.ServerInfo:
        return server_pb2.ServerInfo(
            version=self._version,
            limits=self._limits_of(caller.identity.get().caller),
            devices=[
                server_pb2.Device(
                    id=device.name,
                    name=device.title,
                    backend=self._pool.backend_of(device),
                    cores=device.cores,
                    memory_bytes=device.budget_bytes,
                    ready=self._pool.is_up(device),
                )
                for device in self._pool.devices
            ],
            input_formats=self._input_formats,
            output_formats=self._output_formats,
            backends=self._pool.backends,
            default_model=DEFAULT_MODEL,
            authentication_required=self._access.needs_key,
        )

    def _limits_of(self, caller: Caller) -> server_pb2.Limits:
        answer = _limits(self._limits)
        answer.max_input_pixels = caller.pixels_within(answer.max_input_pixels)
        answer.default_retention.FromMilliseconds(round(self._keeping.default_retention_seconds * 1000))
        answer.max_retention.FromMilliseconds(round(self._keeping.max_retention_seconds * 1000))
        answer.max_concurrent = self._access.gates.limit_of(caller)
        return answer


def _limits(limits: LimitSettings) -> server_pb2.Limits:
    return server_pb2.Limits(
        max_input_pixels=limits.max_input_pixels,
        max_output_pixels=limits.max_output_pixels,
        max_input_bytes=limits.max_input_bytes,
        max_inline_bytes=limits.max_inline_bytes,
        max_message_bytes=limits.max_message_bytes,
        max_scale=limits.max_scale,
        max_passes=limits.max_passes,
        max_output_side=limits.max_output_side,
        max_input_side=limits.max_input_side,
        min_input_side=1,
        upload_idle_seconds=limits.upload_idle_seconds,
    )
