"""A fetcher on an internet of its own: a name server, the server at the public address, and a canary at every
other one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from dns_stub import NameServer, StubResolver
from fetch_world import World
from internet import Canary, Internet
from origin import OriginServer

from upscaled_server.intake.upload import UploadMemory


@pytest.fixture
async def world() -> AsyncIterator[World]:
    names, origin, canary = NameServer(), OriginServer(), Canary()
    address = await names.start()
    internet = Internet(await origin.start(), await canary.start())
    world = World(names, StubResolver(address), origin, canary, internet, UploadMemory(1 << 28), [])
    yield world
    for each in world.fetchers:
        await each.aclose()
    await canary.stop()
    await origin.stop()
    names.stop()
    assert world.memory.held_bytes == 0
