"""What codec processes use, and why they end in the middle of an image, as it is counted."""

from __future__ import annotations

import io
import os
import signal

import pytest
from PIL import Image
from tests.integration.media.conftest import children_of, decode_all, decoded, eventually

from upscaled_server.errors import ImageRejected, LimitExceeded, Unavailable
from upscaled_server.media.codec import CodecHost, DecodeLimits
from upscaled_server.media.codec.resident import resident_bytes_of, resident_bytes_of_one
from upscaled_server.telemetry import metrics

ENDLESS = b"P3 5000 5000 255\n" + b"7 " * 30_000_000  # takes Pillow many seconds


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (1, 2, 3)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def failures() -> dict[str, float]:
    return {
        sample.labels["reason"]: sample.value
        for family in metrics.CODEC_FAILURES.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def new(before: dict[str, float]) -> dict[str, float]:
    found = {reason: value - before.get(reason, 0) for reason, value in failures().items()}
    return {reason: value for reason, value in found.items() if value}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(DecodeLimits(wall_seconds=0.2), "wall_time"), (DecodeLimits(cpu_seconds=1), "cpu_time")],
)
async def test_a_decoder_that_takes_too_long_is_a_failure(limits: DecodeLimits, reason: str) -> None:
    host = CodecHost()
    await host.start()
    before = failures()
    with pytest.raises(LimitExceeded):
        await decode_all(host, ENDLESS, limits)
    assert new(before) == {reason: 1}
    await host.aclose()


@pytest.mark.parametrize("reason", ["killed", "lost"])
async def test_a_decoder_that_is_killed_is_a_failure(reason: str) -> None:
    host = CodecHost()
    await host.start()
    before = failures()
    async with decoded(host, png(4000), DecodeLimits()) as image:
        zygote = host.pid
        assert zygote is not None
        (child,) = children_of(zygote)
        os.kill(child if reason == "killed" else zygote, signal.SIGKILL)
        with pytest.raises(Unavailable):
            while await image.read(500) is not None:
                pass
    assert new(before) == {reason: 1}
    await host.aclose()


async def test_an_image_that_is_refused_is_no_failure() -> None:
    host = CodecHost()
    await host.start()
    before = failures()
    for data, error in ((b"none", ImageRejected), (png(64)[:60], ImageRejected), (png(64), LimitExceeded)):
        with pytest.raises(error):
            await decode_all(host, data, DecodeLimits(max_pixels=1000))
    assert new(before) == {}
    await host.aclose()


async def test_processor_time_goes_on_over_the_end_of_the_codec_process() -> None:
    host = CodecHost()
    await host.start()
    await decode_all(host, png(2000))
    await eventually(lambda: host.cpu_seconds > 0)
    before, pid = host.cpu_seconds, host.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: host.pid is None)
    assert host.cpu_seconds == before
    await decode_all(host, png(2000))
    # Of the new process alone the beginning takes long.
    await eventually(lambda: host.cpu_seconds > before * 1.2)
    await host.aclose()
    assert host.cpu_seconds > before


async def test_memory_is_that_of_the_codec_process_and_its_children() -> None:
    host = CodecHost()
    assert host.resident_bytes == 0
    await host.start()
    alone = host.resident_bytes
    assert alone > 10e6
    async with decoded(host, png(3000), DecodeLimits()):
        # The rows that nobody has read yet.
        assert host.resident_bytes > alone + 20e6
    await host.aclose()
    assert host.resident_bytes == 0


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert resident_bytes_of_one(2**22 + 1) == 0
    assert resident_bytes_of(2**22 + 1) == 0
