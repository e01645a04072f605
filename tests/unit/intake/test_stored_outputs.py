"""Outputs: there when they are whole, once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import pytest
from stored_tools import ANNA, BEN, Kept, Place, joined, keeping, store_output
from tests.both_stores import OpenStore

from upscaled_server.access.caller import Caller
from upscaled_server.errors import NotFound, QuotaExceeded
from upscaled_server.intake.stored_outputs import disposition
from upscaled_server.state.ulid import new_ulid

DATA = os.urandom(2_500_000)


def _later() -> float:
    return time.time() + 1000


async def test_an_output_is_there_with_its_size_and_hash(kept: Kept) -> None:
    made = await store_output(kept, new_ulid(), DATA, expires_at=_later())
    found = await kept.files.output("anna", made.id)
    assert found == made
    assert (found.size_bytes, found.sha256) == (len(DATA), hashlib.sha256(DATA).digest())
    assert (found.file_name, found.content_type, found.width, found.height) == (
        "photo.png",
        "image/png",
        10,
        20,
    )
    assert await joined(kept.files.read_output(found, 1000)) == DATA[1000:]
    assert await kept.files.stored_bytes("anna") == len(DATA)


async def test_nobody_sees_an_output_before_it_is_whole(kept: Kept) -> None:
    output_id = new_ulid()
    writing = kept.files.new_output(
        ANNA,
        output_id=output_id,
        file_name="a",
        content_type="image/png",
        width=1,
        height=1,
        expires_at=_later(),
    )
    async with writing as writer:
        await writer.write(DATA)
        for caller in ("anna", None):
            with pytest.raises(NotFound):
                await kept.files.output(caller, output_id)
    await kept.files.output("anna", output_id)


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_an_output_that_is_broken_off_leaves_nothing(kept: Kept, error: type[BaseException]) -> None:
    output_id = new_ulid()
    with pytest.raises(error):
        async with kept.files.new_output(
            ANNA,
            output_id=output_id,
            file_name="a",
            content_type="image/png",
            width=1,
            height=1,
            expires_at=_later(),
        ) as writer:
            await writer.write(DATA)
            raise error
    assert await kept.left_over() == []
    assert await kept.files.stored_bytes("anna") == kept.blobs.used_bytes == 0


async def test_a_second_output_of_the_same_id_replaces_the_first(kept: Kept) -> None:
    output_id = new_ulid()
    await store_output(kept, output_id, b"first", expires_at=_later())
    again = await store_output(kept, output_id, DATA, expires_at=_later())
    assert await joined(kept.files.read_output(await kept.files.output("anna", output_id))) == DATA
    assert again.size_bytes == await kept.files.stored_bytes("anna") == kept.blobs.used_bytes
    assert len([key for key in await kept.keys() if key.startswith("expiry")]) == 1


async def test_a_second_attempt_that_fails_leaves_the_first_output(kept: Kept) -> None:
    output_id = new_ulid()
    await store_output(kept, output_id, b"first", expires_at=_later())
    small = Caller("anna", max_stored_bytes=100)
    with pytest.raises(QuotaExceeded):
        await store_output(kept, output_id, DATA, caller=small, expires_at=_later())
    assert await joined(kept.files.read_output(await kept.files.output("anna", output_id))) == b"first"
    assert await kept.files.stored_bytes("anna") == kept.blobs.used_bytes == 5


async def test_another_callers_output_does_not_exist_but_for_its_signature(kept: Kept) -> None:
    made = await store_output(kept, new_ulid(), DATA, expires_at=_later())
    with pytest.raises(NotFound):
        await kept.files.output(BEN.name, made.id)
    assert await kept.files.output(None, made.id) == made


@pytest.mark.parametrize("bad", ["", "../../state.db", "a\0b", "x" * 1_000_000, "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
async def test_an_id_that_the_server_did_not_make_is_not_found(kept: Kept, bad: str) -> None:
    with pytest.raises(NotFound):
        await kept.files.output(None, bad)
    await kept.files.delete_output(bad)


async def test_a_deleted_output_leaves_nothing(kept: Kept) -> None:
    made = await store_output(kept, new_ulid(), DATA, expires_at=_later())
    await kept.files.delete_output(made.id)
    await kept.files.delete_output(made.id)
    assert await kept.left_over() == []
    assert await kept.files.stored_bytes("anna") == kept.blobs.used_bytes == 0


async def test_an_expired_output_is_gone_before_it_is_deleted(kept: Kept) -> None:
    made = await store_output(kept, new_ulid(), DATA, expires_at=time.time() - 0.001)
    kept_one = await store_output(kept, new_ulid(), DATA, expires_at=_later())
    for caller in ("anna", None):
        with pytest.raises(NotFound):
            await kept.files.output(caller, made.id)
    for each in (made, kept_one):
        await kept.files.expire(each.expiry)
    assert kept.names() == [kept_one.path]
    assert [key for key in await kept.keys() if made.id in key] == []


async def test_sums_are_right_again_after_a_restart(kept: Kept, open_store: OpenStore, place: Place) -> None:
    for _ in range(3):
        await store_output(kept, new_ulid(), DATA, expires_at=_later())
    await kept.store.aclose()
    async with keeping(kept.folder, open_store=open_store, place=place) as again:
        assert await again.files.stored_bytes("anna") == again.blobs.used_bytes == 3 * len(DATA)
        assert await again.files.stored_bytes("ben") == 0


async def test_a_hundred_outputs_at_once_stay_within_what_the_caller_may(kept: Kept) -> None:
    caller = Caller("anna", max_stored_bytes=1_000_000)
    done = await asyncio.gather(
        *(
            store_output(kept, new_ulid(), bytes(30_000), caller=caller, expires_at=_later())
            for _ in range(100)
        ),
        return_exceptions=True,
    )
    refused = [each for each in done if isinstance(each, QuotaExceeded)]
    assert len(refused) + len(kept.names()) == 100
    assert await kept.files.stored_bytes("anna") == kept.blobs.used_bytes == 30_000 * len(kept.names())
    assert kept.blobs.used_bytes <= 1_000_000


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("photo.png", 'attachment; filename="photo.png"'),
        ('a"b\\c.png', "attachment; filename=\"a_b_c.png\"; filename*=UTF-8''a%22b%5Cc.png"),
        ("größe.png", "attachment; filename=\"gr__e.png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.png"),
        ("a\r\nb", "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
    ],
)
def test_any_file_name_fits_a_header(name: str, header: str) -> None:
    assert disposition(name) == header
