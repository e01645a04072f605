"""Health (`grpc.health.v1`): of the process, and of the server and each of its services."""

from __future__ import annotations

from collections.abc import Iterable

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

# The name under which health says that the process answers, whatever else is the matter.
LIVENESS = "liveness"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Of the server itself grpc's servicer says SERVING until it is told: tell it before it can be asked."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services`: full names of the services that are ready when the server is."""
        self._servicer = health_aio.HealthServicer()
        self._names = ("", *services)
        self._impaired: set[str] = set()
        self.is_ready = False

    def add_to(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def live(self) -> None:
        """The process answers."""
        await self._servicer.set(LIVENESS, _SERVING)

    async def ready(self, is_ready: bool) -> None:
        """Whether the server takes work."""
        self.is_ready = is_ready
        for name in self._names:
            await self._tell(name)

    async def impaired(self, service: str, is_impaired: bool) -> None:
        """Whether a service does not work, though the server does."""
        (self._impaired.add if is_impaired else self._impaired.discard)(service)
        await self._tell(service)

    async def _tell(self, name: str) -> None:
        serving = self.is_ready and name not in self._impaired
        await self._servicer.set(name, _SERVING if serving else _NOT_SERVING)
