"""Decoders that are killed, forgotten, cancelled or read slowly; and that nothing stays behind."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.integration.media.conftest import children_of, decode_all, decoded, eventually, read_to_end

from upscaled_server.errors import DamagedImage, DomainError, LimitExceeded, Unavailable
from upscaled_server.media.codec import CodecHost, CodecSettings, DecodeLimits

Check = Callable[[], Awaitable[None]]
LIMITS = DecodeLimits()


def png(size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


LARGE = png((5000, 3000))  # 45 MB of rows, far more than a socket holds
ENDLESS = b"P3 5000 5000 255\n" + b"7 " * 30_000_000  # takes Pillow many seconds


def pid_of(host: CodecHost) -> int:
    assert host.pid is not None
    return host.pid


async def test_start_decode_stop_start_again_leaves_nothing(nothing_left: Check) -> None:
    host = CodecHost()
    for _ in range(2):
        await host.start()
        assert (await decode_all(host, png()))[0].width == 64
        await host.aclose()
        assert host.pid is None
    await nothing_left()


async def test_a_host_that_is_not_started_or_closed_says_so() -> None:
    host = CodecHost()
    with pytest.raises(Unavailable):
        await decode_all(host, png())


async def test_leaving_early_ends_the_decoder_at_once(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    async with decoded(host, LARGE, LIMITS) as image:
        assert await image.read(1) is not None
        assert len(children_of(pid_of(host))) == 1
    assert children_of(pid_of(host)) == []
    with pytest.raises(Unavailable):
        await image.read(1)
    await host.aclose()
    await nothing_left()


async def test_an_error_inside_the_context_ends_the_decoder(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    with pytest.raises(RuntimeError, match="mine"):
        async with decoded(host, LARGE, LIMITS):
            raise RuntimeError("mine")
    assert children_of(pid_of(host)) == []
    await host.aclose()
    await nothing_left()


async def test_cancelling_in_the_middle_of_decoding_kills_the_child(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    task = asyncio.create_task(decode_all(host, ENDLESS))
    await eventually(lambda: len(children_of(pid_of(host))) == 1)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children_of(pid_of(host)) == []
    assert host.open_count == 0
    assert (await decode_all(host, png()))[0].width == 64
    await host.aclose()
    await nothing_left()


async def test_cancelling_at_any_moment_leaves_nothing(nothing_left: Check) -> None:
    host = CodecHost(CodecSettings(parallel_decodes=3))
    await host.start()
    for round_ in range(40):
        tasks = [asyncio.create_task(decode_all(host, LARGE)) for _ in range(2)]
        await asyncio.sleep(round_ * 0.002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert children_of(pid_of(host)) == []
    assert host.open_count == 0
    # Every turn and all memory was given back: as many decodes as there are turns still run.
    await asyncio.gather(*(decode_all(host, png()) for _ in range(9)))
    await host.aclose()
    await nothing_left()


async def test_a_killed_child_fails_its_own_decode_only(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    async with decoded(host, LARGE, LIMITS) as first:
        (victim,) = children_of(pid_of(host))  # alone, and alive until all its rows have been read
        async with decoded(host, png(), LIMITS) as second:
            await first.read(1)
            os.kill(victim, signal.SIGKILL)
            with pytest.raises(Unavailable, match="SIGKILL"):
                await read_to_end(first)
            assert await second.read(64) is not None
    await host.aclose()
    await nothing_left()


async def test_a_crashing_decoder_is_the_images_fault() -> None:
    host = CodecHost()
    await host.start()
    async with decoded(host, LARGE, LIMITS) as image:
        (child,) = children_of(pid_of(host))
        os.kill(child, signal.SIGSEGV)
        with pytest.raises(DomainError, match="crash") as caught:
            await read_to_end(image)
        assert caught.value.reason == "DAMAGED_IMAGE"
    await host.aclose()


async def test_when_the_codec_process_dies_its_decodes_fail_and_the_next_works(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    before = pid_of(host)
    task = asyncio.create_task(decode_all(host, ENDLESS))
    await eventually(lambda: len(children_of(before)) == 1)
    (child,) = children_of(before)
    async with decoded(host, LARGE, LIMITS) as image:
        os.kill(before, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await read_to_end(image)
    with pytest.raises(Unavailable):
        await task
    await eventually(lambda: not _is_running(child))
    assert (await decode_all(host, png()))[0].width == 64
    assert host.pid not in (None, before)
    await host.aclose()
    await nothing_left()


async def test_closing_the_host_fails_what_is_open(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    task = asyncio.create_task(decode_all(host, ENDLESS))
    await eventually(lambda: len(children_of(pid_of(host))) == 1)
    await host.aclose()
    with pytest.raises(Unavailable):
        await task
    await nothing_left()


async def test_when_the_server_is_killed_its_codec_processes_go_too() -> None:
    script = """
import asyncio, sys
from upscaled_server.media.codec import CodecHost, DecodeLimits
async def main():
    host = CodecHost()
    await host.start()
    print(host.pid, flush=True)
    async with host.decode(b"P3 5000 5000 255\\n" + b"7 " * 30_000_000, DecodeLimits()) as image:
        await image.ready()
