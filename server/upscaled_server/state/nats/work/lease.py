"""One item that this replica has, for as long as NATS hears of it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

import nats.errors
from nats.aio.msg import Msg
from nats.js.errors import APIError

from upscaled_server.errors import DomainError
from upscaled_server.state.nats.connection import Connection
from upscaled_server.state.nats.tasks import cancel_for_certain
from upscaled_server.state.nats.work.acks import DONE, NOT_DONE, PROGRESS, acknowledge
from upscaled_server.state.nats.work.item import Item

_LOG = logging.getLogger(__name__)

_BEATS_PER_LEASE = 4
_OURS_FOR = 0.7
"""Of a lease: from then on the item counts as lost. What is left is for stopping the work before somebody
else begins it."""
_AGAIN_SECONDS = 0.2


class Lease:
    """One delivery of an item. It is prolonged until one of `done`, `again` and `drop` was called.

    Times are taken before NATS is asked: what it grants lasts longer than what is believed here. A node that
    was cut off and does not know yet that it leads no more may grant what the others do not, for some
    seconds, and a single node that is killed within some milliseconds after it handed an item out has
    forgotten that when it comes back; so who stores an outcome must still check that nobody else began anew.
    """

    def __init__(
        self,
        item: Item,
        message: Msg,
        connection: Connection,
        lease_seconds: float,
        *,
        since: float,
        ended: Callable[[Lease], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.item = item
        self.deliveries: int = message.metadata.num_delivered
        """How often the item was handed out; 1 for the first."""
        self.lost = asyncio.Event()
        """Set when the lease could not be prolonged in time: somebody else may have the item soon, so stop.
        """
        self._address = message.reply
        self._connection = connection
        self._lease_seconds = lease_seconds
        self._granted_at = since
        self._tell_ended = ended
        self._clock = clock
        self._ended = False
        self._beats = asyncio.create_task(self._prolong(), name=f"nats lease {item.id}")

    async def done(self) -> None:
        """The item is finished and never comes again; call it when its outcome is stored. Does nothing where
        the lease has ended. Raises `Unavailable` where NATS cannot be told in time: the item may come again.
        """
        if self._ended:
            return
        try:
            async with self._connection.deadline(f"{self.item.id} could not be taken from the queue"):
                await acknowledge(self._connection, self._address, DONE)
        finally:
            await self.drop()

    async def again(self, seconds: float) -> None:
        """The item comes again after that time, to anybody; after the lease where NATS cannot be told."""
        if self._ended:
            return
        # A beat that came behind it would take it back.
        await self.drop()
        delay = b" " + json.dumps({"delay": round(seconds * 1e9)}).encode() if seconds > 0 else b""
        try:
            async with self._connection.deadline(f"{self.item.id} could not be given back"):
                await acknowledge(self._connection, self._address, NOT_DONE + delay)
        except (DomainError, APIError) as error:
            _LOG.debug("%s", error)

    async def drop(self) -> None:
        """Do nothing more: the item comes again after the lease, to anybody."""
        if not self._ended:
            self._end()
            await cancel_for_certain(self._beats)

    def _end(self) -> None:
        self._ended = True
        self._tell_ended(self)

    async def _prolong(self) -> None:
        ours, every = _OURS_FOR * self._lease_seconds, self._lease_seconds / _BEATS_PER_LEASE
        while (left := self._granted_at + ours - self._clock()) > 0:
            await asyncio.sleep(min(left, max(0.0, self._granted_at + every - self._clock())))
            asked_at = self._clock()
            left = self._granted_at + ours - asked_at
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await acknowledge(self._connection, self._address, PROGRESS)
            except (DomainError, APIError, nats.errors.Error, OSError, TimeoutError) as error:
                _LOG.debug("%s could not be prolonged: %s", self.item.id, error)
                await asyncio.sleep(min(_AGAIN_SECONDS, max(0.0, left)))
            else:
                self._granted_at = asked_at
        _LOG.warning("%s is lost: it could not be prolonged within %.1f s", self.item.id, ours)
        self.lost.set()
        self._end()
