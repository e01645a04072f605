"""Whose turn is next: what a queue of jobs does, whoever shares it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from upscaled_server.jobs.job import Job


class Turn(Protocol):
    """The right, and the duty, to go on with one job. It is for nobody else until one of the ends.

    `lost` is set when it may be somebody else's by now: what is being done for it must stop at once.
    """

    @property
    def caller(self) -> str: ...

    @property
    def job_id(self) -> str: ...

    @property
    def lost(self) -> asyncio.Event: ...

    @property
    def record_due(self) -> bool:
        """Whether the record that the turn is for is there by now, or never will be."""

    @property
    def patience_seconds(self) -> float:
        """How long to wait here for what is short now, such as devices; then it is better had again, as
        somebody else may have them."""

    async def done(self) -> None:
        """The job needs no more turns. Raises `Unavailable` where that cannot be said now; then there may
        be another."""

    async def again(self, seconds: float) -> None:
        """There is to be another turn, after so many seconds."""


class Queue(Protocol):
    """Jobs that wait for a turn."""

    def __len__(self) -> int:
        """How many wait, of everybody, as known now."""

    def offered(self, job: Job, weight: float) -> AbstractAsyncContextManager[None]:
        """Around the step that makes the job's record: whenever there is a record, there is a turn to come.
        `weight` is the caller's share. Raises `Unavailable`, `Overloaded`."""

    def withdraw(self, job_id: str) -> None:
        """The job is not to be worked on. A turn may come all the same."""

    async def take(self) -> Turn | None:
        """The next turn, when there is one; None once closed."""

    def close(self) -> None:
        """Nobody gets a turn any more."""
