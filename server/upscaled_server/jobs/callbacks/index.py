"""What is due when, as it lies in the store.

callbacks/MILLISECONDS-CALLER-ULID    the receiver's origin, as JSON

The job's record says which of them counts: the one at its callback's next try. Any other is left of a
sequence of steps that was cut short, and is dropped when its time comes.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from upscaled_server.errors import ProcessingFailed
from upscaled_server.jobs.job import CallbackState, Job
from upscaled_server.state.store import MAX_RANGE, Entry, KeyExists, Store, VersionChanged

PREFIX = "callbacks"
_KEY = re.compile(rf"{PREFIX}/(\d{{13}})-(.+)-([0-9A-Z]{{26}})")


@dataclass(frozen=True, slots=True)
class Due:
    """A try of a job's callback. `milliseconds` since 1970."""

    milliseconds: int
    caller: str
    job_id: str
    origin: str

    @property
    def key(self) -> str:
        return f"{PREFIX}/{self.milliseconds:013}-{self.caller}-{self.job_id}"


def due_of(job: Job) -> int | None:
    """When the next try is, in milliseconds; None if there is none."""
    callback = job.callback
    if callback is None or callback.state is not CallbackState.PENDING or job.ended is None:
        return None
    return round(1000 * (job.ended if callback.next_attempt is None else callback.next_attempt))


async def note(store: Store, due: Due) -> None:
    """A second time is as good as the first."""
    with suppress(KeyExists):
        await store.create(due.key, json.dumps({"origin": due.origin}).encode())


async def drop(store: Store, due: Due) -> None:
    """Missing is fine."""
    entry = await store.get(due.key)
    if entry is not None:
        with suppress(VersionChanged):
            await store.delete(entry.key, entry.version)


async def everything(store: Store) -> AsyncIterator[Due]:
    """In the order of time."""
    last = ""
    while page := await store.range(PREFIX, after=last):
        for entry in page:
            yield read(entry)
        last = page[-1].key
        if len(page) < MAX_RANGE:
            return


def read(entry: Entry) -> Due:
    """Raises `ProcessingFailed` for an entry that is none."""
    parts = _KEY.fullmatch(entry.key)
    try:
        if parts is None:
            raise ValueError(entry.key)
        return Due(int(parts[1]), parts[2], parts[3], str(json.loads(entry.value)["origin"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ProcessingFailed(
            f"the entry {entry.key} cannot be read; put a backup of the database in its place", key=entry.key
        ) from error
