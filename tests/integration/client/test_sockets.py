"""A client that is closed has no connection left, whatever its calls ended with and before any garbage
collection: a process that makes many clients would run out of descriptors.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from fake_server import Failure, FakeServer

from upscaled import Client, NotFoundError, UnavailableError

_ESTABLISHED = "01"

CALLS: dict[str, Callable[[Client, bytes], object]] = {
    "ListModels": lambda client, _: client.models.list(),
    "Upscale": lambda client, image: client.upscale(image),
    "UpscaleStream": lambda client, image: list(client.upscale_stream(image)),
    "CreateInput": lambda client, image: client.inputs.upload(image),
    "DownloadOutput": lambda client, _: client.outputs.read("output"),
}


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections(server: FakeServer) -> int:
    """From clients of this process to the server."""
    port = f":{int(server.target.rpartition(':')[2]):04X}"
    tables = (Path(f"/proc/self/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables for line in table]
    return sum(remote.endswith(port) and state == _ESTABLISHED for _, _, remote, state, *_ in rows)


def none_is_left(server: FakeServer) -> bool:
    gives_up = time.monotonic() + 5
    while connections(server) and time.monotonic() < gives_up:
        time.sleep(0.01)
    return not connections(server)


@pytest.mark.parametrize("method", CALLS)
def test_a_refused_call_keeps_no_connection(
    server: FakeServer, png: Callable[..., bytes], method: str
) -> None:
    server.fail(method, Failure(grpc.StatusCode.NOT_FOUND))
    with Client(server.target, retries=0) as client:
        with pytest.raises(NotFoundError):
            CALLS[method](client, png())
        assert connections(server) == 1
    assert none_is_left(server)


def test_a_collected_stream_that_failed_keeps_no_connection(server: FakeServer, tmp_path: Path) -> None:
    server.fail("UpscaleStream", Failure(grpc.StatusCode.NOT_FOUND))
    with Client(server.target, retries=0) as client, pytest.raises(NotFoundError):
        client.upscale(b"image", output=tmp_path / "out.png")
    assert none_is_left(server)


def test_a_watch_that_broke_keeps_no_connection(server: FakeServer) -> None:
    server.jobs.cuts = deque([1])
    with Client(server.target, retries=0) as client, pytest.raises(UnavailableError):
        list(client.jobs.create(b"image").watch())
    assert none_is_left(server)
