"""Inputs that are begun at one server and go on at another, which knows nothing of the first but what is
written down."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby, pairwise
from typing import Any

import pytest
from stored_tools import ANNA, MAX_INPUT_BYTES, Ended, Kept, Pair, chunks, ends_after, joined

from upscaled_server.errors import Conflict, DataLoss, DomainError, NotFound
from upscaled_server.intake.stored_quota import Quotas
from upscaled_server.storage.blobs import BlobWriter

DATA = os.urandom(9_000_001)
SHA256 = hashlib.sha256(DATA).digest()


class _Hanging:
    """Chunks of a caller that is gone, which the server does not know: it stalls, and once it may `go_on`,
    everything that was under way arrives."""

    def __init__(self, data: bytes, stalls_at: int) -> None:
        self._data = data
        self._stalls_at = stalls_at
        self.stalled = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[tuple[bytes, bool]]:
        async for item in chunks(self._data[: self._stalls_at], finish=False):
            yield item
        self.stalled.set()
        await self.go_on.wait()
        async for item in chunks(self._data[self._stalls_at :]):
            yield item


async def _stored_bytes(kept: Kept) -> int:
    """As written down, whatever a server has in memory."""
    return await Quotas(kept.store, 100).stored_bytes("anna")


async def _content(kept: Kept, input_id: str) -> bytes:
    return await joined(kept.files.read_input(await kept.files.input("anna", input_id)))


async def test_an_upload_that_was_cut_goes_on_at_another_server(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA, size_bytes=len(DATA), sha256=SHA256)
    cuts = [0, 1, 5_000_000, 5_000_001, 8_500_000, len(DATA)]
    servers = [pair.one, pair.other]
    for number, (begin, end) in enumerate(pairwise(cuts)):
        kept = servers[number % 2]
        status = await kept.files.write_status("anna", made.id)
        assert status.committed_bytes == begin
        await kept.files.write_input(ANNA, made.id, begin, chunks(DATA[begin:end], finish=False))
    for kept in servers:
        assert (await kept.files.write_status("anna", made.id)).complete
        assert await _content(kept, made.id) == DATA
    assert await _stored_bytes(pair.one) == len(DATA)


async def test_whoever_comes_last_writes_on_also_at_another_server(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA)
    wrong = bytes(len(DATA))
    stale = _Hanging(DATA[:4_500_000] + wrong, 4_500_000)
    first = asyncio.create_task(pair.one.files.write_input(ANNA, made.id, 0, aiter(stale)))
    await stale.stalled.wait()
    committed = (await pair.other.files.write_status("anna", made.id)).committed_bytes
    assert 0 < committed <= 4_500_000
    part = chunks(DATA[committed:6_000_000], finish=False)
    status = await pair.other.files.write_input(ANNA, made.id, committed, part)
    assert status.committed_bytes == 6_000_000
    stale.go_on.set()
    with pytest.raises(Conflict):
        await first
    for kept in (pair.one, pair.other):
        assert (await kept.files.write_status("anna", made.id)).committed_bytes == 6_000_000
    assert await _stored_bytes(pair.one) == 6_000_000
    done = await pair.one.files.write_input(ANNA, made.id, 6_000_000, chunks(DATA[6_000_000:]))
    assert done.sha256 == SHA256
    assert await _content(pair.other, made.id) == DATA
    assert await _stored_bytes(pair.one) == len(DATA)


async def test_bytes_that_a_writer_stores_after_it_was_replaced_count_for_nothing(pair: Pair) -> None:
    """It was past its last look at who writes when it was replaced."""
    made = await pair.one.files.create_input(ANNA)
    await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA[:1_000_000], finish=False))
    before = await pair.one.files.input("anna", made.id)
    await pair.other.files.write_input(
        ANNA, made.id, 1_000_000, chunks(DATA[1_000_000:2_000_000], finish=False)
    )
    await pair.one.blobs.partial(made.id, before.fence).append(b"late and longer than anything" * 100_000)
    for kept in (pair.one, pair.other):
        assert (await kept.files.write_status("anna", made.id)).committed_bytes == 2_000_000
    done = await pair.one.files.write_input(ANNA, made.id, 2_000_000, chunks(DATA[2_000_000:]))
    assert done.sha256 == SHA256


async def test_what_comes_in_while_the_writer_changes_is_not_taken_back(pair: Pair) -> None:
    """Whoever asked in that moment has been told of it."""
    made = await pair.one.files.create_input(ANNA)
    await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA[:1_000_000], finish=False))
    before = await pair.one.files.input("anna", made.id)
    told = []
    update = pair.other.store.update

    async def slow_update(key: str, value: bytes, version: int) -> int:
        if key.startswith("inputs/") and not told:
            await pair.one.blobs.partial(made.id, before.fence).append(DATA[1_000_000:1_500_000])
            told.append((await pair.one.files.write_status("anna", made.id)).committed_bytes)
        return await update(key, value, version)

    pair.other.store.update = slow_update  # type: ignore[method-assign]
    done = await pair.other.files.write_input(ANNA, made.id, 1_500_000, chunks(DATA[1_500_000:]))
    assert told == [1_500_000]
    assert done.sha256 == SHA256


@pytest.mark.parametrize("seed", range(4))
async def test_callers_at_two_servers_at_once_never_mix_their_bytes(pair: Pair, seed: int) -> None:
    """Every one brings another file. Whichever completes it, each byte is of the call that had the turn:
    what one committed before it was replaced, then what the next did."""
    chance = random.Random(seed)
    made = await pair.one.files.create_input(ANNA)
    files = [bytes([number]) * MAX_INPUT_BYTES for number in range(8)]

    async def bring(number: int) -> None:
        kept = chance.choice([pair.one, pair.other])
        await asyncio.sleep(chance.random() * 0.2)
        size = chance.randrange(1, 12_000_000)
        try:
            committed = (await kept.files.write_status("anna", made.id)).committed_bytes
            data = files[number][: min(size, MAX_INPUT_BYTES - committed)]
            await kept.files.write_input(ANNA, made.id, committed, chunks(data, size=1 << 18, finish=False))
        except Conflict:
            pass  # another came later

    await asyncio.gather(*(bring(number) for number in range(8)))
    status = await pair.one.files.write_status("anna", made.id)
    assert status == await pair.other.files.write_status("anna", made.id)
    assert status.committed_bytes == await _stored_bytes(pair.one)
    record = await pair.other.files.input("anna", made.id)
    found = await joined(pair.other.blobs.partial(made.id, record.fence).read())
    assert len(found) == status.committed_bytes
    runs = [number for number, _ in groupby(found)]
    assert len(runs) == len(set(runs)), "a writer that was replaced has written on"


async def test_both_servers_may_find_that_an_upload_is_whole(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA, size_bytes=len(DATA), sha256=SHA256)
    await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA[:-1], finish=False))
    record = await pair.one.files.input("anna", made.id)
    await pair.one.blobs.partial(made.id, record.fence).append(DATA[-1:])
    statuses = await asyncio.gather(
        *(kept.files.write_status("anna", made.id) for kept in (pair.one, pair.other) * 2)
    )
    assert [(each.complete, each.sha256) for each in statuses] == [(True, SHA256)] * 4
    assert await _content(pair.other, made.id) == DATA


@pytest.mark.parametrize("sha256", [b"", SHA256], ids=["any file", "an announced one"])
async def test_a_server_that_comes_to_the_end_late_spoils_nothing(pair: Pair, sha256: bytes) -> None:
    """Another has made the file by then, and removed what it was made of."""
    made = await pair.one.files.create_input(ANNA, size_bytes=len(DATA), sha256=sha256)
    write = pair.one.blobs.writer

    @asynccontextmanager
    async def late_writer(*args: Any, **options: Any) -> AsyncIterator[BlobWriter]:
        assert (await pair.other.files.write_status("anna", made.id)).complete
        async with write(*args, **options) as writer:
            yield writer

    pair.one.blobs.writer = late_writer  # type: ignore[method-assign, assignment]
    status = await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA))
    assert (status.complete, status.sha256) == (True, SHA256)
    assert await _content(pair.one, made.id) == DATA
    assert await _stored_bytes(pair.one) == len(DATA)
    assert len(pair.one.names()) == 1


async def test_the_last_call_ends_well_though_another_server_completed_the_input(pair: Pair) -> None:
    whole = os.urandom(8 << 20)  # pieces of 4 MiB are committed at once
    made = await pair.one.files.create_input(ANNA, size_bytes=len(whole))

    async def asked_about_at_its_end() -> AsyncIterator[tuple[bytes, bool]]:
        async for item in chunks(whole, finish=False):
            yield item
        assert (await pair.other.files.write_status("anna", made.id)).complete

    status = await pair.one.files.write_input(ANNA, made.id, 0, asked_about_at_its_end())
    assert status.complete
    assert await _content(pair.one, made.id) == whole
    assert await _stored_bytes(pair.one) == len(whole)


async def test_a_wrong_file_is_thrown_away_at_both_and_written_again_at_either(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA, sha256=SHA256)
    await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA[:1000], finish=False))
    stale = await pair.one.files.input("anna", made.id)
    with pytest.raises(DataLoss):
        await pair.other.files.write_input(ANNA, made.id, 1000, chunks(DATA[1000:-1] + b"x"))
    # One more piece of the first writer, which is on its way still.
    await pair.one.blobs.partial(made.id, stale.fence).append(b"late")
    for kept in (pair.one, pair.other):
        assert (await kept.files.write_status("anna", made.id)).committed_bytes == 0
    assert await _stored_bytes(pair.one) == 0
    assert (await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA))).sha256 == SHA256


async def test_who_wrote_a_wrong_file_has_the_turn_no_more(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA, size_bytes=1000, sha256=SHA256)
    await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA[:999], finish=False))
    record = await pair.one.files.input("anna", made.id)
    await pair.one.blobs.partial(made.id, record.fence).append(b"x")
    for _ in range(2):
        status = await pair.other.files.write_status("anna", made.id)
        assert (status.committed_bytes, status.complete) == (0, False)
        await pair.one.blobs.partial(made.id, record.fence).append(b"late")


async def test_a_deletion_at_one_server_ends_an_upload_at_the_other(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA)
    caller = _Hanging(DATA, 5_000_000)
    writing = asyncio.create_task(pair.one.files.write_input(ANNA, made.id, 0, aiter(caller)))
    await caller.stalled.wait()
    await pair.other.files.delete_input(made.id)
    caller.go_on.set()
    with pytest.raises((Conflict, NotFound)):
        await writing
    for kept in (pair.one, pair.other):
        with pytest.raises(NotFound):
            await kept.files.write_status("anna", made.id)
    assert await pair.one.left_over() == []


async def test_bytes_that_come_in_after_the_deletion_go_with_its_time(pair: Pair) -> None:
    made = await pair.one.files.create_input(ANNA)
    await pair.one.files.write_input(ANNA, made.id, 0, chunks(DATA[:1000], finish=False))
    record = await pair.one.files.input("anna", made.id)
    await pair.other.files.delete_input(made.id)
    await pair.one.blobs.partial(made.id, record.fence).append(b"late")
    assert await pair.other.left_over() == []


async def test_the_same_request_makes_the_same_input_at_both(pair: Pair) -> None:
    made = await asyncio.gather(
        *(kept.files.create_input(ANNA, request_id="r1", size_bytes=5) for kept in (pair.one, pair.other) * 4)
    )
    assert len({each.id for each in made}) == 1


async def test_a_server_that_ends_at_any_step_leaves_an_input_that_goes_on_or_is_cleared_up(
    pair: Pair,
) -> None:
    """Whatever was written down last, the other server takes it up from there, and nothing is left at the
    end."""
    small = DATA[:3000]
    sha256 = hashlib.sha256(small).digest()
    for steps in range(40):
        made = await pair.one.files.create_input(ANNA, size_bytes=len(small), sha256=sha256)
        with ends_after(pair.one, steps) as ended:
            for begin in (0, 1000):
                try:
                    status = await pair.one.files.write_input(
                        ANNA, made.id, begin, chunks(small[begin : begin + 2000], size=700, finish=False)
                    )
                except (Ended, DomainError):
                    break
        status = await pair.other.files.write_status("anna", made.id)
        if not status.complete:
            begin = status.committed_bytes
            status = await pair.other.files.write_input(ANNA, made.id, begin, chunks(small[begin:]))
        assert status.complete
        assert await _content(pair.other, made.id) == small
        assert await _stored_bytes(pair.other) == len(small)
        await pair.other.files.delete_input(made.id)
        assert await pair.other.left_over() == []
        if not ended:
            return
    raise AssertionError("it never came to its end")
