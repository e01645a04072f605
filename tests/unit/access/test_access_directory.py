"""Callers and keys: made, changed, ended, and found again after a restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from upscaled_server.access import stored_keys
from upscaled_server.access.caller import Caller, Priority
from upscaled_server.access.directory import Directory
from upscaled_server.access.keys import Key, digest, generate
from upscaled_server.access.mounted import Mounted
from upscaled_server.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidField,
    LimitExceeded,
    NotFound,
)
from upscaled_server.state.store import Store

ANNA = Caller(
    "anna",
    weight=2.5,
    max_priority=Priority.BATCH,
    max_concurrent=3,
    max_requests_per_second=0.5,
    allowed_models=("real-esrgan-x4-v3",),
    monthly_credits=12.5,
)
DAY = 86400.0


async def test_callers_and_keys_outlive_the_process(directory: Directory, store: Store) -> None:
    made = await directory.create_caller(ANNA)
    key, _ = await directory.create_key("anna", description="nightly", admin=True, lifetime=60)
    await directory.revoke_key(key.id)
    again = Directory(store)
    await again.load()
    assert again.caller("anna") == made
    assert again.keys_of() == directory.keys_of()
    assert again.keys_of()[0].revoked is not None
    assert again.has_keys


async def test_what_is_stored_of_a_key_is_not_the_key(directory: Directory, store: Store) -> None:
    await directory.create_caller(ANNA)
    key, whole = await directory.create_key("anna")
    stored = (await store.range("keys"))[0].value.decode()
    assert digest(whole).hex() in stored
    assert whole not in stored
    assert whole[len(key.id) + 1 :] not in stored


async def test_a_name_is_taken_once(directory: Directory) -> None:
    await directory.create_caller(ANNA)
    with pytest.raises(AlreadyExists, match="anna"):
        await directory.create_caller(Caller("anna"))


@pytest.mark.parametrize("name", ["", "-", "Anna", "a" * 64, "1a", "a b", "a/b", "a\n", "änna"])
async def test_a_name_is_a_plain_word(directory: Directory, name: str) -> None:
    with pytest.raises(InvalidField, match=r"caller\.name"):
        await directory.create_caller(Caller(name))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weight", 0.0),
        ("weight", float("nan")),
        ("weight", 1001.0),
        ("max_concurrent", -1),
        ("max_requests_per_second", float("inf")),
        ("max_input_pixels", -1),
        ("max_stored_bytes", 2**60),
        ("monthly_credits", -0.01),
        ("allowed_models", ("x",) * 101),
    ],
)
async def test_a_limit_that_cannot_be_meant_is_refused_by_name(
    directory: Directory, field: str, value: Any
) -> None:
    with pytest.raises(InvalidField, match=rf"caller\.{field}"):
        await directory.create_caller(replace(ANNA, **{field: value}))


async def test_of_two_changes_to_one_version_the_second_must_read_again(directory: Directory) -> None:
    before = await directory.create_caller(ANNA)
    after = await directory.update_caller(replace(ANNA, weight=1.0), before.etag)
    assert after.etag != before.etag
    with pytest.raises(Conflict, match="read it again"):
        await directory.update_caller(replace(ANNA, weight=9.0), before.etag)
    assert directory.caller("anna").caller.weight == 1.0


async def test_rotation_leaves_the_old_key_for_a_day_and_gives_the_same_rights(
    directory: Directory, clock: Any
) -> None:
    await directory.create_caller(ANNA)
    old, _ = await directory.create_key("anna", description="nightly", admin=True, lifetime=30 * DAY)
    new, whole = await directory.rotate_key(old.id)
    assert digest(whole) == new.digest
    assert (new.caller, new.description, new.admin) == (old.caller, old.description, old.admin)
    ended = directory.find_key(old.digest)
    assert ended is not None
    assert ended.works_at(clock.now + DAY - 1)
    assert not ended.works_at(clock.now + DAY)
    assert new.expires == clock.now + 30 * DAY
    again, _ = await directory.rotate_key(old.id)
    assert again.expires == clock.now + 30 * DAY


async def test_rotation_without_overlap_ends_the_old_key_now(directory: Directory, clock: Any) -> None:
    await directory.create_caller(ANNA)
    old, _ = await directory.create_key("anna")
    await directory.rotate_key(old.id, 0.0)
    ended = directory.find_key(old.digest)
    assert ended is not None
    assert not ended.works_at(clock.now)


async def test_a_key_that_works_no_more_is_not_rotated(directory: Directory) -> None:
    await directory.create_caller(ANNA)
    key, _ = await directory.create_key("anna")
    await directory.revoke_key(key.id)
    with pytest.raises(FailedPrecondition, match="create a new one for anna"):
        await directory.rotate_key(key.id)


async def test_revoking_twice_keeps_the_first_time(directory: Directory, clock: Any) -> None:
    ended: list[str] = []
    directory.on_end = ended.append
    await directory.create_caller(ANNA)
    key, _ = await directory.create_key("anna")
    first = await directory.revoke_key(key.id)
    clock.now += 100
    assert await directory.revoke_key(key.id) == first
    assert ended == [key.id]


async def test_a_deleted_caller_takes_its_keys_along(directory: Directory, store: Store) -> None:
    ended: list[str] = []
    directory.on_end = ended.append
    for name in ("anna", "anna-b"):
        await directory.create_caller(Caller(name))
    key, _ = await directory.create_key("anna")
    other, _ = await directory.create_key("anna-b")
    await directory.delete_caller("anna")
    assert ended == [key.id]
    assert [each.id for each in directory.keys_of()] == [other.id]
    assert [entry.key for entry in await store.range("callers")] == ["callers/anna-b"]
    with pytest.raises(NotFound, match="anna"):
        directory.caller("anna")


async def test_a_key_that_is_not_known_is_not_repeated_in_the_error(directory: Directory) -> None:
    whole = generate()
    with pytest.raises(NotFound) as caught:
        await directory.revoke_key(whole)
    assert whole not in caught.value.message


async def test_a_caller_has_a_bounded_number_of_keys(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_keys, "MAX_WORKING_KEYS", 2)
    monkeypatch.setattr(stored_keys, "_MAX_ENDED_KEYS", 1)
    await directory.create_caller(ANNA)
    first, _ = await directory.create_key("anna")
    await directory.create_key("anna")
    with pytest.raises(LimitExceeded, match="revoke some"):
        await directory.create_key("anna")
    for _ in range(5):
        await directory.revoke_key(first.id)
        first, _ = await directory.create_key("anna")
    assert len(directory.keys_of("anna")) <= 4


async def test_uses_are_written_down_to_the_minute(directory: Directory, store: Store, clock: Any) -> None:
    await directory.create_caller(ANNA)
    key, _ = await directory.create_key("anna")
    clock.now += 90
    directory.note_use(key)
    await directory.flush_uses()
    again = Directory(store)
    await again.load()
    used = again.keys_of()[0].last_used
    assert used is not None
    assert used % 60 == 0
    assert clock.now - 60 < used <= clock.now


async def test_a_change_whose_caller_leaves_is_made_to_its_end(directory: Directory, store: Store) -> None:
    task = asyncio.create_task(directory.create_caller(ANNA))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await directory.create_caller(Caller("ben"))
    stored = [entry.key for entry in await store.range("callers")]
    assert stored == [f"callers/{record.caller.name}" for record in directory.callers()]


async def test_what_is_mounted_goes_first_and_is_changed_only_in_its_file(directory: Directory) -> None:
    whole = generate()
    mounted = Caller("anna", weight=9.0)
    key = Key(whole[:16], "anna", digest(whole), 0.0, mounted=True)
    await directory.create_caller(ANNA)
    directory.mount(Mounted({"anna": mounted}, {key.id: key}))
    assert directory.caller("anna").caller == mounted
    for change in (
        directory.update_caller(ANNA),
        directory.delete_caller("anna"),
        directory.revoke_key(key.id),
        directory.rotate_key(key.id),
        directory.create_key("anna"),
    ):
        with pytest.raises(FailedPrecondition, match="UPSCALED_API_KEYS_FILE"):
            await change
    ended: list[str] = []
    directory.on_end = ended.append
    directory.mount(Mounted())
    assert ended == [key.id]
    assert directory.caller("anna").caller == ANNA
