"""Tells receivers that jobs have ended, over restarts.

The steps of a try, each of which may be the last before the process dies: ask; note when the next try is;
write the outcome on the job, which makes the new note the one that counts; drop the old note. So a receiver
may be told twice, with the same id, and is never forgotten.

Where several servers share the store, one of them makes the tries; the others write down what is to be told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace

from upscaled_server.errors import DomainError, NotFound, UrlRefused
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.callbacks import index
from upscaled_server.jobs.callbacks.clock import Clock, SystemClock
from upscaled_server.jobs.callbacks.index import Due, due_of
from upscaled_server.jobs.callbacks.post import Answer, Poster
from upscaled_server.jobs.callbacks.schedule import next_wait
from upscaled_server.jobs.callbacks.settings import CallbackSettings
from upscaled_server.jobs.callbacks.signature import message_id
from upscaled_server.jobs.callbacks.waiting import Bounds, Waiting
from upscaled_server.jobs.job import Callback, CallbackState, Job
from upscaled_server.jobs.tracing import about
from upscaled_server.state.change_reader import ChangeReader
from upscaled_server.state.duty import Alone, Duty
from upscaled_server.state.nats.tasks import cancel_for_certain
from upscaled_server.state.store import Entry
from upscaled_server.telemetry import metrics, tracing
from upscaled_server.telemetry.tracing import Attributes, Kind

_LOG = logging.getLogger(__name__)

# After a try that the server itself could not carry through, such as with a full disk.
_AGAIN_SECONDS = 30.0
_IDLE_SECONDS = 3600.0


@dataclass(slots=True)
class CallbackCounts:
    """Since the start. `failed` tries are tried again, `given_up` are not."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0


