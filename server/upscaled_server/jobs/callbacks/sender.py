"""Tells receivers that jobs have ended, over restarts.

The steps of a try, each of which may be the last before the process dies: ask; note when the next try is;
write the outcome on the job, which makes the new note the one that counts; drop the old note. So a receiver
may be told twice, with the same id, and is never forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
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
    """`render` gives what is sent: the job as JSON. Use `start` once, `aclose` at the end."""

    def __init__(
        self,
        book: Book,
        poster: Poster,
        settings: CallbackSettings,
        render: Callable[[Job], bytes],
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._book = book
        self._poster = poster
        self._render = render
        self._clock = clock or SystemClock()
        self._chance = chance or random.Random()
        self._waiting = Waiting(
            Bounds(
                settings.max_concurrent_callbacks,
                settings.max_concurrent_callbacks_per_caller,
                settings.max_concurrent_callbacks_per_origin,
            )
        )
        self._seconds = settings.callback_seconds
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._tries: set[asyncio.Task[None]] = set()
        self.counts = CallbackCounts()

    @property
    def pending(self) -> int:
        """Receivers still to be told."""
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
        self._add(due)

    async def start(self) -> None:
        """Begin, with what is left of the life before. Raises what the store raises."""
        async for due in index.everything(self._book.store):
            self._waiting.add(due)
        self._loop = asyncio.create_task(self._work(), name="callbacks")

    async def aclose(self) -> None:
        """Tries that run are finished if they do so soon; the others come again after the next start."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._tries:
            _, late = await asyncio.wait(self._tries, timeout=min(5.0, self._seconds))
            for each in late:
                each.cancel()
            if late:
                await asyncio.wait(late)
        await self._poster.aclose()

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now()
            while (due := self._waiting.take(int(now * 1000))) is not None:
                task = asyncio.create_task(self._take(due), name=f"callback {due.job_id}")
                self._tries.add(task)
                task.add_done_callback(self._tries.discard)
            upcoming = self._waiting.next_milliseconds()
            wait = _IDLE_SECONDS if upcoming is None else max(0.001, upcoming / 1000 - now)
            await self._clock.wait(self._wake, wait)

    async def _take(self, due: Due) -> None:
        again = False
        try:
            await self._try(due)
        except DomainError as error:
            _LOG.warning("the callback of job %s is put off: %s", due.job_id, error.message)
            again = True
        except Exception:  # other callbacks must go out all the same
            _LOG.exception("the callback of job %s is put off", due.job_id)
            again = True
        finally:
            self._waiting.done(due)
            self._wake.set()
        if again:
            self._waiting.add(due, at=int((self._clock.now() + _AGAIN_SECONDS) * 1000))

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
        upcoming = None
        if after.next_attempt is not None:
            upcoming = replace(due, milliseconds=round(after.next_attempt * 1000))
            await index.note(self._book.store, upcoming)
        try:
            await self._book.change(
                due.caller,
                due.job_id,
                lambda job: replace(job, callback=after) if due_of(job) == due.milliseconds else job,
            )
        except NotFound:  # deleted meanwhile, and with it everything about it
            if upcoming is not None:
                await index.drop(self._book.store, upcoming)
            upcoming = None
        await index.drop(self._book.store, due)
        if upcoming is not None:
            self._add(upcoming)

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
