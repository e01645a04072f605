"""A real server process on a free port, with a state folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import REPO

START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that serves, and its process."""

    address: str
    process: subprocess.Popen[str]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def running_server(log: Path | None = None, **environ: str) -> Iterator[RunningServer]:
    """Start `upscaled serve` with these variables; it is stopped at the end, however that comes. `log`: what
    it says on stderr."""
    with tempfile.TemporaryDirectory(prefix="upscaled-test-") as folder, ExitStack() as stack:
        stderr: IO[bytes] | int | None = subprocess.DEVNULL
        if log is not None:
            stderr = stack.enter_context(log.open("ab"))
        elif os.environ.get("SERVER_LOGS"):
            stderr = None
        process = subprocess.Popen(
            [sys.executable, "-m", "upscaled", "serve", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=REPO,
            env={**os.environ, "UPSCALED_DATA_DIR": folder, **environ},
        )
        server = None
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "listening on " not in line:
                raise RuntimeError(f"the server did not start: {line!r}, exit status {process.poll()}")
            server = RunningServer(line.rpartition(" ")[2].strip(), process)
            yield server
        finally:
            if server is not None:
                server.stop()
            elif process.poll() is None:
                process.kill()
            process.wait(60)
            if process.stdout:
                process.stdout.close()


@pytest.fixture(scope="package")
def server() -> Iterator[RunningServer]:
    """One server for all tests here that only call it."""
    shared_models = REPO.parent / "shared" / "models"
    extra = {"UPSCALED_MODEL_DIR": str(shared_models)} if shared_models.is_dir() else {}
    with running_server(**extra) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    """A server for one test that stops or burdens it."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def sample() -> Path:
    return REPO / "docs" / "sample.png"
