"""What must hold of a server after whatever was done to it: it serves, a control image has the same bytes,
and nothing is left over."""

from __future__ import annotations

import gc
import hashlib
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.conftest import RunningServer
from tests.e2e.keyed import FAST, picture
from tests.soak.levels import Levels
from upscaled import Client, UpscaledError

_LONGEST_SECONDS = 60.0
_AGAIN_SECONDS = 0.5
# Threads come as they are first needed, of pools that do not grow with the number of requests.
_LATE_THREADS = 8
_LATE_DESCRIPTORS = 2
# Of pixels, for the next rows: eight, each open twice, as a mapping has a descriptor of its own
# (`pool/pixels.py`).
_KEPT_BUFFERS = 16


class Control:
    """Taken of a server that is in order. `before` is what it held then.

    `stores`: the scenario has files stored, and storage has threads of its own from the first file on.
    """

    def __init__(self, server: RunningServer, key: str | None = None, *, stores: bool = False) -> None:
        self._key = key
        if stores:
            with Client(server.address, timeout=120, api_key=key) as client:
                client.upscale(picture(40, 30), model=FAST, delivery="url")
        with ThreadPoolExecutor(4) as callers:
            answers = set(callers.map(lambda _: self._image(server), range(8)))
        if len(answers) != 1:
            raise RuntimeError("the control image has different bytes from the start")
        self._expected = answers.pop()
        time.sleep(2)
        self.before = Levels.of(server.process.pid)
        self.after = self.before
        self._opened = _opened(server.process.pid)

    def problems(self, server: RunningServer) -> list[str]:
        """What is not as it was; levels may take up to a minute to come down."""
        if server.process.poll() is not None:
            return [f"the server has ended with {server.process.returncode}"]
        found = []
        if not is_serving(server):
            found.append("health is not SERVING")
        try:
            if self._image(server) != self._expected:
                found.append("the control image has other bytes")
        except UpscaledError as error:
            found.append(f"the control image failed: {error}")
        return found + self._left_over(server)

    def _left_over(self, server: RunningServer) -> list[str]:
        until = time.monotonic() + _LONGEST_SECONDS
        while True:
            # gRPC keeps connections of clients here until the collector has found the errors of their calls;
            # the server's own collector comes with its work.
            gc.collect()
            with suppress(UpscaledError):
                self._image(server)
            self.after = Levels.of(server.process.pid)
            found = self._above()
            if not found or time.monotonic() > until:
                more = _opened(server.process.pid) - self._opened
                return [f"{each} (opened since: {dict(more)})" for each in found]
            time.sleep(_AGAIN_SECONDS)

    def _above(self) -> list[str]:
        before, after = asdict(self.before), asdict(self.after)
        allowed = {
            "descriptors": before["descriptors"] + _LATE_DESCRIPTORS,
            "threads": before["threads"] + _LATE_THREADS,
            "processes": before["processes"],
            "shared_files": before["shared_files"],
            "buffers": _KEPT_BUFFERS,
        }
        return [
            f"{name.replace('_', ' ')}: {before[name]} before, {after[name]} afterwards"
            for name, most in allowed.items()
            if after[name] > most
        ]

    def _image(self, server: RunningServer) -> str:
        with Client(server.address, timeout=120, api_key=self._key) as client:
            return hashlib.sha256(client.upscale(picture(40, 30), model=FAST).data).hexdigest()


def _opened(pid: int) -> Counter[str]:
    """What a process has open, by kind: the numbers of sockets and pipes say nothing."""
    kinds = Counter[str]()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            kinds[re.sub(r":\[\d+\]$", "", str(each.readlink()))] += 1
    return kinds


def is_serving(server: RunningServer) -> bool:
    with grpc.insecure_channel(server.address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
