"""Calls end with their key, and with nothing else."""

from __future__ import annotations

import asyncio

import pytest

from upscaled_server.access.sessions import Sessions
from upscaled_server.errors import Unauthenticated


async def _call(sessions: Sessions, key_id: str) -> None:
    with sessions.entered(key_id):
        await asyncio.sleep(60)


async def test_the_calls_of_a_key_that_ends_are_unauthenticated_and_others_go_on() -> None:
    sessions = Sessions()
    mine = [asyncio.create_task(_call(sessions, "a")) for _ in range(3)]
    other = asyncio.create_task(_call(sessions, "b"))
    await asyncio.sleep(0)
    sessions.end("a")
    outcomes = await asyncio.gather(*mine, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Unauthenticated] * 3
    assert not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_a_caller_that_leaves_in_the_same_moment_is_gone() -> None:
    sessions = Sessions()
    call = asyncio.create_task(_call(sessions, "a"))
    await asyncio.sleep(0)
    sessions.end("a")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_nothing_is_kept_of_calls_that_are_over() -> None:
    sessions = Sessions()
    for key_id in ("a", "b"):
        with sessions.entered(key_id), sessions.entered(key_id):
            pass
    assert not sessions._of_key
    sessions.end("a")
