"""Mutated image files through the codec processes, several at once.

Every answer must be pixels or a refusal that is the image's doing: what says that the server failed is a
finding, and so is an answer that does not come.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import seeds
from tests.fuzz.mutation import mutated
from tests.fuzz.record import Found
from upscaled_server.errors import DomainError, ImageRejected, LimitExceeded
from upscaled_server.media.codec import CodecHost, CodecSettings, DecodeLimits

_LIMITS = DecodeLimits(max_pixels=4_000_000, memory_bytes=512 << 20, cpu_seconds=5, wall_seconds=15.0)
_LONGEST_SECONDS = 40.0
_STRIP_ROWS = 256


def fuzz(seconds: float, seed: int, kept: Path) -> Found:
    """`kept`: the folder for inputs that are findings."""
    return asyncio.run(_fuzz(seconds, seed, kept))


async def _fuzz(seconds: float, seed: int, kept: Path) -> Found:
    found, images = Found("images"), seeds.images()
    host = CodecHost(CodecSettings(parallel_decodes=2))
    await host.start()
    first = host.pid
    began = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for lane in range(4):
                chance = random.Random(f"{seed} {lane}")
                group.create_task(_lane(host, images, chance, began + seconds, found, kept))
        if host.pid != first:
            found.note("the codec process was lost")
        if host.open_count:
            found.note(f"{host.open_count} decodes are still open")
    finally:
        found.seconds = time.monotonic() - began
        await host.aclose()
    return found


async def _lane(
    host: CodecHost, images: Sequence[bytes], chance: random.Random, until: float, found: Found, kept: Path
) -> None:
    while time.monotonic() < until:
        data = mutated(chance.choice(images), images, chance)
        outcome = await _outcome(host, data)
        found.executions += 1
        found.outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith("WRONG"):
            name = hashlib.sha256(data).hexdigest()[:16]
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"image-{name}").write_bytes(data)
            found.note(f"image-{name}: {outcome}")


async def _outcome(host: CodecHost, data: bytes) -> str:
    try:
        async with asyncio.timeout(_LONGEST_SECONDS), host.decode(data, _LIMITS) as image:
            await image.ready()
            rows = 0
            while (strip := await image.read(_STRIP_ROWS)) is not None:
                rows += len(strip)
            if rows != image.info.height:
                return f"WRONG: {rows} rows of {image.info.height}"
    except (ImageRejected, LimitExceeded) as refusal:
        if not refusal.message.isprintable():
            return f"WRONG: a message that cannot be printed: {refusal.message!a}"
        crashed = "crash the decoder" in refusal.message
        return "refused for a crash of the decoder" if crashed else f"refused as {refusal.reason}"
    except TimeoutError:
        return f"WRONG: no answer within {_LONGEST_SECONDS:g} s"
    except DomainError as error:
        return f"WRONG: {error!r}"
    return "decoded"
