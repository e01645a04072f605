"""News, within one process and among the servers of a cluster."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.nats_servers import nats_server as own_server
from tests.nats_servers import settings_for

from upscaled_server.state.nats.news import NatsNews
from upscaled_server.state.news import LocalNews, News


@pytest.fixture(params=["local", "nats"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[News, News]]:
    """What two servers have; the same where there is only one."""
    if request.param == "local":
        news = LocalNews()
        yield news, news
        return
    settings = settings_for([request.getfixturevalue("nats_server")])
    one, other = await NatsNews.open(settings), await NatsNews.open(settings)
    yield one, other
    await one.aclose()
    await other.aclose()


async def test_who_listens_hears_what_is_told_from_then_on(pair: tuple[News, News]) -> None:
    one, other = pair
    await one.tell("a", b"before")
    assert await one.ask("nothing") is None  # what was sent before has come
    async with other.listening("a") as listener, other.listening("b") as elsewhere:
        assert await other.ask("nothing") is None
        await one.tell("a", b"after")
        assert await _soon(listener.next()) == b"after"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(elsewhere.next(), 0.05)


async def test_of_many_messages_the_last_is_what_counts(pair: tuple[News, News]) -> None:
    one, other = pair
    async with other.listening("a") as listener:
        await _until(lambda: _told(one, "a", b"0", listener.next))
        for number in range(1, 100):
            await one.tell("a", str(number).encode())
        while await _soon(listener.next()) != b"99":
            pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(listener.next(), 0.05)


async def test_who_asks_is_answered_while_somebody_answers(pair: tuple[News, News]) -> None:
    one, other = pair
    assert await other.ask("a") is None
    answers = itertools.count()
    async with one.answering("a", lambda: str(next(answers)).encode()):
        await _until(lambda: _is(other.ask("a"), b"0"))  # once that is known everywhere
        assert await other.ask("a") == b"1"
    await _until(lambda: _is(other.ask("a"), None))


async def test_news_come_again_after_the_server_of_nats_was_away(tmp_path: Path) -> None:
    with own_server(tmp_path) as server:
        settings = settings_for([server])
        one, other = await NatsNews.open(settings), await NatsNews.open(settings)
        async with other.listening("a") as listener, one.answering("a", lambda: b"here"):
            server.kill()
            await one.tell("a", b"lost")
            assert await other.ask("a") is None
            server.start()
            await _until(lambda: _told(one, "a", b"again", listener.next))
            await _until(lambda: _is(other.ask("a"), b"here"))
            for each in (one, other):  # nats-py ends such a client for good: another takes its place
                each._connection.client._transport.write(b"NONSENSE\r\n")  # type: ignore[union-attr]
            await _until(lambda: _told(one, "a", b"again", listener.next))
            await _until(lambda: _is(other.ask("a"), b"here"))
        await one.aclose()
        await other.aclose()


async def _told(news: News, topic: str, data: bytes, hear: Callable[[], Awaitable[bytes]]) -> bool:
    await news.tell(topic, data)
    try:
        return await asyncio.wait_for(hear(), 0.2) == data
    except TimeoutError:
        return False


async def _is(asked: Awaitable[bytes | None], expected: bytes | None) -> bool:
    return await asked == expected


async def _soon(awaitable: Awaitable[bytes]) -> bytes:
    return await asyncio.wait_for(awaitable, 20)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
