"""Puts the parts of durable jobs together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.jobs.board import Board
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.creation import Creation
from upscaled_server.jobs.ending import Ending
from upscaled_server.jobs.following import Following
from upscaled_server.jobs.janitor import Janitor
from upscaled_server.jobs.listing import Listing
from upscaled_server.jobs.local_board import LocalBoard
from upscaled_server.jobs.local_queue import LocalQueue
from upscaled_server.jobs.places import Files
from upscaled_server.jobs.ports import Blobs, Callbacks, Helpers, Outputs
from upscaled_server.jobs.queue import Queue
from upscaled_server.jobs.recovery import Recovery
from upscaled_server.jobs.room import Room
from upscaled_server.jobs.runner import Runner
from upscaled_server.jobs.service import Jobs
from upscaled_server.jobs.settings import JobSettings
from upscaled_server.jobs.shared_board import SharedBoard
from upscaled_server.jobs.shared_queue import SharedQueue, Stream
from upscaled_server.jobs.shared_upkeep import Upkeep
from upscaled_server.jobs.verdicts import Verdicts
from upscaled_server.jobs.work import Work
from upscaled_server.pipeline.fetch import Sources
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.storing import Images
from upscaled_server.state.background import BackgroundWork
from upscaled_server.state.duty import Duty
from upscaled_server.state.news import News

_ELSEWHERE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a server has in common with others. `pending_seconds`: of the devices here, planned already;
    `ahead_seconds`: of their time, how much is taken from the stream before it is wanted."""

    stream: Stream
    news: News
    duty: Duty
    pending_seconds: Callable[[], float]
    ahead_seconds: float


def build_jobs(
    book: Book,
    *,
    blobs: Blobs,
    images: Images,
    sources: Sources,
    outputs: Outputs,
    callbacks: Callbacks,
    helpers: Helpers,
    settings: JobSettings,
    keeping: KeepingSettings,
    limits: LimitSettings,
    sharing: Sharing | None = None,
    janitor_duty: Duty | None = None,
    clock: Callable[[], float] = time.time,
) -> Jobs:
    """The service, to be started. `sharing`: with other servers, None for one by itself."""
    files = Files(blobs)

    def ending_with(board: Board) -> Ending:
        return Ending(book, board, files, outputs, callbacks, clock)

    recovery: Recovery | None = None
    background: Sequence[BackgroundWork] = ()
    board: Board
    queue: Queue
    if sharing is None:
        board, queue = LocalBoard(), (local := LocalQueue())
        ending = ending_with(board)
        recovery = Recovery(ending, local, helpers, settings.max_job_restarts, clock)
    else:
        board = shared = SharedBoard(book, sharing.news)
        queue = SharedQueue(sharing.stream, sharing.pending_seconds, ahead_seconds=sharing.ahead_seconds)
        ending = ending_with(board)
        upkeep = Upkeep(ending, sharing.stream, Verdicts(helpers.describe), sharing.duty, clock)
        background = (shared.keep, upkeep.dead_letters, upkeep.abandoned)
    room = Room(board, outputs, settings)
    work = Work(book, files, images, sources, outputs, limits, clock)
    return Jobs(
        book=book,
        board=board,
        queue=queue,
        creation=Creation(
            book,
            board,
            queue,
            files,
            room,
            images,
            callbacks,
            helpers,
            keeping,
            elsewhere_seconds=0.0 if sharing is None else _ELSEWHERE_SECONDS,
        ),
        ending=ending,
        runner=Runner(
            ending,
            queue,
            work,
            helpers,
            max_running=settings.max_running_jobs,
            max_restarts=settings.max_job_restarts,
            clock=clock,
        ),
        following=Following(book, board, files),
        listing=Listing(book.store),
        recovery=recovery,
        background=background,
        janitor=Janitor(ending, every_seconds=settings.janitor_seconds, clock=clock, duty=janitor_duty),
    )
