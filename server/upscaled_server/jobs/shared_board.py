"""The board of a server among others: it knows which jobs have not ended, works on some of them, and hears of
the rest.

Which there are follows from the entries `live/`. How far the work is goes from server to server as news,
which nobody keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from upscaled_server.errors import DomainError
from upscaled_server.jobs.board import Place
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.job import Job
from upscaled_server.jobs.records import LIVE, job_key, whose_live
from upscaled_server.jobs.standing import apply, pack
from upscaled_server.state.news import Listener, News
from upscaled_server.state.store import MAX_RANGE
from upscaled_server.state.watching import Watch

_BETWEEN_NEWS_SECONDS: Final = 0.1
_AGAIN_SECONDS: Final = 1.0


class SharedBoard:
    def __init__(self, book: Book, news: News) -> None:
        self._book = book
        self._news = news
        self._unended: dict[str, set[str]] = {}
        self._working: dict[str, Place] = {}
        self._following: set[Place] = set()
        self.closed = False

    def __len__(self) -> int:
        return sum(map(len, self._unended.values()))

    def count_of(self, caller: str) -> int:
        return len(self._unended.get(caller, ()))

    async def image_bytes_of(self, caller: str) -> int:
        return sum(live.size_bytes for live in await self._book.live_of(caller))

    def add(self, job: Job) -> None:
        self._unended.setdefault(job.caller, set()).add(job.id)

    def remove(self, job: Job) -> None:
        self._forget(job.caller, job.id)

    def get(self, job_id: str) -> Place | None:
        return self._working.get(job_id)

    async def look(self, job: Job) -> Place | None:
        if (place := self._working.get(job.id)) is not None:
            return place
        answer = await self._news.ask(job.id)
        if answer is None:
            return None
        place = Place(job)
        apply(answer, place)
        return place

    @asynccontextmanager
    async def working(self, job: Job) -> AsyncIterator[Place]:
        place = self._working[job.id] = Place(job)
        telling = asyncio.create_task(self._tell(place), name=f"news of job {job.id}")
        try:
            async with self._news.answering(job.id, lambda: pack(place)):
                yield place
        finally:
            if self._working.get(job.id) is place:  # not of an attempt that came after this one was lost
                del self._working[job.id]
            await _ended(telling)

    @asynccontextmanager
    async def following(self, caller: str, job_id: str) -> AsyncIterator[Place | None]:
        with self._book.store.watch(job_key(caller, job_id)) as changes:
            stored = await self._book.find(caller, job_id)
            if stored is None or stored.job.state.final:
                yield None
                return
            place = Place(stored.job)
            async with self._news.listening(job_id) as news, self._among_followed(place):
                if (answer := await self._news.ask(job_id)) is not None:
                    apply(answer, place)
                hearing = [
                    asyncio.create_task(_wake_at(changes, place), name=f"changes of job {job_id}"),
                    asyncio.create_task(_hear(news, place), name=f"progress of job {job_id}"),
                ]
                try:
                    yield place
                finally:
                    await _ended(*hearing)

    def close(self) -> None:
        self.closed = True
        for place in (*self._working.values(), *self._following):
            place.wake()

    async def start(self) -> None:
        """Learn which jobs there are. Raises what the store raises."""
        last, found = "", dict[str, set[str]]()
        while page := await self._book.store.range(LIVE, after=last):
            for entry in page:
                caller, job_id = whose_live(entry.key)
                found.setdefault(caller, set()).add(job_id)
            last = page[-1].key
            if len(page) < MAX_RANGE:
                break
        self._unended = found

    async def keep(self) -> None:
        """For ever: follow which jobs there are."""
        with self._book.store.watch(LIVE) as changes:
            await self._until_it_succeeds()
            async for key in changes:
                if key == LIVE:
                    await self._until_it_succeeds()
                    continue
                caller, job_id = whose_live(key)
                if await self._book.store.has(key):
                    self._unended.setdefault(caller, set()).add(job_id)
                else:
                    self._forget(caller, job_id)

    async def _until_it_succeeds(self) -> None:
        while True:
            try:
                await self.start()
                return
            except DomainError:
                await asyncio.sleep(_AGAIN_SECONDS)

    def _forget(self, caller: str, job_id: str) -> None:
        ids = self._unended.get(caller)
        if ids is not None:
            ids.discard(job_id)
            if not ids:
                del self._unended[caller]

    async def _tell(self, place: Place) -> None:
        """Not oftener than people can see."""
        seen = -1
        while True:
            await place.news(seen)
            seen = place.version
            await self._news.tell(place.job.id, pack(place))
            await asyncio.sleep(_BETWEEN_NEWS_SECONDS)

    @asynccontextmanager
    async def _among_followed(self, place: Place) -> AsyncIterator[None]:
        self._following.add(place)
        try:
            yield
        finally:
            self._following.discard(place)


async def _wake_at(changes: Watch, place: Place) -> None:
    async for _ in changes:
        place.wake()


async def _hear(news: Listener, place: Place) -> None:
    while True:
        apply(await news.next(), place)


async def _ended(*tasks: asyncio.Task[None]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
