"""Inputs: written resumably, complete once."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest
from stored_tools import ANNA, BEN, MAX_INPUT_BYTES, Kept, Place, chunks, joined, keeping
from tests.both_stores import OpenStore

from upscaled_server.access.caller import Caller
from upscaled_server.errors import (
    AlreadyExists,
    Conflict,
    DataLoss,
    InvalidField,
    LimitExceeded,
    NotFound,
    OutOfRange,
    QuotaExceeded,
)
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.stored_inputs import InputComplete, InputIncomplete
from upscaled_server.intake.stored_records import input_path
from upscaled_server.storage.settings import StorageSettings

DATA = os.urandom(9_000_001)
SHA256 = hashlib.sha256(DATA).digest()


class _Cut(Exception):
    """The connection is gone."""


async def _the_end() -> AsyncIterator[tuple[bytes, bool]]:
    """No more bytes."""
    yield b"", True


async def test_an_input_is_written_and_read_back(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    status = await kept.files.write_input(ANNA, made.id, 0, chunks(DATA))
    assert (status.committed_bytes, status.complete, status.sha256) == (len(DATA), True, SHA256)
    assert status == await kept.files.write_status("anna", made.id)
    record = await kept.files.input("anna", made.id)
    assert await joined(kept.files.read_input(record)) == DATA
    assert await joined(kept.files.read_input(record, 4_000_000)) == DATA[4_000_000:]
    assert await kept.files.stored_bytes("anna") == len(DATA)


async def test_the_announced_size_completes_an_input_without_finish(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA, size_bytes=len(DATA), sha256=SHA256)
    first = await kept.files.write_input(ANNA, made.id, 0, chunks(DATA[:5_000_000], finish=False))
    assert (first.committed_bytes, first.complete) == (5_000_000, False)
    rest = await kept.files.write_input(ANNA, made.id, 5_000_000, chunks(DATA[5_000_000:], finish=False))
    assert rest.complete


async def test_a_broken_upload_goes_on_at_the_committed_byte(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    with pytest.raises(_Cut):
        await kept.files.write_input(ANNA, made.id, 0, chunks(DATA[:6_500_000], finish=False, then=[_Cut()]))
    status = await kept.files.write_status("anna", made.id)
    assert (status.committed_bytes, status.complete, status.sha256) == (6_500_000, False, b"")
    done = await kept.files.write_input(ANNA, made.id, 6_500_000, chunks(DATA[6_500_000:]))
    assert done.sha256 == SHA256


async def test_a_cancelled_upload_keeps_what_came(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    came = asyncio.Event()

    async def stalling() -> AsyncIterator[tuple[bytes, bool]]:
        async for item in chunks(DATA[:4_500_000], finish=False):
            yield item
        came.set()
        await asyncio.sleep(60)

    writing = asyncio.create_task(kept.files.write_input(ANNA, made.id, 0, stalling()))
    await came.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (await kept.files.write_status("anna", made.id)).committed_bytes == 4_500_000


async def test_bytes_that_are_there_are_skipped(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    await kept.files.write_input(ANNA, made.id, 0, chunks(DATA[:5_000_000], finish=False))
    assert (await kept.files.write_input(ANNA, made.id, 0, chunks(DATA))).sha256 == SHA256


async def test_a_restart_changes_nothing(kept: Kept, open_store: OpenStore, place: Place) -> None:
    made = await kept.files.create_input(ANNA)
    await kept.files.write_input(ANNA, made.id, 0, chunks(DATA[:5_000_000], finish=False))
    await kept.store.aclose()
    async with keeping(kept.folder, open_store=open_store, place=place) as again:
        assert (await again.files.write_status("anna", made.id)).committed_bytes == 5_000_000
        assert await again.files.stored_bytes("anna") == 5_000_000
        done = await again.files.write_input(ANNA, made.id, 5_000_000, chunks(DATA[5_000_000:]))
        assert done.sha256 == SHA256


async def test_an_input_whose_record_a_crash_left_behind_is_completed(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    await kept.blobs.partial(made.id).append(DATA)
    await kept.blobs.partial(made.id).move_to(input_path(made.id, "left" if kept.blobs.is_shared else ""))
    status = await kept.files.write_status("anna", made.id)
    if kept.blobs.is_shared:
        # Nobody can know whose file that is: the caller says once more that it ends.
        status = await kept.files.write_input(ANNA, made.id, status.committed_bytes, _the_end())
    assert (status.committed_bytes, status.complete, status.sha256) == (len(DATA), True, SHA256)
    assert (await kept.files.input("anna", made.id)).complete
    assert await joined(kept.files.read_input(await kept.files.input("anna", made.id))) == DATA


async def test_an_input_whose_last_byte_came_before_a_crash_is_completed(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA, size_bytes=len(DATA), sha256=SHA256)
    await kept.blobs.partial(made.id).append(DATA)
    assert (await kept.files.write_status("anna", made.id)).complete
    other = await kept.files.create_input(ANNA, size_bytes=len(DATA), sha256=bytes(32))
    await kept.blobs.partial(other.id).append(DATA)
    assert (await kept.files.write_status("anna", other.id)).committed_bytes == 0


async def test_an_input_is_not_written_after_it_was_deleted(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    go_on = asyncio.Event()

    async def late() -> AsyncIterator[tuple[bytes, bool]]:
        await go_on.wait()
        async for item in chunks(DATA):
            yield item

    writing = asyncio.create_task(kept.files.write_input(ANNA, made.id, 0, late()))
    await asyncio.sleep(0)
    await kept.files.delete_input(made.id)
    go_on.set()
    with pytest.raises((Conflict, NotFound)):
        await writing
    assert await kept.left_over() == []


async def test_a_complete_input_is_not_written_again(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    await kept.files.write_input(ANNA, made.id, 0, chunks(DATA))
    with pytest.raises(InputComplete):
        await kept.files.write_input(ANNA, made.id, len(DATA), chunks(b"more"))


async def test_an_incomplete_input_is_not_read(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    with pytest.raises(InputIncomplete):
        await joined(kept.files.read_input(made))


@pytest.mark.parametrize("offset", [1, 2**63 - 1])
async def test_a_gap_is_refused_with_the_committed_size(kept: Kept, offset: int) -> None:
    made = await kept.files.create_input(ANNA)
    with pytest.raises(OutOfRange) as refused:
        await kept.files.write_input(ANNA, made.id, offset, chunks(DATA))
    assert refused.value.numbers["limit"] == 0


async def test_other_bytes_than_announced_are_thrown_away(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA, sha256=SHA256)
    with pytest.raises(DataLoss):
        await kept.files.write_input(ANNA, made.id, 0, chunks(DATA[:-1] + b"x"))
    assert (await kept.files.write_status("anna", made.id)).committed_bytes == 0
    assert await kept.files.stored_bytes("anna") == kept.blobs.used_bytes == 0
    assert (await kept.files.write_input(ANNA, made.id, 0, chunks(DATA))).complete


async def test_sizes_and_offsets_outside_their_limits_are_named(kept: Kept) -> None:
    for size in (-1, MAX_INPUT_BYTES + 1, 2**63 - 1):
        with pytest.raises(InvalidField, match="size_bytes"):
            await kept.files.create_input(ANNA, size_bytes=size)
    with pytest.raises(InvalidField, match="sha256"):
        await kept.files.create_input(ANNA, sha256=b"short")
    for seconds in (0, -1, 8 * 24 * 3600, float("nan")):
        with pytest.raises(InvalidField, match="retention"):
            await kept.files.create_input(ANNA, retention_seconds=seconds)
    made = await kept.files.create_input(ANNA, size_bytes=10)
    with pytest.raises(InvalidField, match="offset"):
        await kept.files.write_input(ANNA, made.id, -1, chunks(b"x"))
    with pytest.raises(InvalidField, match="announced size"):
        await kept.files.write_input(ANNA, made.id, 0, chunks(b"x" * 11))
    with pytest.raises(InvalidField, match="size_bytes"):
        await kept.files.write_input(ANNA, made.id, 0, chunks(b"x" * 9))
    with pytest.raises(InvalidField, match=r"content\.data"):
        await kept.files.write_input(ANNA, made.id, 0, chunks(DATA, size=2 << 20))


async def test_an_upload_is_cut_off_at_the_largest_input(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    with pytest.raises(LimitExceeded) as refused:
        await kept.files.write_input(ANNA, made.id, 0, chunks(bytes(MAX_INPUT_BYTES + 1)))
    assert refused.value.numbers["limit"] == MAX_INPUT_BYTES


async def test_an_end_before_what_is_there_is_refused(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    await kept.files.write_input(ANNA, made.id, 0, chunks(b"0123456789", finish=False))
    with pytest.raises(InvalidField, match="finish"):
        await kept.files.write_input(ANNA, made.id, 0, chunks(b"01234"))


async def test_nothing_is_no_input(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)

    with pytest.raises(InvalidField, match="needs bytes"):
        await kept.files.write_input(ANNA, made.id, 0, _the_end())


async def test_whoever_comes_last_writes_on(kept: Kept) -> None:
    """The server may learn late that the first caller is gone."""
    made = await kept.files.create_input(ANNA)
    came, go_on = asyncio.Event(), asyncio.Event()

    async def hanging() -> AsyncIterator[tuple[bytes, bool]]:
        async for item in chunks(DATA[:5_000_000], finish=False):
            yield item
        came.set()
        await go_on.wait()
        async for item in chunks(DATA[5_000_000:]):
            yield item

    first = asyncio.create_task(kept.files.write_input(ANNA, made.id, 0, hanging()))
    await came.wait()
    committed = (await kept.files.write_status("anna", made.id)).committed_bytes
    assert 0 < committed <= 5_000_000
    second = await kept.files.write_input(ANNA, made.id, committed, chunks(DATA[committed:]))
    assert second.sha256 == SHA256
    go_on.set()
    with pytest.raises(Conflict):
        await first
    assert await joined(kept.files.read_input(await kept.files.input("anna", made.id))) == DATA
    assert await kept.files.stored_bytes("anna") == len(DATA)


async def test_another_callers_input_does_not_exist(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA)
    for attempt in (
        kept.files.write_input(BEN, made.id, 0, chunks(b"x")),
        kept.files.write_status("ben", made.id),
        kept.files.input("ben", made.id),
    ):
        with pytest.raises(NotFound):
            await attempt


@pytest.mark.parametrize("bad", ["", "../../state.db", "a\0b", "x" * 1_000_000, "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
async def test_an_id_that_the_server_did_not_make_is_not_found(kept: Kept, bad: str) -> None:
    with pytest.raises(NotFound):
        await kept.files.write_input(ANNA, bad, 0, chunks(b"x"))
    await kept.files.delete_input(bad)
    assert kept.names() == []


async def test_the_same_request_makes_the_same_input(kept: Kept) -> None:
    made = await kept.files.create_input(ANNA, request_id="r1", size_bytes=5)
    assert await kept.files.create_input(ANNA, request_id="r1", size_bytes=5) == made
    with pytest.raises(AlreadyExists):
        await kept.files.create_input(ANNA, request_id="r1", size_bytes=6)
    assert (await kept.files.create_input(BEN, request_id="r1", size_bytes=5)).id != made.id
    assert (await kept.files.create_input(ANNA, size_bytes=5)).id != made.id


async def test_a_deleted_input_leaves_nothing(kept: Kept) -> None:
    whole = await kept.files.create_input(ANNA, request_id="r1")
    await kept.files.write_input(ANNA, whole.id, 0, chunks(DATA))
    begun = await kept.files.create_input(ANNA, request_id="r2")
    await kept.files.write_input(ANNA, begun.id, 0, chunks(DATA[:100], finish=False))
    for each in (whole, begun, whole):
        await kept.files.delete_input(each.id)
    assert await kept.left_over() == []
    assert await kept.files.stored_bytes("anna") == kept.blobs.used_bytes == 0
    assert (await kept.files.create_input(ANNA, request_id="r1")).id != whole.id


async def test_an_expired_input_is_gone_before_it_is_deleted(kept: Kept) -> None:
    short = await kept.files.create_input(ANNA, retention_seconds=0.05)
    long = await kept.files.create_input(ANNA)
    await asyncio.sleep(0.06)
    with pytest.raises(NotFound):
        await kept.files.input("anna", short.id)
    for each in (short, long):
        await kept.files.expire(each.expiry)
    assert [each for each in await kept.left_over() if short.id in each] == []
    await kept.files.input("anna", long.id)


async def test_a_caller_stores_no_more_than_it_may(kept: Kept) -> None:
    small = Caller("small", max_stored_bytes=5_000_000)
    with pytest.raises(QuotaExceeded):
        await kept.files.create_input(small, size_bytes=5_000_001)
    made = await kept.files.create_input(small)
    with pytest.raises(QuotaExceeded) as refused:
        await kept.files.write_input(small, made.id, 0, chunks(DATA))
    assert refused.value.subject == "caller:small"
    committed = (await kept.files.write_status("small", made.id)).committed_bytes
    assert committed == await kept.files.stored_bytes("small") <= 5_000_000
    await kept.files.delete_input(made.id)
    made = await kept.files.create_input(small)
    assert (await kept.files.write_input(small, made.id, 0, chunks(DATA[:5_000_000]))).complete


async def test_the_number_of_files_is_bounded_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("few")
    async with keeping(folder, keep=KeepingSettings(max_files_per_caller=3)) as kept:
        made = [await kept.files.create_input(ANNA) for _ in range(3)]
        with pytest.raises(QuotaExceeded):
            await kept.files.create_input(ANNA)
        await kept.files.delete_input(made[0].id)
        await kept.files.create_input(ANNA)


async def test_an_upload_without_room_keeps_what_fitted(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("full")
    storage = StorageSettings(max_stored_bytes=5_000_000, min_free_bytes=0)
    async with keeping(folder, storage=storage) as kept:
        made = await kept.files.create_input(ANNA)
        with pytest.raises(QuotaExceeded):
            await kept.files.write_input(ANNA, made.id, 0, chunks(DATA))
        committed = (await kept.files.write_status("anna", made.id)).committed_bytes
        assert committed == kept.blobs.used_bytes == await kept.files.stored_bytes("anna")
        assert 0 < committed <= 5_000_000


async def test_everything_of_a_caller_is_deleted_at_once(kept: Kept) -> None:
    for caller in (ANNA, BEN):
        for _ in range(3):
            made = await kept.files.create_input(caller)
            await kept.files.write_input(caller, made.id, 0, chunks(b"bytes"))
    assert await kept.files.delete_all_of("anna") == 3
    assert await kept.files.stored_bytes("anna") == 0
    assert await kept.files.stored_bytes("ben") == 15
    assert [each for each in await kept.left_over() if "anna" in each] == []