class CallbackSender:
    """`render` gives what is sent: the job as JSON. `duty`: whether this server makes the tries. Use `start`
    once, `aclose` at the end."""

    def __init__(
        self,
        book: Book,
        poster: Poster,
        settings: CallbackSettings,
        render: Callable[[Job], bytes],
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        duty: Duty | None = None,
    ) -> None:
        self._book = book
        self._poster = poster
        self._render = render
        self._clock = clock or SystemClock()
        self._chance = chance or random.Random()
        self._duty = duty or Alone()
        self._bounds = Bounds(
            settings.max_concurrent_callbacks,
            settings.max_concurrent_callbacks_per_caller,
            settings.max_concurrent_callbacks_per_origin,
        )
        self._waiting = Waiting(self._bounds)
        self._noting: set[str] = set()
        self._seconds = settings.callback_seconds
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._tries: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.counts = CallbackCounts()

    @property
    def pending(self) -> int:
        """Receivers still to be told, by this server."""
        return len(self._waiting)

    def check(self, url: str) -> None:
        """Raises `UrlRefused` for what would never be called."""
        self._poster.origin(url)

    async def enqueue(self, job: Job) -> None:
        """Durably note that the job's receiver is to be told now. A second time changes nothing."""
        milliseconds = due_of(job)
        if milliseconds is None or job.callback is None:
            return
        due = Due(milliseconds, job.caller, job.id, self._origin(job.callback))
        await index.note(self._book.store, due)
        if self._duty.leads:
            self._add(due)

    async def start(self) -> None:
        """Begin, with what is left of the life before. Raises what the store raises; where the store is
        shared, it is read whenever the duty becomes this server's."""
        if not self._duty.shared:
            await self._load()
        self._loop = asyncio.create_task(self._duty.run(self._lead), name="callbacks")

    async def aclose(self) -> None:
        """Tries that run are finished if they do so soon; the others come again after the next start."""
        self._stopping = True
        if self._tries:
            _, late = await asyncio.wait(self._tries, timeout=min(5.0, self._seconds))
            await _ended(late)
        # Only now may another server begin.
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        await self._poster.aclose()

    async def _load(self) -> None:
        async for due in index.everything(self._book.store):
            if due.key not in self._noting:
                self._add(due)

    async def _lead(self) -> None:
        """For as long as the duty is this server's."""
        if not self._duty.shared:
            await self._work()
            return
        with closing(self._reader()) as reader:
            following = asyncio.create_task(reader.follow(), name="callbacks of others")
            try:
                await self._work()
            finally:
                await _ended({following, *self._tries})
                self._waiting = Waiting(self._bounds)

    def _reader(self) -> ChangeReader:
        """Of what other servers note."""
        return ChangeReader(
            self._book.store,
            index.PREFIX,
            self._take_note,
            self._load,
            wanted=lambda key: key not in self._waiting and key not in self._noting,
        )

    def _take_note(self, _key: str, entry: Entry | None) -> None:
        # That one is gone is seen when its time comes.
        if entry is not None:
            try:
                self._add(index.read(entry))
            except DomainError as error:
                _LOG.error("%s", error.message)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now()
            while not self._stopping and (due := self._waiting.take(int(now * 1000))) is not None:
                task = asyncio.create_task(self._take(due), name=f"callback {due.job_id}")
                self._tries.add(task)
                task.add_done_callback(self._tries.discard)
            upcoming = self._waiting.next_milliseconds()
            wait = _IDLE_SECONDS if upcoming is None else max(0.001, upcoming / 1000 - now)
            await self._clock.wait(self._wake, wait)

    async def _take(self, due: Due) -> None:
        again, waiting = False, self._waiting
        try:
            await self._try(due)
        except DomainError as error:
            _LOG.warning("the callback of job %s is put off: %s", due.job_id, error.message)
            again = True
        except Exception:  # other callbacks must go out all the same
            _LOG.exception("the callback of job %s is put off", due.job_id)
            again = True
        finally:
            waiting.done(due)
            self._wake.set()
        if again:
            waiting.add(due, at=int((self._clock.now() + _AGAIN_SECONDS) * 1000))

    async def _try(self, due: Due) -> None:
        stored = await self._book.find(due.caller, due.job_id)
        if stored is None or stored.job.callback is None or due_of(stored.job) != due.milliseconds:
            await index.drop(self._book.store, due)
            return
        job, callback = stored.job, stored.job.callback
        with about(job):
            after = self._after(callback, await self._post(job, callback))
        await self._write(due, after)
        self._count(after)

    async def _post(self, job: Job, callback: Callback) -> Answer:
        attributes: Attributes = {"upscaled.job_id": job.id, "upscaled.attempt": callback.attempts + 1}
        parent = tracing.remote(job.traceparent)
        with tracing.within(
            tracing.start("callback", parent=parent, kind=Kind.CLIENT, attributes=attributes)
        ) as span:
            body = self._render(job)
            with metrics.timed("callback"):
                answer = await self._poster.post(
                    callback.url, body, caller=job.caller, message=message_id(job.id), now=self._clock.now()
                )
            span.set({"http.response.status_code": answer.http_status})
            if not answer.delivered:
                span.fail("not delivered")
        return answer

    def _after(self, callback: Callback, answer: Answer) -> Callback:
        tries = callback.attempts + 1
        told = replace(callback, attempts=tries, last_http_status=answer.http_status, next_attempt=None)
        if answer.delivered:
            return replace(told, state=CallbackState.DELIVERED)
        wait = None if answer.gone else next_wait(tries, answer.retry_after, self._chance)
        if wait is None:
            return replace(told, state=CallbackState.FAILED)
        return replace(told, next_attempt=round(self._clock.now() + wait, 3))

    async def _write(self, due: Due, after: Callback) -> None:
        if after.next_attempt is None:
            await self._write_down(due, after)
            return
        upcoming = replace(due, milliseconds=round(after.next_attempt * 1000))
        self._noting.add(upcoming.key)  # it counts once the job says so
        try:
            await index.note(self._book.store, upcoming)
            kept = await self._write_down(due, after)
            if not kept:
                await index.drop(self._book.store, upcoming)
        finally:
            self._noting.discard(upcoming.key)
        if kept:
            self._add(upcoming)

    async def _write_down(self, due: Due, after: Callback) -> bool:
        """Whether the job is still there."""
        kept = True
        try:
            await self._book.change(
                due.caller,
                due.job_id,
                lambda job: replace(job, callback=after) if due_of(job) == due.milliseconds else job,
            )
        except NotFound:  # deleted meanwhile, and with it everything about it
            kept = False
        await index.drop(self._book.store, due)
        return kept

    def _add(self, due: Due) -> None:
        self._waiting.add(due)
        self._wake.set()

    def _count(self, after: Callback) -> None:
        if after.state is CallbackState.DELIVERED:
            self.counts.delivered += 1
        elif after.state is CallbackState.FAILED:
            self.counts.given_up += 1
        else:
            self.counts.failed += 1

    def _origin(self, callback: Callback) -> str:
        try:
            return self._poster.origin(callback.url)
        except UrlRefused:  # allowed when the job was made, and not any more; the tries will say so
            return ""


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*map(cancel_for_certain, tasks))
