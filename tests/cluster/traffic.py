"""Jobs of a caller, made and followed by the SDK as callers do, and what became of each."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from upscaled import AsyncClient, AsyncJob, Retries, UpscaledError

MODEL = "real-esrgan-animevideo-v3"

# As patient as a caller who wants the job done; a node's end is over long before.
PATIENT = Retries(max_retries=30, initial_seconds=0.25, max_seconds=5.0)
_AT_ONCE = 48
_JOB_LIMIT_SECONDS = 900.0
_OFTEN = 5


def picture(number: int, side: int = 64) -> bytes:
    """A PNG of noise that no other number has, so that a result which is another's shows."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8))
    out = io.BytesIO()
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


@dataclass(slots=True)
class Outcome:
    """One job. `sha256` is of its output as it was downloaded; `error` says why there is none."""

    number: int
    job_id: str = ""
    state: str = ""
    attempts: int = 0
    sha256: str = ""
    error: str = ""
    made_twice: bool = False


@dataclass(slots=True)
class Traffic:
    """The jobs of one caller, by their numbers."""

    client: AsyncClient
    side: int = 64
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _jobs: dict[int, AsyncJob] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def created(self) -> int:
        return sum(bool(each.job_id) for each in self.outcomes.values())

    @property
    def states(self) -> Counter[str]:
        """How many ended in which state."""
        return Counter(each.state for each in self.outcomes.values() if each.state)

    @property
    def repeated(self) -> int:
        """Attempts beyond the first of each job."""
        return sum(max(0, each.attempts - 1) for each in self.outcomes.values())

    async def until_ended(self, count: int) -> None:
        """Of all jobs so many have."""
        while self.states.total() < count:
            self._changed.clear()
            await self._changed.wait()

    async def create(self, numbers: Iterable[int], at_once: int = 8) -> None:
        """Every fifth is created a second time, as a caller does who did not hear the answer."""
        await _all(at_once, (self._create(number) for number in numbers))

    async def finish(self) -> None:
        """Until each that was made has ended and its output is here."""
        await _all(_AT_ONCE, (self._finish(number) for number in list(self._jobs)))

    async def _create(self, number: int) -> None:
        outcome = self.outcomes[number] = Outcome(number)
        data = picture(number, self.side)
        try:
            job = await self._made(number, data)
            if number % _OFTEN == 0:
                again = await self._made(number, data)
                outcome.made_twice = again.id != job.id
        except UpscaledError as error:
            outcome.state, outcome.error = "refused", f"not created: {type(error).__name__}: {error}"
            self._changed.set()
            return
        outcome.job_id = job.id
        self._jobs[number] = job

    async def _made(self, number: int, data: bytes) -> AsyncJob:
        return await self.client.jobs.create(
            data,
            model=MODEL,
            scale=scale_of(number),
            labels={"number": str(number)},
            request_id=f"request-{number}",
            retries=PATIENT,
        )

    async def _finish(self, number: int) -> None:
        job, outcome = self._jobs[number], self.outcomes[number]
        try:
            await job.wait(_JOB_LIMIT_SECONDS)
            outcome.sha256 = hashlib.sha256(await job.read()).hexdigest()
        except UpscaledError as error:
            outcome.error = f"{type(error).__name__}: {error}"
        outcome.state, outcome.attempts = job.state, job.attempts
        self._changed.set()


async def expected(address: str, numbers: Iterable[int], side: int = 64) -> dict[int, str]:
    """SHA-256 of what each job must give: of a server by itself, which nothing disturbs."""
    found: dict[int, str] = {}

    async def ask(client: AsyncClient, number: int) -> None:
        result = await client.upscale(picture(number, side), model=MODEL, scale=scale_of(number))
        assert result.data is not None
        found[number] = hashlib.sha256(result.data).hexdigest()

    async with AsyncClient(address, timeout=300) as client:
        await _all(8, (ask(client, number) for number in numbers))
    return found


def scale_of(number: int) -> float:
    return 1.5 + number % 4


async def _all(at_once: int, work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """So many at a time, in their order."""
    turns = asyncio.Semaphore(at_once)

    async def one(each: Coroutine[Any, Any, None]) -> None:
        async with turns:
            await each

    await asyncio.gather(*map(one, work))
