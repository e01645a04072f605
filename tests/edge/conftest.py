"""A real server with Envoy in front of it."""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import REPO
from tests.e2e.conftest import RunningServer, running_server
from tests.ports import free_address

START_SECONDS = 30
MODEL = "real-esrgan-animevideo-v3"


@dataclass(frozen=True, slots=True)
class Edge:
    """Envoy's address as HOST:PORT, and the server behind it."""

    address: str
    server: RunningServer

    @property
    def url(self) -> str:
        return f"http://{self.address}"


def script() -> dict[str, Any]:
    """The functions of `scripts/edge.py`."""
    folder = str(REPO / "scripts")
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(f"{folder}/edge.py")
    finally:
        sys.path.remove(folder)


@contextmanager
def running_edge(server: RunningServer, address: str = "", tls: Path | None = None) -> Iterator[Edge]:
    """`tls`: a folder with tls.crt and tls.key; who waits for it does not look at its certificate."""
    address = address or free_address()
    scheme = "http" if tls is None else "https"
    edge = script()
    with edge["envoy"](edge["Addresses"](address, server.address, tls=tls)) as process:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                answer = httpx.get(
                    f"{scheme}://{address}/v1/server", timeout=5, trust_env=False, verify=False
                )
                if answer.status_code in (200, 401):
                    break
            except httpx.TransportError as error:
                if "certificate required" in str(error).lower():
                    break  # it is there, and asks for what we do not have
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Envoy did not start")
            time.sleep(0.1)
        yield Edge(address, server)


@pytest.fixture(scope="package", autouse=True)
def _envoy_is_here() -> None:
    pytest.importorskip("envoy", reason="Envoy comes with the extra `edge`: make edge-test")


@pytest.fixture(scope="package")
def edge(_envoy_is_here: None) -> Iterator[Edge]:
    """One server without keys and one Envoy for all tests here that only call them."""
    models = REPO.parent / "shared" / "models"
    extra = {"UPSCALED_MODEL_DIR": str(models)} if models.is_dir() else {}
    with running_server(**extra) as server, running_edge(server) as running:
        yield running


@pytest.fixture(scope="package")
def http(edge: Edge) -> Iterator[httpx.Client]:
    # A proxy of the machine has no business between a test and its own server.
    with httpx.Client(base_url=edge.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of 96x64 pixels with edges and gradients in it."""
    from PIL import Image

    path = tmp_path_factory.mktemp("edge") / "picture.png"
    sample = Image.open(REPO / "docs" / "sample.png").convert("RGB")
    sample.resize((96, 64)).save(path)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What held, file by file, for people and as JSON."""
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            path = report.nodeid.partition("::")[0]
            if path.startswith("tests/edge/"):
                counts.setdefault(path, Counter())[outcome] += 1
    for path, found in sorted(counts.items()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
        terminalreporter.write_line(f"{path}: {said}")
    target = REPO / "bench-results" / "edge-test.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")


def screenshots() -> Path | None:
    """Where pictures of the pages go if somebody wants to look at them."""
    folder = os.environ.get("SCREENSHOTS")
    return Path(folder) if folder else None
