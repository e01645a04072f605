"""Whether a server is again what it was before something was done to it."""

from __future__ import annotations

import gc
import hashlib
import time
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.conftest import RunningServer
from tests.e2e.keyed import FAST, picture
from tests.soak.levels import Levels
from upscaled import Client

_WARM_UP: Final = 3
_QUIET_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 30.0
# Of pixels, for the next rows: `pool/pixels.py`.
_KEPT_BUFFERS: Final = 8
_DESCRIPTORS: Final = 2
_THREADS: Final = 2


class Control:
    """Takes an image's bytes and the server's levels when it is made, on a server that does nothing else."""

    def __init__(self, server: RunningServer, api_key: str | None = None) -> None:
        self._server = server
        self._api_key = api_key
        self._sha256 = {self._image() for _ in range(_WARM_UP)}
        time.sleep(_QUIET_SECONDS)
        self.before = self.after = Levels.of(server.process.pid)

    def differences(self) -> list[str]:
        """What is not as before, as sentences. Waits for what takes a moment to be given back."""
        if self._server.process.poll() is not None:
            return [f"the server ended with {self._server.process.poll()}"]
        found = self._unhealthy()
        if self._image() not in self._sha256:
            found.append("the control image has other bytes than before")
        give_up = time.monotonic() + _LONGEST_SECONDS
        while (left := self._left_over()) and time.monotonic() < give_up:
            time.sleep(0.5)
        return found + left

    def _unhealthy(self) -> list[str]:
        with grpc.insecure_channel(self._server.address) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        serving = health_pb2.HealthCheckResponse.SERVING
        return [] if answer.status == serving else [f"health says {answer.status}, not SERVING"]

    def _image(self) -> str:
        with Client(self._server.address, api_key=self._api_key, timeout=120) as client:
            return hashlib.sha256(client.upscale(picture(40, 30), model=FAST).data).hexdigest()

    def _left_over(self) -> list[str]:
        # gRPC keeps connections of clients here until the collector has found the errors of their calls.
        gc.collect()
        before, now = self.before, Levels.of(self._server.process.pid)
        self.after = now
        bounds = {
            "descriptors": before.descriptors + _DESCRIPTORS,
            "threads": before.threads + _THREADS,
            "buffers": _KEPT_BUFFERS,
            "processes": before.processes,
            "shared_files": before.shared_files,
        }
        return [
            f"{getattr(now, name)} {name.replace('_', ' ')} are left, {getattr(before, name)} were there"
            for name, bound in bounds.items()
            if getattr(now, name) > bound
        ]
