"""Who calls, told from one header."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from upscaled_server.access import access as module
from upscaled_server.access.access import NO_KEY, Access
from upscaled_server.access.caller import Caller
from upscaled_server.access.directory import Directory
from upscaled_server.access.keys import generate
from upscaled_server.access.settings import AccessSettings
from upscaled_server.errors import KeysThrottled, PermissionDenied, Unauthenticated

SETTINGS = AccessSettings()


@pytest.fixture
def access(directory: Directory, clock: Any) -> Access:
    return Access(directory, SETTINGS, wall_clock=clock)


async def _key(directory: Directory, **options: Any) -> str:
    if not directory.callers():
        await directory.create_caller(Caller("anna", weight=2))
    return (await directory.create_key("anna", **options))[1]


async def test_without_any_key_everybody_may_call_and_nobody_administer(access: Access) -> None:
    for header in (None, "Bearer eyJhbGciOi", "Basic YTpi"):
        assert access.identify(header) is NO_KEY
    with pytest.raises(PermissionDenied, match="--admin"):
        NO_KEY.check_admin()


async def test_a_right_key_tells_the_caller_and_its_rights(access: Access, directory: Directory) -> None:
    plain, admin = await _key(directory), await _key(directory, admin=True)
    identity = access.identify(f"Bearer {plain}")
    assert (identity.caller, identity.key_id, identity.admin) == (
        Caller("anna", weight=2),
        plain[:16],
        False,
    )
    access.identify(f"bearer {admin}").check_admin()
    with pytest.raises(PermissionDenied):
        identity.check_admin()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer " + "x" * 8000]
)
async def test_with_a_key_configured_nothing_else_will_do(
    access: Access, directory: Directory, header: str | None
) -> None:
    await _key(directory)
    with pytest.raises(Unauthenticated):
        access.identify(header)


async def test_near_and_far_misses_are_told_the_same(access: Access, directory: Directory) -> None:
    whole = await _key(directory)
    other = "A" if whole[-1] != "A" else "B"
    messages = set()
    for wrong in (whole[:-1] + other, whole[:-1], whole + "a", whole[:16], generate(), whole.swapcase()):
        with pytest.raises(Unauthenticated) as caught:
            access.identify(f"Bearer {wrong}")
        messages.add((caught.value.message, str(caught.value.numbers)))
    assert messages == {("the key is not valid", "{}")}


async def test_whoever_holds_an_ended_key_is_told_what_became_of_it(
    access: Access, directory: Directory, clock: Any
) -> None:
    revoked, expiring = await _key(directory), await _key(directory, lifetime=60)
    access.identify(f"Bearer {expiring}")
    await directory.revoke_key(revoked[:16])
    clock.now += 60
    with pytest.raises(Unauthenticated, match=f"{revoked[:16]} was revoked"):
        access.identify(f"Bearer {revoked}")
    with pytest.raises(Unauthenticated, match=f"{expiring[:16]} has expired"):
        access.identify(f"Bearer {expiring}")


async def test_deleting_the_last_caller_does_not_open_the_door(access: Access, directory: Directory) -> None:
    await _key(directory)
    assert access.needs_key
    await directory.delete_caller("anna")
    with pytest.raises(Unauthenticated):
        access.identify(None)


async def test_where_something_in_front_decides_only_our_own_keys_are_checked(directory: Directory) -> None:
    access = Access(directory, SETTINGS, optional=True)
    whole = await _key(directory, admin=True)
    assert access.identify(None) is NO_KEY
    assert access.identify("Bearer eyJhbGciOi") is NO_KEY
    assert access.identify(f"Bearer {whole}").admin
    with pytest.raises(Unauthenticated):
        access.identify(f"Bearer {generate()}")


async def test_refusals_are_reported_together_and_hold_nothing_that_was_presented(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        await access.hold_back("192.0.2.1")
    assert [record.getMessage() for record in caplog.records] == [
        "refused 1 calls without a valid key, the last from 192.0.2.1"
    ]


async def test_an_address_with_too_many_wrong_keys_is_told_when_to_come_back(directory: Directory) -> None:
    access = Access(directory, AccessSettings(wrong_keys_per_second=0.1))
    with pytest.raises(KeysThrottled) as caught:
        for _ in range(20):
            await access.hold_back("192.0.2.1")
    assert 2 < caught.value.retry_after_seconds <= 10
    await access.hold_back("192.0.2.2")


async def test_answers_that_wait_are_bounded_over_all_addresses(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_HELD_BACK", 3)
    access = Access(directory, AccessSettings(wrong_keys_per_second=1))
    for number in range(4):
        for _ in range(5):
            await access.hold_back(f"192.0.2.{number}")
    held = [asyncio.create_task(access.hold_back(f"192.0.2.{number}")) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(KeysThrottled):
        await access.hold_back("192.0.2.3")
    for each in held:
        each.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert access._held_back == 0
