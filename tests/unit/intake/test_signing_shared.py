"""Servers that share a store sign with the same keys, from the first moment and after every change."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr
from tests.reached_store import Reached

from upscaled_server.errors import Unauthenticated
from upscaled_server.intake.secrets import Secrets, SecretSettings
from upscaled_server.intake.signing import UrlSigner
from upscaled_server.state.store import Store

KEY = "secrets/signing"
ID, NOW = "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_790_000_000
NEW = b"n" * 32


@asynccontextmanager
async def following(secrets: Secrets) -> AsyncIterator[None]:
    task = asyncio.create_task(secrets.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def put(store: Store, *keys: bytes) -> None:
    """What a rotation writes."""
    found = await store.get(KEY)
    assert found is not None
    made = [{"id": str(n), "created": 0, "key": base64.b64encode(key).decode()} for n, key in enumerate(keys)]
    await store.update(KEY, json.dumps(made).encode(), found.version)


async def test_servers_that_start_at_once_make_one_key(store: Store) -> None:
    made = await asyncio.gather(*(Secrets.load(SecretSettings(), store) for _ in range(8)))
    assert len({tuple(each.keys) for each in made}) == 1
    assert [len(key) for key in made[0].keys] == [32]


async def test_a_key_that_another_server_brings_signs_and_the_old_one_is_accepted(store: Store) -> None:
    secrets = await Secrets.load(SecretSettings(), store)
    (old,) = secrets.keys
    signer = UrlSigner(secrets.keys, "", clock=lambda: NOW)
    signed = signer.sign(ID, NOW + 10)
    webhook_secret = secrets.webhook_secrets("anna")[0]
    async with following(secrets):
        await put(store, NEW, old)
        await until(lambda: secrets.keys[0] == NEW)
        assert signer.sign(ID, NOW + 10) == UrlSigner([NEW], "").sign(ID, NOW + 10)
        signer.verify(ID, NOW + 10, signed)
        assert secrets.webhook_secrets("anna")[1] == webhook_secret
        await put(store, NEW)
        await until(lambda: len(secrets.keys) == 1)
        with pytest.raises(Unauthenticated):
            signer.verify(ID, NOW + 10, signed)


async def test_what_was_changed_before_it_followed_or_while_the_store_was_away_is_known(store: Store) -> None:
    reached = Reached(store)
    secrets = await Secrets.load(SecretSettings(), reached)
    await put(store, NEW)
    async with following(secrets):
        await until(lambda: list(secrets.keys) == [NEW])
        reached.become("away")
        await put(store, b"m" * 32, NEW)
        await asyncio.sleep(0)
        reached.become("near")
        await until(lambda: len(secrets.keys) == 2)


@pytest.mark.parametrize("value", [b"?", b"[]", b"[{}]"])
async def test_what_cannot_be_read_changes_nothing(store: Store, value: bytes) -> None:
    secrets = await Secrets.load(SecretSettings(), store)
    before = list(secrets.keys)
    found = await store.get(KEY)
    assert found is not None
    version = await store.update(KEY, value, found.version)
    async with following(secrets):
        await asyncio.sleep(0.2)
        assert list(secrets.keys) == before
        found = await store.get(KEY)
        assert found is not None
        assert found.version == version
        await put(store, NEW)
        await until(lambda: list(secrets.keys) == [NEW])


async def test_keys_of_the_settings_follow_nobody(store: Store) -> None:
    await Secrets.load(SecretSettings(), store)
    secrets = await Secrets.load(SecretSettings(signing_keys=SecretStr("g" * 32)), store)
    async with asyncio.timeout(30):
        await secrets.follow()
    await put(store, NEW)
    assert list(secrets.keys) == [b"g" * 32]
