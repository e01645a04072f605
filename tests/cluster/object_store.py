"""An object store that speaks S3, as a process of its own (moto's server). It keeps everything in memory."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tests.nats_servers import free_ports

BUCKET = "upscaled"

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """`url` is its address; `environ` is what a server needs to keep its files there."""

    url: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            "UPSCALED_BLOBS_URL": f"s3://{BUCKET}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """With an empty bucket; its log is in `folder`."""
    (port,) = free_ports(1)
    store = ObjectStore(f"http://127.0.0.1:{port}")
    with (folder / "object-store.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        _make_bucket(store.url, process)
        yield store
    finally:
        process.kill()
        process.wait(10)


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    # Proxies of the machine have no business between this and its own server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            opener.open(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=10).close()
            return
        except (URLError, OSError):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the object store did not start (pip install 'moto[server]')") from None
            time.sleep(0.1)
