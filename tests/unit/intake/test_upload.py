"""An upload is bounded in bytes, in pace, and in what all of them hold together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from upscaled_server.errors import DeadlinePassed, InvalidField, LimitExceeded, Overloaded
from upscaled_server.intake import upload
from upscaled_server.intake.upload import MAX_CHUNK_BYTES, UploadMemory


async def gather(chunks: AsyncIterator[bytes], **options: Any) -> bytes:
    """`upload.gather`, by itself on the machine."""
    memory = options.pop("memory", UploadMemory(1 << 31))
    before = memory.held_bytes
    try:
        return bytes(await upload.gather(chunks, memory=memory, **options))
    finally:
        assert memory.held_bytes == before


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_chunks_are_joined_in_order() -> None:
    assert await gather(_chunks(b"ab", b"c"), max_bytes=3, idle_seconds=1) == b"abc"


async def test_an_upload_above_the_limit_is_cut_off_at_once() -> None:
    seen = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            seen.append(1)
            yield b"x" * 10

    with pytest.raises(LimitExceeded) as caught:
        await gather(endless(), max_bytes=25, idle_seconds=1)
    assert len(seen) == 3
    assert caught.value.numbers["limit"] == 25


async def test_an_announced_size_above_the_limit_is_refused_before_the_first_byte() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("nothing may be read")
        yield b""

    with pytest.raises(LimitExceeded):
        await gather(never(), max_bytes=10, idle_seconds=1, announced_bytes=11)


async def test_a_stalled_upload_ends() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    with pytest.raises(DeadlinePassed) as caught:
        await gather(stalled(), max_bytes=10, idle_seconds=0.05)
    assert caught.value.numbers["received_bytes"] == 1


@pytest.mark.parametrize("announced", [2, 4])
async def test_a_size_that_was_announced_wrongly_is_refused(announced: int) -> None:
    with pytest.raises(InvalidField, match=r"start\.size_bytes"):
        await gather(_chunks(b"abc"), max_bytes=10, idle_seconds=1, announced_bytes=announced)


async def test_a_chunk_above_its_limit_is_refused() -> None:
    with pytest.raises(InvalidField, match="chunk"):
        await gather(_chunks(b"x" * (MAX_CHUNK_BYTES + 1)), max_bytes=1 << 30, idle_seconds=1)


async def test_an_empty_chunk_is_refused() -> None:
    with pytest.raises(InvalidField, match="chunk"):
        await gather(_chunks(b"ab", b""), max_bytes=10, idle_seconds=1)


async def test_a_trickle_ends_when_the_idle_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(upload.time, "monotonic", lambda: next(clock))
    with pytest.raises(DeadlinePassed, match="bytes a second"):
        await gather(_chunks(*[b"x"] * 100), max_bytes=1000, idle_seconds=30)


async def test_all_uploads_together_are_bounded() -> None:
    memory = UploadMemory(10)
    memory.take(6)
    with pytest.raises(Overloaded):
        await gather(_chunks(b"abcde"), max_bytes=100, idle_seconds=1, memory=memory)
    assert await gather(_chunks(b"abcd"), max_bytes=100, idle_seconds=1, memory=memory) == b"abcd"
