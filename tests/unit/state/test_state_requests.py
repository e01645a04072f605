"""A request id stands for one thing."""

from __future__ import annotations

import asyncio

import pytest

from upscaled_server.errors import AlreadyExists
from upscaled_server.state import requests
from upscaled_server.state.store import Store


async def _claim(store: Store, new_id: str, **changes: str) -> str:
    given = {"caller": "anna", "request_id": "r1", "kind": "input", "payload": "abc"} | changes
    return await requests.claim(
        store,
        given["caller"],
        given["request_id"],
        kind=given["kind"],
        payload_sha256=given["payload"],
        new_id=new_id,
    )


async def test_the_same_request_has_the_same_id(store: Store) -> None:
    assert await _claim(store, "A") == "A"
    assert await _claim(store, "B") == "A"


async def test_many_at_once_agree(store: Store) -> None:
    claimed = await asyncio.gather(*(_claim(store, name) for name in "ABCDEFGH"))
    assert len(set(claimed)) == 1


async def test_callers_do_not_share_request_ids(store: Store) -> None:
    assert await _claim(store, "A") == "A"
    assert await _claim(store, "B", caller="ben") == "B"


@pytest.mark.parametrize("change", [{"kind": "job"}, {"payload": "other"}])
async def test_another_request_under_the_same_id_is_refused(store: Store, change: dict[str, str]) -> None:
    await _claim(store, "A")
    with pytest.raises(AlreadyExists, match="r1"):
        await _claim(store, "B", **change)


async def test_any_text_can_be_a_request_id(store: Store) -> None:
    assert await _claim(store, "A", request_id="../ \0 ü " + "x" * 1000) == "A"


async def test_a_forgotten_request_id_is_free_again(store: Store) -> None:
    await _claim(store, "A")
    await requests.forget(store, "anna", "r1", "somebody else's")
    assert await _claim(store, "B") == "A"
    await requests.forget(store, "anna", "r1", "A")
    assert await _claim(store, "C") == "C"
    await requests.forget(store, "anna", "never claimed", "A")
