"""A real S3 server of this machine: moto's, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class S3Server:
    endpoint: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to use it: credentials may be anything."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
        }

    def new_bucket(self) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        self._ask("PUT", name)
        return name

    def unfinished(self, bucket: str) -> list[str]:
        """Keys of multipart uploads that were begun and neither completed nor given up."""
        return re.findall(r"<Key>([^<]+)</Key>", self._ask("GET", f"{bucket}?uploads"))

    def _ask(self, method: str, path: str) -> str:
        request = urllib.request.Request(f"{self.endpoint}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Skips where moto is not installed."""
    pytest.importorskip("moto.server", reason="moto is not installed (pip install 'moto[s3,server]')")
    port = free_port()
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        server = S3Server(f"http://127.0.0.1:{port}")
        _wait(server, process, folder / "moto.log")
        yield server
    finally:
        process.kill()
        process.wait(10)


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(server.endpoint, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"moto's server did not start within {_START_SECONDS:g} s")
