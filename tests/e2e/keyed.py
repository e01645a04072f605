"""A server with keys, administered as its operator would."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from tests.e2e.conftest import RunningServer, running_server
from upscaled.v1 import admin_pb2, admin_pb2_grpc

FAST = "real-esrgan-animevideo-v3"


@dataclass(frozen=True)
class KeyedServer:
    """`admin` goes through the socket in the data folder; `log` is what the server says."""

    server: RunningServer
    admin: admin_pb2_grpc.AdminStub
    folder: Path
    log: Path

    @property
    def address(self) -> str:
        return self.server.address

    def make_key(self, caller: str, *, admin: bool = False, **limits: object) -> str:
        """A key of a caller, which is made with these limits."""
        message = admin_pb2.Caller(name=caller, **limits)  # type: ignore[arg-type]
        self.admin.CreateCaller(admin_pb2.CreateCallerRequest(caller=message), timeout=10)
        return self.admin.CreateKey(admin_pb2.CreateKeyRequest(caller=caller, admin=admin), timeout=10).secret


@contextmanager
def keyed_server(folder: Path, **environ: str) -> Iterator[KeyedServer]:
    """A server whose state is in `folder` and outlives it."""
    log = folder / "server.log"
    with (
        running_server(log, UPSCALED_DATA_DIR=str(folder), UPSCALED_LOG_LEVEL="debug", **environ) as server,
        grpc.insecure_channel(f"unix:{folder}/admin.sock") as channel,
    ):
        yield KeyedServer(server, admin_pb2_grpc.AdminStub(channel), folder, log)


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`upscaled …`, with its output."""
    return subprocess.run(
        [sys.executable, "-m", "upscaled", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def picture(width: int, height: int) -> bytes:
    """A JPEG of noise."""
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=60)
    return out.getvalue()