asyncio.run(main())
"""
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    with server:
        assert server.stdout is not None
        zygote = int(await asyncio.to_thread(server.stdout.readline))
        await eventually(lambda: len(children_of(zygote)) == 1)
        (child,) = children_of(zygote)
        server.kill()
    await eventually(lambda: not any(_is_running(pid) for pid in (zygote, child)))


async def test_signals_to_the_terminal_are_the_servers_to_handle() -> None:
    host = CodecHost()
    await host.start()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid_of(host), name)
    assert (await decode_all(host, png()))[0].width == 64
    await host.aclose()


async def test_a_slow_reader_is_not_hurried_and_holds_back_the_decoder() -> None:
    host = CodecHost()
    await host.start()
    medium = png((2500, 2000))  # decoded in some 50 ms, so that a busy machine keeps within the limit
    limits = DecodeLimits(wall_seconds=2.5)
    async with decoded(host, medium, limits) as image:
        await image.read(1)
        (child,) = children_of(pid_of(host))
        await asyncio.sleep(3)
        held = _resident(child)
        rows = 1
        while (part := await image.read(100)) is not None:
            rows += len(part)
        assert rows == 2000
    # The decoded image (4 bytes a pixel), the libraries and a strip or two, not a second image.
    assert held < 20_000_000 + 80_000_000
    await host.aclose()


async def test_a_reader_that_never_comes_back_is_given_up() -> None:
    host = CodecHost()
    await host.start()
    async with decoded(host, LARGE, DecodeLimits(idle_seconds=1)) as image:
        await eventually(lambda: children_of(pid_of(host)) == [])
        with pytest.raises(DomainError):
            await read_to_end(image)
    await host.aclose()


async def test_many_at_once_take_turns_and_all_come_right() -> None:
    host = CodecHost(CodecSettings(parallel_decodes=3))
    await host.start()

    async def one(value: int) -> None:
        buffer = io.BytesIO()
        Image.new("L", (300, 200), value).save(buffer, "PNG")
        _, rows = await decode_all(host, buffer.getvalue())
        assert np.array_equal(rows, np.full((200, 300, 1), value))

    await asyncio.gather(*(one(value) for value in range(60)))
    assert children_of(pid_of(host)) == []
    await host.aclose()


async def test_the_header_is_there_before_the_pixels_are(nothing_left: Check) -> None:
    host = CodecHost()
    await host.start()
    async with host.decode(ENDLESS, LIMITS) as image:
        assert (image.info.width, image.info.height) == (5000, 5000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await image.ready()
    assert children_of(pid_of(host)) == []
    await host.aclose()
    await nothing_left()


async def test_damage_in_the_pixels_is_told_when_they_are_asked_for() -> None:
    host = CodecHost()
    await host.start()
    async with host.decode(b"P6 200 200 255\n" + bytes(60_000), LIMITS) as image:
        assert image.info.width == 200
        with pytest.raises(DamagedImage):
            await image.ready()
    await host.aclose()


async def test_a_turn_ends_with_the_work_and_not_when_the_pixels_are_asked_for() -> None:
    host = CodecHost(CodecSettings(parallel_decodes=1))
    await host.start()
    async with host.decode(png(), LIMITS) as first, asyncio.timeout(10):
        assert (await decode_all(host, png()))[0].width == 64
        await first.ready()
        assert await first.read(64) is not None
    await host.aclose()


async def test_large_images_wait_for_memory_and_small_ones_pass_them() -> None:
    host = CodecHost(CodecSettings(parallel_decodes=2, decoded_bytes=100 << 20))
    await host.start()
    async with decoded(host, LARGE, LIMITS) as first:
        waiting = asyncio.create_task(decode_all(host, LARGE))
        also_waiting = asyncio.create_task(decode_all(host, LARGE))
        await asyncio.sleep(0.3)
        assert (await decode_all(host, png()))[0].width == 64
        assert not waiting.done()
        also_waiting.cancel()
        await first.read(1)
    assert (await waiting)[1].shape == (3000, 5000, 3)
    await asyncio.gather(also_waiting, return_exceptions=True)
    assert host.open_count == 0
    await host.aclose()


async def test_an_image_larger_than_all_the_memory_runs_alone() -> None:
    host = CodecHost(CodecSettings(decoded_bytes=32 << 20))
    await host.start()
    assert (await decode_all(host, LARGE))[1].shape == (3000, 5000, 3)
    await host.aclose()


async def test_bombs_in_numbers_leave_the_host_working(nothing_left: Check) -> None:
    host = CodecHost(CodecSettings(parallel_decodes=4))
    await host.start()
    limits = DecodeLimits(max_pixels=1_000_000)
    results = await asyncio.gather(
        *(decode_all(host, LARGE, limits) for _ in range(40)), return_exceptions=True
    )
    assert all(isinstance(result, LimitExceeded) for result in results)
    assert (await decode_all(host, png()))[0].width == 64
    await host.aclose()
    await nothing_left()


async def test_a_child_gives_up_its_rights() -> None:
    host = CodecHost()
    await host.start()
    async with decoded(host, LARGE, LIMITS):
        (child,) = children_of(pid_of(host))
        status = Path(f"/proc/{child}/status").read_text()
        limits = Path(f"/proc/{child}/limits").read_text()
        files = [str(path.readlink()) for path in Path(f"/proc/{child}/fd").iterdir()]
        environment = Path(f"/proc/{child}/environ").read_bytes()
    assert "NoNewPrivs:\t1" in status
    for line in (
        "Max core file size        0",
        "Max file size             0",
        "Max cpu time              30",
    ):
        assert line in limits
    assert not any("memfd" in name for name in files)  # the encoded bytes are gone once decoded
    assert sum("socket" in name for name in files) == 1
    assert b"UPSCALED" not in environment
    await host.aclose()


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def _is_running(pid: int) -> bool:
    """False also for one that has ended and that its new parent, the container's first process, forgets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
