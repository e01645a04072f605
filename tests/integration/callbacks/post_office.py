"""What tells receivers, over a real store, in as many lives as a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.integration.callbacks.fake_clock import FakeClock

from upscaled_server.access.caller import Priority
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.callbacks.post import Poster
from upscaled_server.jobs.callbacks.sender import CallbackSender
from upscaled_server.jobs.callbacks.settings import CallbackSettings
from upscaled_server.jobs.ids import new_id
from upscaled_server.jobs.job import Callback, Job, JobSource, Origin, State
from upscaled_server.pipeline.request import Options
from upscaled_server.state.duty import Duty
from upscaled_server.state.store import Store

SECRETS = [b"k" * 32, b"o" * 32]


def render(job: Job) -> bytes:
    return b'{"id":"%s","caller":"%s"}' % (job.id.encode(), job.caller.encode())


@dataclass
class Post:
    """`start` is the beginning of a life; `book` is what they all have in common."""

    store: Store
    clock: FakeClock
    settings: dict[str, object]
    senders: list[CallbackSender] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = Book(self.store)

    async def start(self, store: Store | None = None, *, duty: Duty | None = None) -> CallbackSender:
        settings = CallbackSettings(**self.settings)  # type: ignore[arg-type]
        poster = Poster(settings, lambda _caller: SECRETS)
        book = Book(store) if store is not None else self.book
        sender = CallbackSender(book, poster, settings, render, clock=self.clock, duty=duty)
        self.senders.append(sender)
        await sender.start()
        return sender

    async def ended_job(self, url: str, caller: str = "anna") -> Job:
        job = Job(
            id=new_id(),
            caller=caller,
            source=JobSource(Origin.INLINE),
            options=Options(),
            priority=Priority.BATCH,
            created=self.clock.time,
            retention=3600.0,
            callback=Callback(url),
        )
        job = job.recorded().begun(self.clock.time).ended_as(State.CANCELLED, self.clock.time)
        return await self.book.create(job)

    async def callback_of(self, job: Job) -> Callback:
        callback = (await self.book.get(job.caller, job.id)).callback
        assert callback is not None
        return callback

    async def noted(self) -> list[str]:
        return [entry.key for entry in await self.store.range("callbacks")]
