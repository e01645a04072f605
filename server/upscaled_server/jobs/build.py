"""Puts the parts of durable jobs together."""

from __future__ import annotations

import time
from collections.abc import Callable

from upscaled_server.intake.keeping import KeepingSettings
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
from upscaled_server.jobs.recovery import Recovery
from upscaled_server.jobs.room import Room
from upscaled_server.jobs.runner import Runner
from upscaled_server.jobs.service import Jobs
from upscaled_server.jobs.settings import JobSettings
from upscaled_server.jobs.work import Work
from upscaled_server.pipeline.fetch import Sources
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.storing import Images


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
    clock: Callable[[], float] = time.time,
) -> Jobs:
    """The service, to be started."""
    board, queue, files = LocalBoard(), LocalQueue(), Files(blobs)
    room = Room(board, outputs, settings)
    ending = Ending(book, board, files, outputs, callbacks, clock)
    work = Work(book, files, images, sources, outputs, limits, clock)
    return Jobs(
        book=book,
        board=board,
        queue=queue,
        creation=Creation(book, board, queue, files, room, images, callbacks, helpers, keeping),
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
        recovery=Recovery(ending, queue, helpers, settings.max_job_restarts, clock),
        janitor=Janitor(ending, every_seconds=settings.janitor_seconds, clock=clock),
    )
