"""One server of several, on an address that stays its own over all its lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import REPO

START_SECONDS = 120.0
_STOP_SECONDS = 90.0
_PAUSE_SECONDS = 0.05

SERVING = health_pb2.HealthCheckResponse.SERVING
JOBS = "upscaled.v1.Jobs"


@dataclass
class Replica:
    """`folder` has its data and `server.log`, which goes on over all its lives. `environ` may be changed
    before the next one. `lives` counts starts.
    """

    name: str
    folder: Path
    address: str
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "server.log"

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Returns at once; see `wait`."""
        assert not self.runs
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "upscaled", "serve", "--listen", self.address],
                stdout=log,
                stderr=log,
                cwd=REPO,
                env={**os.environ, "UPSCALED_DATA_DIR": str(self.folder / "data"), **self.environ},
            )
        self.lives += 1

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until its health is SERVING. Raises `RuntimeError` with the end of its log."""
        until = time.monotonic() + seconds
        while not self.is_serving():
            if not self.runs or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start:\n{self.tail()}")
            time.sleep(_PAUSE_SECONDS)

    def is_serving(self, service: str = "") -> bool:
        """What its health says, of the server or of one service by its full name."""
        with grpc.insecure_channel(self.address, [("grpc.enable_http_proxy", 0)]) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=service)
                return bool(health_pb2_grpc.HealthStub(channel).Check(request, timeout=2).status == SERVING)
            except grpc.RpcError:
                return False

    def kill(self) -> None:
        """As with kill -9; its workers end with it."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As an orchestrator does it; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
