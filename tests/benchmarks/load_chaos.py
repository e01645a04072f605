"""The worker is killed again and again under traffic: every result must be right, to the last byte."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.load_traffic import MODEL, Picture, small_pictures
from tests.benchmarks.processes import measured_server
from upscaled import AsyncClient, UpscaledError

_REQUESTS = 200
_AT_ONCE = 8
_KILL_SECONDS = 3.0


async def killed_workers() -> dict[str, Any]:
    """200 requests, 8 at a time, while kill -9 ends the worker every 3 s; the SDK makes no second attempt."""
    pictures = small_pictures(20, longest=384)
    wrong = kills = 0
    errors = list[str]()
    with measured_server() as server:
        async with AsyncClient(server.address) as client:
            expected = [await _hash(client, picture) for picture in pictures]
            limit = asyncio.Semaphore(_AT_ONCE)

            async def request(number: int) -> None:
                nonlocal wrong
                async with limit:
                    try:
                        found = await _hash(client, pictures[number % len(pictures)])
                    except UpscaledError as error:
                        errors.append(f"{type(error).__name__}: {error}")
                        return
                wrong += found != expected[number % len(pictures)]

            async def kill() -> None:
                nonlocal kills
                while True:
                    await asyncio.sleep(_KILL_SECONDS)
                    kills += kill_worker(server.pid)

            began = time.monotonic()
            killing = asyncio.create_task(kill())
            await asyncio.gather(*(request(number) for number in range(_REQUESTS)))
            killing.cancel()
            seconds = time.monotonic() - began
    return {
        "requests": _REQUESTS,
        "kills": kills,
        "seconds": seconds,
        "correct": _REQUESTS - wrong - len(errors),
        "other_bytes": wrong,
        "errors": errors,
    }


async def _hash(client: AsyncClient, picture: Picture) -> str:
    result = await client.upscale(picture.data, model=MODEL, retries=0, timeout=300)
    return hashlib.sha256(result.data).hexdigest()


def kill_worker(server: int) -> int:
    for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        if "upscaled_server.pool.worker" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)
            return 1
    return 0
