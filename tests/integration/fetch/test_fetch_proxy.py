"""Through a proxy, which resolves and dials, what can be seen from here is still checked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import pytest
from fetch_world import World
from origin import png

from upscaled_server.errors import FetchFailed, UrlRefused

LIMIT = 1 << 20


class Proxy:
    """Knows the public server by heart, and refuses the rest."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(request)
        with contextlib.closing(writer):
            if request.startswith("GET http://public.test/"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(png()) + png())
            else:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    await proxy.start()
    yield proxy
    await proxy.stop()


async def test_fetches_go_through_it_with_its_password(world: World, proxy: Proxy) -> None:
    fetcher = world.fetcher(fetch_proxy=f"http://user:SECRET@127.0.0.1:{proxy.port}")
    assert await fetcher.fetch("http://public.test/ok.png?a=b", max_bytes=LIMIT) == png()
    (asked,) = proxy.asked
    assert asked.startswith("GET http://public.test/ok.png?a=b HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic " + base64.b64encode(b"user:SECRET").decode() in asked
    assert world.internet.dialled == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/",
        "http://internal.test/",
        "http://mixed.test/",
        "https://metadata.test/",
        "http://public.test:22/",
    ],
)
async def test_what_leads_inside_from_here_never_reaches_it(world: World, proxy: Proxy, url: str) -> None:
    with pytest.raises(UrlRefused):
        await world.fetcher(fetch_proxy=f"http://127.0.0.1:{proxy.port}").fetch(url, max_bytes=LIMIT)
    assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_name_that_only_the_proxy_may_know_is_left_to_it(
    world: World, proxy: Proxy, scheme: str
) -> None:
    fetcher = world.fetcher(fetch_proxy=f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(FetchFailed) as caught:
        await fetcher.fetch(f"{scheme}://unknown.test/a.png?SECRET41", max_bytes=LIMIT)
    assert len(proxy.asked) == 1
    assert "SECRET41" not in caught.value.message


async def test_a_proxy_that_is_down_is_a_failure(world: World) -> None:
    with pytest.raises(FetchFailed):
        await world.fetcher(fetch_proxy="http://127.0.0.1:1").fetch("http://public.test/", max_bytes=LIMIT)
