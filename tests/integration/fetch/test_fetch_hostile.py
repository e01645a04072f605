"""Origins that lie, dawdle or never end cost little."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator

import pytest
from fetch_world import World
from origin import png

from upscaled_server.errors import (
    DeadlinePassed,
    DomainError,
    FetchFailed,
    LimitExceeded,
    NotAnImage,
    Overloaded,
)

LIMIT = 8 << 20
MAX_GROWTH = 64 << 20


@pytest.fixture
async def bounded_memory() -> AsyncIterator[None]:
    before = _peak()
    yield
    assert _peak() - before < MAX_GROWTH


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.usefixtures("bounded_memory")
@pytest.mark.parametrize("path", ["endless", "bomb"])
async def test_a_body_without_end_is_cut_at_the_limit(world: World, path: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await world.fetcher().fetch(f"http://public.test/{path}", max_bytes=LIMIT)
    assert LIMIT < int(caught.value.numbers["actual"]) <= LIMIT + (1 << 18)
    await _everything_is_closed(world)


async def test_a_size_that_is_announced_above_the_limit_is_refused_at_once(world: World) -> None:
    with pytest.raises(LimitExceeded):
        await world.fetcher().fetch("http://public.test/ok.png", max_bytes=len(png()) - 1)
    assert await world.fetcher().fetch("http://public.test/ok.png", max_bytes=len(png())) == png()


@pytest.mark.usefixtures("bounded_memory")
@pytest.mark.parametrize("path", ["endless-head", "endless-promises"])
async def test_headers_without_end_are_cut(world: World, path: str) -> None:
    with pytest.raises(FetchFailed, match="HTTP"):
        await world.fetcher().fetch(f"http://public.test/{path}", max_bytes=LIMIT)
    await _everything_is_closed(world)


@pytest.mark.parametrize("path", ["slow", "silent", "stalled"])
async def test_an_origin_that_dawdles_is_left(world: World, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(FetchFailed):
        await world.fetcher(fetch_idle_seconds=0.3).fetch(f"http://public.test/{path}", max_bytes=LIMIT)
    assert time.monotonic() - began < 30  # all of them would last a minute
    await _everything_is_closed(world)


async def test_the_whole_time_of_an_image_is_limited(world: World) -> None:
    with pytest.raises(FetchFailed, match="too long"):
        await world.fetcher(fetch_seconds=0.3).fetch("http://public.test/silent", max_bytes=LIMIT)


async def test_the_callers_deadline_ends_it_too(world: World) -> None:
    with pytest.raises(DeadlinePassed):
        await world.fetcher().fetch("http://public.test/silent", max_bytes=LIMIT, deadline_seconds=0.3)


async def test_a_page_is_refused_whatever_it_says_it_is(world: World) -> None:
    with pytest.raises(NotAnImage):
        await world.fetcher().fetch("http://public.test/html-200", max_bytes=LIMIT)


@pytest.mark.parametrize(
    "path",
    [
        "lie-length-short",
        "lie-length-long",
        "no-http",
        "error",
        "missing",
        "crumbs",
        "brotli",
        "gzip-cut",
        "r/302-to-nothing",
    ],
)
async def test_an_answer_that_is_not_the_file_is_refused(world: World, path: str) -> None:
    with pytest.raises(FetchFailed) as caught:
        await world.fetcher().fetch(f"http://public.test/{path}?SECRET41", max_bytes=LIMIT)
    assert "SECRET41" not in caught.value.message
    assert "FORGED-41" not in caught.value.message


async def test_gzip_that_was_not_asked_for_is_unpacked(world: World) -> None:
    assert await world.fetcher().fetch("http://public.test/gzip", max_bytes=LIMIT) == png()
    assert world.origin.asked[0][1]["accept-encoding"] == "identity"


async def test_images_on_their_way_are_counted_together(world: World) -> None:
    world.memory.take((1 << 28) - 10)
    with pytest.raises(Overloaded):
        await world.fetcher().fetch("http://public.test/ok.png", max_bytes=LIMIT)
    world.memory.give_back((1 << 28) - 10)


async def test_a_caller_with_slow_origins_holds_back_only_itself(world: World) -> None:
    fetcher = world.fetcher(max_concurrent_fetches=8)
    slow = [
        asyncio.create_task(
            fetcher.fetch("http://public.test/silent", max_bytes=LIMIT, deadline_seconds=30, caller="mallory")
        )
        for _ in range(20)
    ]
    assert await fetcher.fetch("http://public.test/ok.png", max_bytes=LIMIT, caller="anna") == png()
    assert sum("silent" in line for line, _ in world.origin.asked) <= 2
    for each in slow:
        each.cancel()
    await asyncio.wait(slow)


async def test_no_message_and_no_log_line_names_the_query(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    fetcher, said = world.fetcher(), []
    for path in ("ok.png", "missing", "no-http", "html-200", "r/302-to-loopback", "r/302-to-user"):
        try:
            await fetcher.fetch(f"http://public.test/{path}?SECRET41", max_bytes=LIMIT)
        except DomainError as error:
            said.append(f"{error.message} {error.numbers}")
    assert len(said) == 5
    assert caplog.records
    assert "SECRET41" not in " ".join([*said, caplog.text])


async def _everything_is_closed(world: World) -> None:
    """The origin notices that its reader has gone."""
    async with asyncio.timeout(20):
        await world.origin.quiet.wait()
