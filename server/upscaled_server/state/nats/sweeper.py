"""Removes the markers that deletions leave in the stream.

They are what tells the other replicas of a deletion, so each stays for a while. Then one of the replicas
says through which message markers go, as a compare-and-swap that the others lose, and removes them. Markers
that a replica left behind are removed after the next one has read all keys.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from itertools import islice
from uuid import uuid4

from nats.js.errors import APIError

from upscaled_server.errors import DomainError
from upscaled_server.state.nats.connection import WRONG_LAST_SEQUENCE, Connection
from upscaled_server.state.nats.feed import KEEP_DELETIONS_SECONDS, Feed
from upscaled_server.state.nats.messages import change_headers, sweep_headers
from upscaled_server.state.nats.subjects import SWEEP, Subjects
from upscaled_server.state.nats.tasks import cancel_for_certain

_LOG = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0
_MAX_AT_ONCE = 10_000
_TOGETHER = 16


class Sweeper:
    def __init__(
        self,
        connection: Connection,
        subjects: Subjects,
        feed: Feed,
        *,
        every_seconds: float = _EVERY_SECONDS,
        keep_seconds: float = KEEP_DELETIONS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._feed = feed
        self._every_seconds = every_seconds
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="nats sweeper")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel_for_certain(self._task)

    async def sweep(self) -> int:
        """How many markers were removed; 0 where another replica does it. Raises what the connection
        raises."""
        keys = self._feed.keys
        old = list(islice(keys.deletions(self._clock() - self._keep_seconds), _MAX_AT_ONCE))
        if not old:
            return 0
        through = max(version for _, version in old)
        async with self._connection.deadline("old deletions could not be removed"):
            if not await self._claim(keys.version_of(SWEEP), through):
                return 0
        for start in range(0, len(old), _TOGETHER):
            async with self._connection.deadline("old deletions could not be removed"):
                await asyncio.gather(*(self._remove(*each) for each in old[start : start + _TOGETHER]))
        return len(old)

    async def _claim(self, version: int, through: int) -> bool:
        headers = change_headers(uuid4().hex, version) | sweep_headers(through)
        try:
            await self._connection.ask(
                lambda js: js.publish(self._subjects.of(SWEEP), b"", headers=dict(headers))
            )
        except APIError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            return False
        return True

    async def _remove(self, key: str, version: int) -> None:
        """Only that message: what was made under the key since has a greater version."""
        stream, subject = self._subjects.stream, self._subjects.of(key)
        await self._connection.ask(lambda js: js.purge_stream(stream, subject=subject, seq=version + 1))

    async def _run(self) -> None:
        while True:
            # So that servers do not sweep at the same moment; nobody gains by guessing it.
            await asyncio.sleep(self._every_seconds * random.uniform(0.75, 1.25))  # noqa: S311
            if self._clock() - self._feed.swept_at < self._every_seconds / 2:
                continue
            try:
                removed = await self.sweep()
            except (DomainError, APIError) as error:
                _LOG.warning("deletions of the state are removed later: %s", error)
            else:
                if removed:
                    _LOG.debug("%d deletions of the state were removed", removed)
