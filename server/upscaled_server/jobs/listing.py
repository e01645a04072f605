"""Pages of a caller's jobs, newest first, each from a bounded number of entries."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from upscaled_server.errors import InvalidField
from upscaled_server.jobs import ids
from upscaled_server.jobs.job import Job, State
from upscaled_server.jobs.records import JOBS, job_key, read_job
from upscaled_server.state.store import Entry, Store

MAX_PAGE = 1000
DEFAULT_PAGE = 50

MAX_EXAMINED = 1000
"""Entries that one page may be chosen from. Where few of them fit the filters the page is short, or empty,
and the token leads on."""
_MAX_PAGE_BYTES = 2 << 20
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs are wanted: states and labels that they must have, and when they were created, in seconds
    since 1970: `after` included, `before` not."""

    states: frozenset[State] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    after: float | None = None
    before: float | None = None

    def fit(self, job: Job) -> bool:
        if self.states and job.state not in self.states:
            return False
        return all(job.labels.get(name) == value for name, value in self.labels)

    @property
    def digest(self) -> str:
        content = [sorted(self.states), sorted(self.labels), self.after, self.before]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Page:
    """`token` is that of the next page; empty if there is none."""

    jobs: tuple[Job, ...]
    token: str


class Listing:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, caller: str, filters: Filters, *, size: int, token: str) -> Page:
        """Raises `InvalidField` for a size out of range and a token that is not of this caller and these
        filters."""
        if not 0 <= size <= MAX_PAGE:
            raise InvalidField("page_size", "is out of range", limit=f"0 to {MAX_PAGE}", actual=size)
        wanted = size or DEFAULT_PAGE
        below = _read_token(token, caller, filters) if token else _begin(filters)
        jobs: list[Job] = []
        examined = size_bytes = 0
        while examined < MAX_EXAMINED:
            asked = min(_AT_ONCE, MAX_EXAMINED - examined)
            entries = await self._below(caller, below, asked)
            for entry in entries:
                below = entry.key.rpartition("/")[2]
                if filters.after is not None and ids.time_of(below) < filters.after:
                    return Page(tuple(jobs), "")
                examined += 1
                job = read_job(entry).job
                if filters.fit(job):
                    jobs.append(job)
                    size_bytes += len(entry.value)
                if len(jobs) >= wanted or size_bytes > _MAX_PAGE_BYTES:
                    return Page(tuple(jobs), _make_token(below, caller, filters))
            if len(entries) < asked:
                return Page(tuple(jobs), "")
            await asyncio.sleep(0)  # others have a turn
        return Page(tuple(jobs), _make_token(below, caller, filters))

    async def _below(self, caller: str, job_id: str, limit: int) -> list[Entry]:
        after = job_key(caller, job_id) if job_id else ""
        return await self._store.range(f"{JOBS}/{caller}", after=after, limit=limit, reverse=True)


def _begin(filters: Filters) -> str:
    return "" if filters.before is None else ids.first_id_at(filters.before)


def _make_token(job_id: str, caller: str, filters: Filters) -> str:
    return base64.urlsafe_b64encode(f"{job_id}{_bond(job_id, caller, filters)}".encode()).decode()


def _read_token(token: str, caller: str, filters: Filters) -> str:
    try:
        text = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        text = ""
    job_id = text[: ids.LENGTH]
    if not ids.is_id(job_id) or text[ids.LENGTH :] != _bond(job_id, caller, filters):
        raise InvalidField(
            "page_token",
            "is not a token of this caller and these filters",
            limit="next_page_token of the page before",
            actual=ascii(token[:80]),
        )
    return job_id


def _bond(job_id: str, caller: str, filters: Filters) -> str:
    """Ties a token to whose it is and what was asked. No secret: it leads nowhere but to one's own jobs."""
    return hashlib.sha256(f"{job_id}/{caller}/{filters.digest}".encode()).hexdigest()[:16]
