"""Objects are read from the buckets that the operator names, over the S3 protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fetch_world import World
from origin import png

from upscaled_server.errors import FetchFailed, LimitExceeded, NotAnImage, UrlRefused

LIMIT = 1 << 20
OBJECTS = {
    "/photos/in/a.png": png(),
    "/photos/in/b c.png": png(),
    "/photos/in/large.png": png(padding=2 * LIMIT),
    "/photos/in/page.png": b"<html>" + b" " * 100,
    "/photos/private/a.png": png(),
}


class ObjectServer:
    """Answers to GET as S3 does."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            line = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]
            self.asked.append(line)
            body = OBJECTS.get(line.split(" ")[1].replace("%20", " "))
            if body is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
                    'ETag: "1"\r\nLast-Modified: Sun, 22 Nov 2026 03:00:00 GMT\r\n\r\n'
                )
                writer.write(head.encode() + body)
            await writer.drain()


@pytest.fixture
async def objects(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectServer]:
    server = ObjectServer()
    port = await server.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    await server.stop()


@pytest.mark.parametrize("key", ["in/a.png", "in/b c.png"])
async def test_an_object_of_an_allowed_folder_is_read(world: World, objects: ObjectServer, key: str) -> None:
    fetcher = world.fetcher(fetch_buckets="s3://photos/in")
    fetcher.check(f"s3://photos/{key}")
    assert await fetcher.fetch(f"s3://photos/{key}", max_bytes=LIMIT) == png()
    assert len(objects.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "s3://photos/private/a.png",
        "s3://photos/inside/a.png",
        "s3://photos/in/../private/a.png",
        "s3://photos/in/./a.png",
        "s3://photos/in//a.png",
        "s3://photos/in/",
        "s3://photos/in",
        "s3://photos",
        "s3://photos2/in/a.png",
        "s3://user@photos/in/a.png",
        "gs://photos/in/a.png",
        "s3:photos/in/a.png",
        "az://photos/in/a.png",
        "file:///photos/in/a.png",
    ],
)
async def test_everything_else_is_refused_before_anything_is_asked(
    world: World, objects: ObjectServer, url: str
) -> None:
    fetcher = world.fetcher(fetch_buckets="s3://photos/in")
    with pytest.raises(UrlRefused):
        fetcher.check(url)
    with pytest.raises(UrlRefused):
        await fetcher.fetch(url, max_bytes=LIMIT)
    assert objects.asked == []


@pytest.mark.usefixtures("objects")
async def test_without_allowed_buckets_there_is_none(world: World) -> None:
    with pytest.raises(UrlRefused, match="UPSCALED_FETCH_BUCKETS"):
        await world.fetcher().fetch("s3://photos/in/a.png", max_bytes=LIMIT)


@pytest.mark.usefixtures("objects")
async def test_objects_have_the_limits_of_other_images(world: World) -> None:
    fetcher = world.fetcher(fetch_buckets="s3://photos")
    with pytest.raises(LimitExceeded):
        await fetcher.fetch("s3://photos/in/large.png", max_bytes=LIMIT)
    with pytest.raises(NotAnImage):
        await fetcher.fetch("s3://photos/in/page.png", max_bytes=LIMIT)
    with pytest.raises(FetchFailed, match="no such object"):
        await fetcher.fetch("s3://photos/in/missing.png", max_bytes=LIMIT)
