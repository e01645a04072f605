"""Work that one of all replicas does at a time, such as deleting what has expired.

duties/NAME    who does it, as JSON

Who leads changes the entry again and again; where it stays as it is for long enough, another replica takes
it over by a compare-and-swap. Nobody compares clocks: each measures by its own how long ago it saw the entry
change, or asked for the change. So the leader, who asked before anybody could see, is always the first to
whom the time is up, and ends its work before another begins. A process that stands still in the middle, and
goes on later, may do a step that it was about to do: steps must be such that a second time does no harm.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from upscaled_server.errors import DomainError
from upscaled_server.state.nats.tasks import cancel_for_certain
from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged

_LOG = logging.getLogger(__name__)

PREFIX = "duties"

Work = Callable[[], Awaitable[None]]

# As shares of the time for which a leader that says nothing is waited for.
_RENEWED = 0.2
"""How often the entry is changed."""
_HELD = 0.8
"""When a leader that could not change it gives up; the rest is for its work to end."""
_AGAIN = 0.1
"""Between two questions to a store that does not answer."""

_GIVE_UP_SECONDS = 2.0


class Duty(Protocol):
    """Decides when this replica does a piece of work."""

    @property
    def leads(self) -> bool:
        """Whether the work is this replica's now."""

    @property
    def shared(self) -> bool:
        """Whether there may be other replicas, which bring changes that this one does not make itself."""

    async def run(self, work: Work) -> None:
        """Do the work whenever it is this replica's, and cancel it when it is not any more, for ever.

        Where the work ends by itself, so does this, and raises what the work raised.
        """


class Alone:
    """A server by itself: it leads always, and at once."""

    leads = True
    shared = False

    async def run(self, work: Work) -> None:
        await work()


class Elected:
    """One of the replicas that share the store. `owner` names this one in the entry; each `Elected` is
    another replica, whatever its name.

    A replica that is killed, or cut off from the store, is replaced after `seconds`; one that stops, at once.
    """

    shared = True

    def __init__(self, store: Store, name: str, *, owner: str = "", seconds: float = 15.0) -> None:
        self._store = store
        self._name = name
        self._key = f"{PREFIX}/{name}"
        self._term = secrets.token_hex(16)
        self._value = json.dumps({"owner": owner, "term": self._term}).encode()
        self._seconds = seconds
        self._version = 0
        self._leading = False
        self._held_until = 0.0
        """By the clock of the event loop."""

    @property
    def leads(self) -> bool:
        return self._leading and asyncio.get_running_loop().time() < self._held_until

    async def run(self, work: Work) -> None:
        try:
            while True:
                await _ended(asyncio.create_task(self._election(), name=f"election {self._name}"))
                _LOG.info("this server does the duty %s from now on", self._name)
                if await self._lead(work):
                    return
                _LOG.warning("this server does the duty %s no longer: it could not hold it", self._name)
        finally:
            await self._give_up()

    async def _election(self) -> None:
        """Until this replica leads."""
        seen, since = 0, 0.0
        loop = asyncio.get_running_loop()
        with self._store.watch(self._key) as watch:
            while True:
                try:
                    entry = await self._store.get(self._key)
                    if entry is not None and entry.version != seen:
                        seen, since = entry.version, loop.time()
                    left = 0.0 if self._is_free(entry) else since + self._seconds - loop.time()
                    if left <= 0 and await self._take(entry):
                        return
                except DomainError as error:
                    _LOG.debug("nobody is elected for %s now: %s", self._name, error.message)
                    await asyncio.sleep(self._seconds * _AGAIN)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, left)):
                        await anext(watch)

    def _is_free(self, entry: Entry | None) -> bool:
        """Nobody's, or ours: an answer may have been lost."""
        return entry is None or self._is_own(entry)

    def _is_own(self, entry: Entry) -> bool:
        return bool(json.loads(entry.value).get("term") == self._term)

    async def _take(self, entry: Entry | None) -> bool:
        """Whether nobody was faster."""
        asked = asyncio.get_running_loop().time()
        with suppress(KeyExists, VersionChanged):
            if entry is None:
                self._version = await self._store.create(self._key, self._value)
            else:
                self._version = await self._store.update(self._key, self._value, entry.version)
            self._hold_from(asked)
            return True
        return False

    def _hold_from(self, asked: float) -> None:
        self._held_until = asked + self._seconds * _HELD

    async def _lead(self, work: Work) -> bool:
        """True when the work has ended by itself, False when it had to be ended because the duty may be
        another's soon."""
        loop = asyncio.get_running_loop()
        self._leading = True
        working = asyncio.create_task(_finished(work), name=f"duty {self._name}")
        keeping = asyncio.create_task(self._keep(), name=f"hold {self._name}")
        try:
            # Whether the time is up is not left to the request that may be what is late.
            while (left := self._held_until - loop.time()) > 0:
                await asyncio.wait({working, keeping}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
                    return True
                if keeping.done():
                    break
            return False
        finally:
            self._leading = False
            await asyncio.gather(cancel_for_certain(working), cancel_for_certain(keeping))

    async def _keep(self) -> None:
        """Until the duty is somebody else's."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._seconds * _RENEWED)
        while True:
            asked = loop.time()
            try:
                self._version = await self._store.update(self._key, self._value, self._version)
                self._hold_from(asked)
                await asyncio.sleep(self._seconds * _RENEWED)
            except VersionChanged:
                if not await self._is_still_own():
                    return
            except DomainError as error:
                _LOG.debug("%s is held as long as it was: %s", self._name, error.message)
                await asyncio.sleep(self._seconds * _AGAIN)

    async def _is_still_own(self) -> bool:
        """After a change whose answer was lost, or somebody else's. What is not known yet counts as ours, as
        long as it is held."""
        with suppress(DomainError):
            entry = await self._store.get(self._key)
            if entry is None or not self._is_own(entry):
                return False
            self._version = entry.version
        return True

    async def _give_up(self) -> None:
        """Let another begin at once, if this replica led."""
        with suppress(DomainError, TimeoutError):
            async with asyncio.timeout(_GIVE_UP_SECONDS):
                entry = await self._store.get(self._key)
                if entry is not None and self._is_own(entry):
                    await self._store.delete(self._key, entry.version)


async def _finished(work: Work) -> None:
    await work()


async def _ended(task: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait([task])
        task.result()
    finally:
        await cancel_for_certain(task)
