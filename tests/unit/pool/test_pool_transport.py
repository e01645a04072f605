"""Messages and descriptors between two ends."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from upscaled_server.pool.transport import MAX_MESSAGE_BYTES, Channel


class _End:
    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[dict[str, Any]] = []
        self.fds: list[int | None] = []
        self.closed = asyncio.Event()
        self._came = asyncio.Event()
        self.channel = Channel(sock, self._got, self.closed.set)

    def _got(self, message: dict[str, Any], fd: int | None) -> None:
        self.messages.append(message)
        self.fds.append(fd)
        self._came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._came.clear()
                await self._came.wait()


def _ends() -> tuple[_End, _End]:
    ours, theirs = Channel.pair()
    return _End(ours), _End(theirs)


async def test_messages_arrive_in_order_also_when_the_socket_is_full() -> None:
    ours, theirs = _ends()
    text = "x" * 10_000

    for number in range(500):
        ours.channel.send({"number": number, "text": text})
    await theirs.until(500)

    assert [message["number"] for message in theirs.messages] == list(range(500))
    ours.channel.close()
    theirs.channel.close()


async def test_a_descriptor_arrives_with_its_own_message() -> None:
    ours, theirs = _ends()
    read, write = os.pipe()

    ours.channel.send({"number": 0})
    ours.channel.send({"number": 1}, write)
    ours.channel.send({"number": 2})
    await theirs.until(3)

    first, fd, last = theirs.fds
    assert first is last is None
    assert fd is not None
    assert not os.get_inheritable(fd)
    os.write(fd, b"hello")
    assert os.read(read, 5) == b"hello"
    for each in (read, write, fd):
        os.close(each)
    ours.channel.close()
    theirs.channel.close()


async def test_what_was_said_last_is_heard_before_the_end() -> None:
    ours, theirs = _ends()

    ours.channel.send({"last": "words"})
    ours.channel.close()
    await asyncio.wait_for(theirs.closed.wait(), 10)

    assert theirs.messages == [{"last": "words"}]
    theirs.channel.send({"to": "nobody"})  # silent


@pytest.mark.parametrize("packet", [b"no json", b"[1]", b'{"a":' + b"1" * MAX_MESSAGE_BYTES + b"}"])
async def test_an_end_that_does_not_speak_our_language_is_dropped(packet: bytes) -> None:
    ours, theirs = Channel.pair()
    end = _End(ours)

    theirs.send(packet)

    await asyncio.wait_for(end.closed.wait(), 10)
    assert end.messages == []
    theirs.close()


async def test_a_message_that_is_too_large_is_refused_by_the_sender() -> None:
    ours, theirs = _ends()

    with pytest.raises(ValueError, match="larger"):
        ours.channel.send({"text": "x" * MAX_MESSAGE_BYTES})

    ours.channel.close()
    theirs.channel.close()
