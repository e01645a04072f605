"""The jobs in the store: one entry each, changed one by one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from upscaled_server.errors import NotFound
from upscaled_server.jobs.job import Job
from upscaled_server.jobs.records import (
    LIVE,
    Live,
    Stored,
    job_key,
    job_value,
    live_key,
    live_value,
    read_job,
    read_live,
)
from upscaled_server.state.store import MAX_RANGE, KeyExists, Store, VersionChanged


class Book:
    """Raises what the store raises, besides what is named."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def find(self, caller: str, job_id: str) -> Stored | None:
        entry = await self.store.get(job_key(caller, job_id))
        return None if entry is None else read_job(entry)

    async def get(self, caller: str, job_id: str) -> Job:
        """Raises `NotFound`."""
        stored = await self.find(caller, job_id)
        if stored is None:
            raise no_such_job(job_id)
        return stored.job

    async def create(self, job: Job) -> Job:
        """The job as it is there: of two who create it the first wins."""
        try:
            await self.store.create(job_key(job.caller, job.id), job_value(job))
        except KeyExists:
            return await self.get(job.caller, job.id)
        return job

    async def change(self, caller: str, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Write what `change` makes of the job, which it may be asked several times; the same object changes
        nothing. Raises `NotFound`."""
        while True:
            stored = await self.find(caller, job_id)
            if stored is None:
                raise no_such_job(job_id)
            changed = change(stored.job)
            if changed is stored.job:
                return changed
            try:
                await self.store.update(job_key(caller, job_id), job_value(changed), stored.version)
            except VersionChanged:
                continue
            return changed

    async def delete(self, caller: str, job_id: str) -> None:
        """Missing is fine."""
        await _delete(self.store, job_key(caller, job_id))

    async def mark_live(self, job: Job) -> None:
        size = 0 if job.input is None else job.input.size_bytes
        with suppress(KeyExists):
            await self.store.create(live_key(job.caller, job.id), live_value(job.request_id, size))

    async def unmark_live(self, caller: str, job_id: str) -> None:
        await _delete(self.store, live_key(caller, job_id))

    async def find_live(self, caller: str, job_id: str) -> Live | None:
        entry = await self.store.get(live_key(caller, job_id))
        return None if entry is None else read_live(entry)

    async def all_live(self) -> list[Live]:
        """In the order in which they were made."""
        return sorted(await self._live(LIVE), key=lambda live: live.id)

    async def live_of(self, caller: str) -> list[Live]:
        """Those of one caller, in the order in which they were made."""
        return await self._live(f"{LIVE}/{caller}")

    async def _live(self, prefix: str) -> list[Live]:
        found: list[Live] = []
        last = ""
        while page := await self.store.range(prefix, after=last):
            found += map(read_live, page)
            last = page[-1].key
            if len(page) < MAX_RANGE:
                break
        return found


async def _delete(store: Store, key: str) -> None:
    """Whatever the entry's version is; missing is fine."""
    while (entry := await store.get(key)) is not None:
        try:
            await store.delete(key, entry.version)
        except VersionChanged:
            continue
        return


def no_such_job(job_id: str) -> NotFound:
    return NotFound("job", job_id, hint="it never was, belongs to another caller, or has expired")
