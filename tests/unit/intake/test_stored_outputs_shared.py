"""Outputs that several attempts make at once: a server that was given up comes back."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import pytest
from stored_tools import ANNA, Ended, Kept, Pair, ends_after, joined, store_output

from upscaled_server.errors import Conflict, NotFound
from upscaled_server.intake.stored_outputs import OutputWriter
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.state.ulid import new_ulid

FIRST, SECOND = os.urandom(1_500_000), os.urandom(2_500_000)


def _later() -> float:
    return time.time() + 1000


def _writer(
    kept: Kept, output_id: str, expires_at: float | None = None
) -> AbstractAsyncContextManager[OutputWriter]:
    return kept.files.new_output(
        ANNA,
        output_id=output_id,
        file_name="a.png",
        content_type="image/png",
        width=1,
        height=1,
        expires_at=_later() if expires_at is None else expires_at,
    )


async def _content(kept: Kept, output_id: str) -> bytes:
    return await joined(kept.files.read_output(await kept.files.output("anna", output_id)))


async def _stored_bytes(kept: Kept) -> int:
    """As written down, whatever a server has in memory."""
    return await Quotas(kept.store, 100).stored_bytes("anna")


async def test_an_output_is_read_and_deleted_at_any_server(pair: Pair) -> None:
    made = await store_output(pair.one, new_ulid(), FIRST, expires_at=_later())
    assert await pair.other.files.output("anna", made.id) == made
    assert await _content(pair.other, made.id) == FIRST
    assert await joined(pair.other.files.read_output(made, 1_000_000)) == FIRST[1_000_000:]
    assert await pair.other.files.stored_bytes("anna") == len(FIRST)
    await pair.other.files.delete_output(made.id)
    with pytest.raises(NotFound):
        await pair.one.files.output("anna", made.id)
    assert pair.one.names() == await pair.one.keys() == []


async def test_of_two_attempts_the_one_that_began_last_counts(pair: Pair) -> None:
    output_id = new_ulid()
    with pytest.raises(Conflict):
        async with _writer(pair.one, output_id) as paused:
            await paused.write(FIRST)
            async with _writer(pair.other, output_id) as writer:
                await writer.write(SECOND)
            assert await _content(pair.one, output_id) == SECOND
    assert await _content(pair.one, output_id) == SECOND
    assert len(pair.one.names()) == 1
    assert await _stored_bytes(pair.one) == len(SECOND)
    await pair.one.files.delete_output(output_id)
    assert await pair.one.left_over() == []


async def test_an_attempt_that_lost_leaves_the_one_that_goes_on_alone(pair: Pair) -> None:
    output_id = new_ulid()
    async with AsyncExitStack() as steps:
        paused = await steps.enter_async_context(_writer(pair.one, output_id))
        await paused.write(FIRST)
        async with _writer(pair.other, output_id) as writer:
            await writer.write(SECOND[:1_000_000])
            with pytest.raises(Conflict):
                await steps.aclose()
            await writer.write(SECOND[1_000_000:])
    assert await _content(pair.one, output_id) == SECOND
    assert await _stored_bytes(pair.one) == len(SECOND)


async def test_an_attempt_that_is_broken_off_late_touches_nothing_of_the_next(pair: Pair) -> None:
    output_id = new_ulid()
    with pytest.raises(ValueError, match="broken off"):
        async with _writer(pair.one, output_id) as paused:
            await paused.write(FIRST)
            await store_output(pair.other, output_id, SECOND, expires_at=_later())
            raise ValueError("broken off")
    assert await _content(pair.one, output_id) == SECOND
    assert await _stored_bytes(pair.one) == len(SECOND)
    assert len(pair.one.names()) == 1


async def test_a_complete_output_stays_until_the_next_is_whole(pair: Pair) -> None:
    output_id = new_ulid()
    await store_output(pair.one, output_id, FIRST, expires_at=_later())
    async with _writer(pair.other, output_id) as writer:
        await writer.write(SECOND)
        assert await _content(pair.one, output_id) == FIRST
    assert await _content(pair.one, output_id) == SECOND
    assert len(pair.one.names()) == 1
    assert len([key for key in await pair.one.keys() if key.startswith("expiry")]) == 1


async def test_an_output_that_was_deleted_meanwhile_does_not_come_back(pair: Pair) -> None:
    output_id = new_ulid()
    with pytest.raises(Conflict):
        async with _writer(pair.one, output_id) as writer:
            await writer.write(FIRST)
            await pair.other.files.delete_output(output_id)
    for kept in (pair.one, pair.other):
        with pytest.raises(NotFound):
            await kept.files.output("anna", output_id)
    assert await pair.one.left_over() == []


async def test_of_many_attempts_at_once_one_is_kept_whole(pair: Pair) -> None:
    output_id = new_ulid()
    contents = [bytes([number]) * (1000 * (number + 1)) for number in range(12)]
    done = await asyncio.gather(
        *(
            store_output((pair.one, pair.other)[number % 2], output_id, data, expires_at=_later() + number)
            for number, data in enumerate(contents)
        ),
        return_exceptions=True,
    )
    assert all(isinstance(each, Conflict) for each in done if isinstance(each, BaseException))
    found = await _content(pair.one, output_id)
    assert found in contents
    assert await _stored_bytes(pair.one) == len(found)
    assert len(pair.one.names()) == 1
    await pair.other.files.delete_output(output_id)
    assert await pair.one.left_over() == []


@pytest.mark.parametrize("before", ["nothing", "a complete output", "an attempt that is under way"])
async def test_a_server_that_ends_at_any_step_leaves_nothing_that_is_not_cleared_up(
    pair: Pair, before: str
) -> None:
    for steps in range(60):
        output_id = new_ulid()
        async with AsyncExitStack() as under_way:
            if before == "a complete output":
                await store_output(pair.other, output_id, FIRST, expires_at=_later())
            if before == "an attempt that is under way":
                paused = await under_way.enter_async_context(_writer(pair.other, output_id))
                await paused.write(FIRST)
            with ends_after(pair.one, steps) as not_done, suppress(Ended):
                await store_output(pair.one, output_id, SECOND, expires_at=_later() + 1)
            if before == "a complete output":
                assert await _content(pair.other, output_id) in (FIRST, SECOND)
            with ends_after(pair.one, steps) as not_deleted, suppress(Ended):
                await pair.one.files.delete_output(output_id)
            if before == "an attempt that is under way":
                with suppress(Conflict):
                    await under_way.aclose()
            if not_deleted:
                await pair.other.files.delete_output(output_id)
        assert await pair.other.left_over() == []
        if not not_done and not not_deleted:
            return
    raise AssertionError("it never came to its end")


async def test_an_output_of_a_server_that_ended_is_made_again_by_another(pair: Pair) -> None:
    for steps in range(60):
        output_id = new_ulid()
        with ends_after(pair.one, steps) as not_done, suppress(Ended):
            await store_output(pair.one, output_id, FIRST, expires_at=_later())
        await store_output(pair.other, output_id, SECOND, expires_at=_later() + 1)
        assert await _content(pair.other, output_id) == SECOND
        assert await _stored_bytes(pair.other) == len(SECOND)
        assert len(pair.other.names()) == 1
        await pair.other.files.delete_output(output_id)
        assert await pair.other.left_over() == []
        if not not_done:
            return
    raise AssertionError("it never came to its end")


async def test_an_attempt_that_is_broken_off_leaves_nothing_that_is_not_cleared_up(pair: Pair) -> None:
    """At whichever step of it the server ends."""
    for steps in range(60):
        with ends_after(pair.one, steps) as not_done, suppress(Ended, ValueError):
            async with _writer(pair.one, new_ulid()) as writer:
                await writer.write(FIRST)
                raise ValueError("broken off")
        for entry in await pair.other.store.range("outputs"):
            await pair.other.files.delete_output(entry.key.partition("/")[2])
        assert await pair.other.left_over() == []
        if not not_done:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("meanwhile", ["made by another", "made and deleted", "begun and deleted"])
async def test_a_server_that_comes_back_and_ends_at_any_step_leaves_nothing_that_is_not_cleared_up(
    pair: Pair, meanwhile: str
) -> None:
    for steps in range(20):
        output_id = new_ulid()
        paused = _writer(pair.other, output_id)
        await (await paused.__aenter__()).write(FIRST)
        if meanwhile != "begun and deleted":
            await store_output(pair.one, output_id, SECOND, expires_at=_later() + 1)
        if meanwhile != "made by another":
            await pair.one.files.delete_output(output_id)
        with ends_after(pair.other, steps) as not_done, suppress(Conflict, Ended):
            await paused.__aexit__(None, None, None)
        if meanwhile == "made by another":
            await pair.one.clear_up()
            assert await _content(pair.one, output_id) == SECOND
            assert len(pair.one.names()) == 1
            await pair.one.files.delete_output(output_id)
        assert await pair.one.left_over() == []
        if not not_done:
            return
    raise AssertionError("it never came to its end")
