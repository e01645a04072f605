"""A real Prometheus, for tests that ask one."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

_READY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Prometheus:
    address: str

    def series(self, expr: str) -> list[dict[str, Any]]:
        """What an instant query finds now. Raises `HTTPError` for one that is refused."""
        found: list[dict[str, Any]] = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expr}))[
            "result"
        ]
        return found

    def get(self, path: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
        return found


@contextmanager
def prometheus_server(folder: Path, config: str) -> Iterator[Prometheus]:
    """It keeps its data in `folder`/data. Skips the test where there is no Prometheus."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus, of the package of that name")
    (folder / "prometheus.yaml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(address)
        _wait_until_ready(prometheus, process, folder / "log")
        yield prometheus
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            prometheus.series("1")
        except OSError:
            time.sleep(0.1)
        else:
            return
