"""A sender over a real store and real sockets, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.integration.callbacks.fake_clock import FakeClock
from tests.integration.callbacks.post_office import Post
from tests.integration.callbacks.receiver import Receiver

from upscaled_server.state.store import Store


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def post(store: Store) -> AsyncIterator[Post]:
    open_here = {"callback_http": True, "callback_allow": "127.0.0.0/8:1"}
    post = Post(store, FakeClock(), open_here)
    yield post
    for each in post.senders:
        await each.aclose()
