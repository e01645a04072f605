"""Images and callers for the load benchmark."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.large_image import photograph
from upscaled import AsyncClient, OverloadedError, UpscaledError

MODEL = "real-esrgan-animevideo-v3"
LARGE_MEGAPIXELS = 4.0


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image of `width` x `height` pixels."""

    data: bytes
    width: int
    height: int

    @property
    def large(self) -> bool:
        return self.width * self.height > 1_000_000


@dataclass(slots=True)
class Outcome:
    """What came of requests: seconds of those that were answered, and how many were refused or failed."""

    small_seconds: list[float] = field(default_factory=list)
    large_seconds: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)


def small_pictures(count: int, longest: int = 512, seed: int = 1) -> list[Picture]:
    """PNG files with sides of 128 to `longest` pixels."""
    chance = random.Random(seed)
    return [_small(chance.randint(128, longest), chance.randint(128, longest), n) for n in range(count)]


def large_picture() -> Picture:
    return Picture(*photograph(LARGE_MEGAPIXELS))


def _small(width: int, height: int, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, "PNG")
    return Picture(out.getvalue(), width, height)


async def ask(client: AsyncClient, picture: Picture, outcome: Outcome, priority: str = "interactive") -> None:
    """One request, without a second attempt."""
    began = time.monotonic()
    try:
        await client.upscale(
            picture.data,
            model=MODEL,
            format="jpeg" if picture.large else "png",
            priority=priority,  # type: ignore[arg-type]
            retries=0,
            timeout=300,
        )
    except OverloadedError:
        outcome.refused += 1
    except UpscaledError as error:
        outcome.errors.append(f"{type(error).__name__}: {error}")
    else:
        seconds = outcome.large_seconds if picture.large else outcome.small_seconds
        seconds.append(time.monotonic() - began)


@asynccontextmanager
async def large_jobs(client: AsyncClient, picture: Picture, priority: str) -> AsyncIterator[None]:
    """One large image after the other, for as long as this is entered."""

    async def work() -> None:
        while True:
            await ask(client, picture, Outcome(), priority)

    task = asyncio.create_task(work())
    await asyncio.sleep(1.0)  # it is being computed by then
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def warm(client: AsyncClient) -> None:
    """The first images on a server take longer than those that follow."""
    for picture in small_pictures(3, seed=9):
        await ask(client, picture, Outcome())


def summary(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {"refused": outcome.refused, "errors": outcome.errors}
    for name, seconds in (("small", outcome.small_seconds), ("large", outcome.large_seconds)):
        if seconds:
            found[name] = {
                "answered": len(seconds),
                "p50_seconds": percentile(seconds, 0.5),
                "p95_seconds": percentile(seconds, 0.95),
                "longest_seconds": max(seconds),
            }
    return found


def percentile(seconds: list[float], share: float) -> float:
    """The nearest rank; not a number for none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else float("nan")
