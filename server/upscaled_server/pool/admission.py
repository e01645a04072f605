"""Who may open a run: bounded memory and a bounded number per device, and a bounded queue before them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from upscaled_server.errors import DeadlinePassed, DomainError, LimitExceeded, Overloaded, Unavailable
from upscaled_server.pool.backlog import Backlog
from upscaled_server.pool.forecast import Outlook
from upscaled_server.pool.places import BATCH_SHARE, LEFT_ALONE_SECONDS, Place, Ticket
from upscaled_server.pool.scheduler.queue import FairQueue
from upscaled_server.pool.scheduler.shares import Shares
from upscaled_server.pool.stats import QueueStats

MAX_OVERTAKEN = 16
"""A run that does not fit is passed by so many that do, and by no more."""

# How many waiting runs are looked at for one that fits.
_LOOK_AT = 16


class Admission:
    """Grants tickets: interactive before batch, callers by their shares, else first come, first served. A
    large run at the head of the queue is overtaken by those that fit beside what is open, but not for ever.

    `enter` refuses or queues and never waits; `wait` waits and never refuses, except when the pool closes or
    fails.
    """

    def __init__(
        self,
        places: list[Place],
        max_waiting: int,
        max_pending_seconds: float = math.inf,
        aging_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._max_waiting = max_waiting
        self._max_pending_seconds = max_pending_seconds
        self._clock = clock
        # Apart from the shares of units: those count what was computed, these what was promised.
        shares = Shares()
        self._queue: FairQueue[Ticket] = FairQueue(shares, aging_seconds)
        self._backlog = Backlog(places, shares)
        self._closed = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def waiting(self) -> int:
        return len(self._backlog)

    @property
    def open(self) -> int:
        return sum(len(place.tickets) for place in self._places)

    @property
    def seconds_pending(self) -> float:
        """Device seconds of everything open and waiting, divided by the devices that are up."""
        return self._backlog.seconds(self._clock())

    @property
    def limit_device_seconds(self) -> float:
        """How much of others' work, of all devices together, may be done before new work is."""
        return self._max_pending_seconds * self._backlog.devices

    def queue(self, *, batch: bool) -> QueueStats:
        """What is admitted of one class; its units are the dispatcher's."""
        now = self._clock()
        at_work, waiting = self._backlog.of_class(now, batch=batch)
        admitted = [*at_work, *waiting]
        return QueueStats(
            pixels=sum(each.pixels_left for each in admitted),
            device_seconds=sum(each.seconds_left for each in admitted),
            oldest_seconds=max((now - each.queued_at for each in waiting), default=0.0),
        )

    def position(self, ticket: Ticket) -> int:
        """0 once granted, 1 for the next in the queue. Of the same urgency the order of arrival is counted:
        among several callers it may go faster or slower.
        """
        return self._backlog.position(ticket)

    def outlook(self, ticket: Ticket) -> Outlook:
        """An estimate of when the ticket's work will begin and end: of one that waits, or would if it entered
        now.
        """
        return self._backlog.outlook(ticket, self._clock())

    def enter(self, ticket: Ticket) -> None:
        """Join the queue, and get a place if there is one. Raises `LimitExceeded` for a run that no device
        could ever hold, `Overloaded`, `Unavailable`, and `DeadlinePassed` where the seconds that it needs
        rest on measurements and say that it is in vain.
        """
        if self._closed:
            raise _stopping()
        self._check_size(ticket)
        before = self._backlog.seconds_beside(ticket, self._clock())
        self._check_deadline(ticket, before)
        self._check_pending(before)
        self._backlog.add(ticket)
        self._queue.push(ticket, self._clock())
        self.idle.clear()
        self.advance()
        if ticket.place is None and self.waiting > self._queue_limit(batch=ticket.batch):
            self.leave(ticket)
            raise self._full(batch=ticket.batch)

    def check_queue(self, coming: int, *, batch: bool) -> None:
        """Raises `Overloaded` where an image of this class, whatever it is, would find neither a place nor
        room in the queue once `coming` others have entered, which are on their way."""
        now = self._clock()
        free = sum(each.free(now) for each in self._places)
        if self.waiting + coming >= self._queue_limit(batch=batch) + free:
            raise self._full(batch=batch)

    async def wait(self, ticket: Ticket) -> Place:
        """The device that the ticket was granted on. Whatever happens, end with `leave`."""
        while True:
            done, _ = await asyncio.wait([ticket.granted], timeout=LEFT_ALONE_SECONDS)
            if done:
                return ticket.granted.result()
            # Nothing tells when a caller stops taking its rows, so those who wait look.
            self.advance()

    def leave(self, ticket: Ticket) -> None:
        """Give the ticket back: waiting, granted, or given back already."""
        self._queue.remove(ticket)
        self._backlog.discard(ticket)
        if not ticket.granted.cancel() and not ticket.granted.cancelled():
            ticket.granted.exception()  # seen: a waiter that was cancelled in the same moment did not take it
        if ticket.place is not None:
            ticket.place.tickets.discard(ticket)
        self.advance()
        if not self.waiting and not self.open:
            self.idle.set()

    def advance(self) -> None:
        """Grant what can be granted now; to be called when a device comes up."""
        now = self._clock()
        passed: list[Ticket] = []
        while len(passed) < _LOOK_AT and (ticket := self._queue.pop(now)) is not None:
            fitting = [each for each in self._places if each.has_room(ticket, now)]
            if fitting:
                self._grant(ticket, min(fitting, key=lambda each: each.seconds_left), now)
                for each in passed:
                    each.overtaken += 1
                continue
            passed.append(ticket)
            if ticket.overtaken >= MAX_OVERTAKEN and self._can_come(ticket):
                break  # what is freed from now on is for this one
        for each in passed:
            self._queue.put_back(each)

    def refuse_waiting(self, error: Callable[[], DomainError]) -> None:
        """Fail everything that waits, each with an error of its own."""
        for ticket in self._backlog:
            self._queue.remove(ticket)
            if not ticket.granted.done():
                ticket.granted.set_exception(error())
        self._backlog.clear()

    def close(self) -> None:
        """Refuse from now on, and fail what waits."""
        self._closed = True
        self.refuse_waiting(_stopping)

    def _grant(self, ticket: Ticket, place: Place, now: float) -> None:
        self._queue.charge(ticket)
        self._backlog.discard(ticket)
        ticket.place = place
        ticket.last_call = now
        place.tickets.add(ticket)
        if not ticket.granted.done():
            ticket.granted.set_result(place)

    def _can_come(self, ticket: Ticket) -> bool:
        """Whether a device that is there could hold it: others do not wait for one that is not."""
        return any(each.up and each.could_hold(ticket.needs) for each in self._places)

    def _queue_limit(self, *, batch: bool) -> int:
        """Some of the queue is not for batch work: much of it must not have interactive work refused."""
        return math.ceil(self._max_waiting * BATCH_SHARE) if batch else self._max_waiting

    def _full(self, *, batch: bool) -> Overloaded:
        return Overloaded(
            "the queue is full",
            # Not the time until all is done, but until the queue has moved on by a share of itself.
            retry_after_seconds=max(1.0, self.seconds_pending / (self.waiting + self.open + 1)),
            queued=self.waiting,
            queue_limit=self._queue_limit(batch=batch),
            seconds_pending=round(self.seconds_pending, 3),
        )

    def _check_size(self, ticket: Ticket) -> None:
        needs = ticket.needs
        if any(each.could_hold(needs) for each in self._places):
            return
        budgets = [each.budget_bytes for each in self._places if needs.only_on in (None, each.name)]
        raise LimitExceeded(
            "plan",
            "the run needs more memory than a device has for it",
            limit=max(budgets, default=0),
            actual=needs.state_bytes + needs.working_bytes,
            unit="bytes",
        )

    def _check_pending(self, before: float) -> None:
        """`before`: of longer work only as much counts as is done by turns meanwhile: one huge image must not
        have all others refused.
        """
        if before > self._max_pending_seconds:
            raise Overloaded(
                f"about {before:.0f} s of work would be done before it",
                # The devices work it off a second at a time.
                retry_after_seconds=max(1.0, before - self._max_pending_seconds),
                seconds_pending=round(before, 3),
                seconds_limit=self._max_pending_seconds,
            )

    def _check_deadline(self, ticket: Ticket, before: float) -> None:
        """Refuse what cannot be done in time even at twice the speed that was measured."""
        if ticket.deadline is None or not ticket.needs.measured:
            return
        remaining, needed = ticket.deadline - self._clock(), ticket.needs.seconds + before
        if needed > 2 * remaining:
            raise DeadlinePassed(
                f"the deadline cannot be met: about {needed:.1f} s until it is done, "
                f"{max(0.0, remaining):.1f} s left",
                estimated_seconds=round(needed, 3),
                remaining_seconds=round(remaining, 3),
            )


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping")
