"""What one of many servers does so that nothing stays for ever that nobody works on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from upscaled_server.errors import DomainError, ProcessingFailed
from upscaled_server.jobs import ids
from upscaled_server.jobs.creation import undo
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.shared_queue import Dead, Stream
from upscaled_server.jobs.verdicts import Verdicts
from upscaled_server.state.duty import Duty

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 300.0
_AGAIN_SECONDS: Final = 15.0
_ABANDONED_SECONDS: Final = 600.0
"""Far longer than anybody is at making a job, also if clocks differ."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """`dead_letters` and `abandoned` go on for ever."""

    ending: Ending
    stream: Stream
    verdicts: Verdicts
    duty: Duty
    clock: Callable[[], float] = time.time

    async def dead_letters(self) -> None:
        """Jobs whose turns came too often without an end fail."""
        async for dead in self.stream.dead():
            while not await self._settled(dead):  # noqa: ASYNC110 - a store that does not answer
                await asyncio.sleep(_AGAIN_SECONDS)

    async def abandoned(self) -> None:
        """Jobs that were never acknowledged, since whoever made them was killed, go."""
        await self.duty.run(self._look_now_and_then)

    async def _settled(self, dead: Dead) -> bool:
        caller, job_id = dead.item.owner, dead.item.id
        failed = self.verdicts.failed(
            ProcessingFailed("the job was taken up too often without an end, and is given up")
        )
        try:
            if await self.ending.book.find(caller, job_id) is not None:
                await self.ending.end(caller, job_id, failed)
            await dead.settle()
        except DomainError as error:
            log.warning("that job %s is given up cannot be written down: %s", job_id, error.message)
            return False
        log.error("job %s was taken up too often without an end, and has failed", job_id)
        return True

    async def _look_now_and_then(self) -> None:
        while True:
            try:
                await self.look()
            except DomainError as error:
                log.warning("jobs that were never acknowledged are looked for later: %s", error.message)
            await asyncio.sleep(_EVERY_SECONDS)

    async def look(self) -> int:
        """How many there were."""
        book, count = self.ending.book, 0
        for live in await book.all_live():
            if ids.time_of(live.id) + _ABANDONED_SECONDS > self.clock():
                continue
            stored = await book.find(live.caller, live.id)
            if stored is None:
                await undo(book, self.ending.files, live.caller, live.id)
                count += 1
            elif stored.job.state.final:
                await self.ending.settle(stored.job)
        return count
