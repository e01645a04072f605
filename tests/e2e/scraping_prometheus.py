"""A real Prometheus that scrapes one server every second."""

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

from tests.edge.conftest import free_address

_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: upscaled
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    address: str

    def query(self, expr: str) -> dict[frozenset[tuple[str, str]], float]:
        """What an instant query finds now, by the labels but for those of the target."""
        target = {"job", "instance"}
        return {
            frozenset((name, value) for name, value in each["metric"].items() if name not in target): float(
                each["value"][1]
            )
            for each in self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expr}))["result"]
        }

    def value(self, expr: str) -> float:
        """Of a query that finds one series."""
        (value,) = self.query(expr).values()
        return value

    def wait_for(self, expr: str, wanted: float) -> None:
        """Until the one series has this value."""
        deadline = time.monotonic() + 60
        while (found := self.query(expr)) == {} or list(found.values()) != [wanted]:
            assert time.monotonic() < deadline, f"{expr}: {found}"
            time.sleep(0.3)

    def _get(self, path: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
        return found


@contextmanager
def scraping_prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """It keeps its data in the folder. Skips the test where there is no Prometheus."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    folder.mkdir()
    (folder / "prometheus.yaml").write_text(_CONFIG.format(target=target))
    address = free_address()
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
        process.wait(30)


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if prometheus.query("up == 1"):
                return
        except OSError:
            pass
        time.sleep(0.2)
