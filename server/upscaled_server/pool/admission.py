"""Who may open a run: bounded memory and a bounded number per device, and a bounded queue before them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from upscaled_server.errors import DeadlinePassed, DomainError, LimitExceeded, Overloaded, Unavailable
from upscaled_server.pool.scheduler.entry import Entry
from upscaled_server.pool.scheduler.queue import FairQueue
from upscaled_server.pool.scheduler.shares import Shares

LEFT_ALONE_SECONDS = 1.0

MAX_OVERTAKEN = 16
"""A run that does not fit is passed by so many that do, and by no more."""

# How many waiting runs are looked at for one that fits.
_LOOK_AT = 16

# Of places and memory, batch runs leave so much to interactive ones.
_BATCH_SHARE = 0.75


@dataclass(eq=False, slots=True, kw_only=True)
class Ticket(Entry):
    """One run's claim. `place` is None while it waits; `seconds_left` is what it still needs of a device;
    `deadline` is a moment of `time.monotonic()`.
    """

    state_bytes: int
    working_bytes: int
    only_on: str | None = None
    deadline: float | None = None
    granted: asyncio.Future[Place]
    seconds_left: float = 0.0
    place: Place | None = None
    overtaken: int = 0
    calls: int = 0
    """Calls of the caller that are waiting for its runs now."""
    last_call: float = math.inf
    """When the last one ended."""

    def left_alone(self, now: float) -> bool:
        """Whether its caller has had rows to take, or to bring, for a while."""
        return not self.calls and now - self.last_call > LEFT_ALONE_SECONDS

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Around every call that the caller makes."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            self.last_call = time.monotonic()


@dataclass(slots=True)
class Place:
    """What a device offers, and the tickets that hold some of it. `up` is false while its worker restarts."""

    name: str
    budget_bytes: int
    max_open: int
    up: bool = False
    tickets: set[Ticket] = field(default_factory=set)

    @property
    def reserved_bytes(self) -> int:
        """The state of all runs, and the working memory of the hungriest: only one step is computed at a
        time.
        """
        return _bytes(self.tickets)

    @property
    def seconds_left(self) -> float:
        return sum(ticket.seconds_left for ticket in self.tickets)

    def has_room(self, ticket: Ticket, now: float) -> bool:
        if not self.up or _bytes({*self.tickets, ticket}) > self.budget_bytes:
            return False
        # A run whose caller does not take its rows uses memory, but no device: it keeps nobody out.
        at_work = [each for each in self.tickets if not each.left_alone(now)]
        if len(at_work) >= self.max_open:
            return False
        batch = [each for each in self.tickets if each.batch]
        if not ticket.batch or not batch:
            return True
        at_work = [each for each in at_work if each.batch]
        return (
            len(at_work) < self.max_open * _BATCH_SHARE
            and _bytes({*batch, ticket}) <= self.budget_bytes * _BATCH_SHARE
        )


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
        self._queue: FairQueue[Ticket] = FairQueue(Shares(), aging_seconds)
        # In the order in which they came, by class.
        self._waiting: tuple[dict[Ticket, None], dict[Ticket, None]] = ({}, {})
        self._closed = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting))

    @property
    def open(self) -> int:
        return sum(len(place.tickets) for place in self._places)

    @property
    def seconds_pending(self) -> float:
        """Device seconds of everything open and waiting, divided by the devices that are up."""
        return self._seconds_before(batch=True)

    def position(self, ticket: Ticket) -> int:
        """0 once granted, 1 for the next in the queue. Of the same urgency the order of arrival is counted:
        among several callers it may go faster or slower.
        """
        if ticket.place is not None or ticket not in self._waiting[ticket.batch]:
            return 0
        before = len(self._waiting[0]) if ticket.batch else 0
        return before + 1 + next(n for n, each in enumerate(self._waiting[ticket.batch]) if each is ticket)

    def seconds_ahead(self, ticket: Ticket) -> float:
        """An estimate of how long the ticket will still wait."""
        return 0.0 if self.position(ticket) == 0 else self._seconds_before(batch=ticket.batch, until=ticket)

    def enter(
        self,
        *,
        state_bytes: int,
        working_bytes: int,
        seconds: float,
        only_on: str | None = None,
        caller: str = "",
        weight: float = 1.0,
        batch: bool = False,
        deadline: float | None = None,
        measured: bool = False,
    ) -> Ticket:
        """Take a ticket. Raises `LimitExceeded` for a run that no device could ever hold, `Overloaded`,
        `Unavailable`, and `DeadlinePassed` where `seconds` rest on measurements and say that it is in vain.
        """
        if self._closed:
            raise _stopping()
        self._check_size(state_bytes + working_bytes, only_on)
        if measured and deadline is not None:
            self._check_deadline(seconds, batch, deadline)
        self._check_pending(seconds, batch)
        ticket = Ticket(
            state_bytes=state_bytes,
            working_bytes=working_bytes,
            seconds_left=seconds,
            cost=seconds,
            only_on=only_on,
            caller=caller,
            weight=weight,
            batch=batch,
            deadline=deadline,
            latest_start=math.inf if deadline is None else deadline - 2 * seconds,
            granted=asyncio.get_running_loop().create_future(),
        )
        self._waiting[batch][ticket] = None
        self._queue.push(ticket, self._clock())
        self.idle.clear()
        self.advance()
        if ticket.place is None and self.waiting > self._max_waiting:
            self.leave(ticket)
            raise Overloaded(
                "the queue is full",
                # Not the time until all is done, but until the queue has moved on by a share of itself.
                retry_after_seconds=max(1.0, self.seconds_pending / (self.waiting + self.open + 1)),
                queued=self.waiting,
                queue_limit=self._max_waiting,
                seconds_pending=round(self.seconds_pending, 3),
            )
        return ticket

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
        self._waiting[ticket.batch].pop(ticket, None)
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
            fitting = [
                each
                for each in self._places
                if ticket.only_on in (None, each.name) and each.has_room(ticket, now)
            ]
            if fitting:
                self._grant(ticket, min(fitting, key=lambda each: each.seconds_left))
                for each in passed:
                    each.overtaken += 1
                continue
            passed.append(ticket)
            if ticket.overtaken >= MAX_OVERTAKEN:
                break  # what is freed from now on is for this one
        for each in passed:
            self._queue.put_back(each)

    def refuse_waiting(self, error: Callable[[], DomainError]) -> None:
        """Fail everything that waits, each with an error of its own."""
        for waiting in self._waiting:
            for ticket in waiting:
                self._queue.remove(ticket)
                if not ticket.granted.done():
                    ticket.granted.set_exception(error())
            waiting.clear()

    def close(self) -> None:
        """Refuse from now on, and fail what waits."""
        self._closed = True
        self.refuse_waiting(_stopping)

    def _grant(self, ticket: Ticket, place: Place) -> None:
        self._queue.charge(ticket)
        self._waiting[ticket.batch].pop(ticket, None)
        ticket.place = place
        place.tickets.add(ticket)
        if not ticket.granted.done():
            ticket.granted.set_result(place)

    def _check_size(self, needed: int, only_on: str | None) -> None:
        largest = max((each.budget_bytes for each in self._places if only_on in (None, each.name)), default=0)
        if needed > largest:
            raise LimitExceeded(
                "plan",
                "the run needs more memory than a device has for it",
                limit=largest,
                actual=needed,
                unit="bytes",
            )

    def _check_pending(self, seconds: float, batch: bool) -> None:
        """Of longer work only as much counts as is done by turns meanwhile: one huge image must not have all
        others refused.
        """
        before = self._seconds_beside(seconds, batch)
        if before > self._max_pending_seconds:
            raise Overloaded(
                f"about {before:.0f} s of work would be done before it",
                # The devices work it off a second at a time.
                retry_after_seconds=max(1.0, before - self._max_pending_seconds),
                seconds_pending=round(before, 3),
                seconds_limit=self._max_pending_seconds,
            )

    def _check_deadline(self, seconds: float, batch: bool, deadline: float) -> None:
        """Refuse what cannot be done in time even at twice the speed that was measured."""
        remaining = deadline - self._clock()
        needed = seconds + self._seconds_beside(seconds, batch)
        if needed > 2 * remaining:
            raise DeadlinePassed(
                f"the deadline cannot be met: about {needed:.1f} s until it is done, "
                f"{max(0.0, remaining):.1f} s left",
                estimated_seconds=round(needed, 3),
                remaining_seconds=round(remaining, 3),
            )

    def _seconds_before(self, *, batch: bool, until: Ticket | None = None) -> float:
        """Device seconds of what goes first, by the devices that are up."""
        now = self._clock()
        seconds = sum(
            each.seconds_left
            for place in self._places
            for each in place.tickets
            if (batch or not each.batch) and not each.left_alone(now)
        )
        for waiting in self._waiting if batch else self._waiting[:1]:
            for each in waiting:
                if each is until:
                    break
                seconds += each.seconds_left
        return seconds / self._up

    def _seconds_beside(self, own: float, batch: bool) -> float:
        """How much of others' work is done before `own` seconds are, when all have their steps in turn."""
        now = self._clock()
        tickets = [
            each
            for place in self._places
            for each in place.tickets
            if (batch or not each.batch) and not each.left_alone(now)
        ]
        for waiting in self._waiting if batch else self._waiting[:1]:
            tickets += waiting
        return sum(min(own, each.seconds_left) for each in tickets) / self._up

    @property
    def _up(self) -> int:
        return max(1, sum(place.up for place in self._places))


def _bytes(tickets: set[Ticket] | list[Ticket]) -> int:
    return sum(each.state_bytes for each in tickets) + max(
        (each.working_bytes for each in tickets), default=0
    )


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping")
