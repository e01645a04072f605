"""Who may open a run: bounded memory and a bounded number per device, and a bounded queue before them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from upscaled_server.errors import DomainError, LimitExceeded, Overloaded, Unavailable

LEFT_ALONE_SECONDS = 1.0


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
        return self.bytes_with(None)

    @property
    def seconds_left(self) -> float:
        return sum(ticket.seconds_left for ticket in self.tickets)

    def bytes_with(self, ticket: Ticket | None) -> int:
        tickets = [*self.tickets, ticket] if ticket is not None else list(self.tickets)
        return sum(each.state_bytes for each in tickets) + max(
            (each.working_bytes for each in tickets), default=0
        )

    def has_room(self, ticket: Ticket, now: float) -> bool:
        # A run whose caller does not take its rows uses memory, but no device: it keeps nobody out.
        at_work = sum(not each.left_alone(now) for each in self.tickets)
        return self.up and at_work < self.max_open and self.bytes_with(ticket) <= self.budget_bytes


@dataclass(eq=False, slots=True)
class Ticket:
    """One run's claim. `place` is None while it waits; `seconds_left` is what it still needs of a device."""

    state_bytes: int
    working_bytes: int
    seconds_left: float
    only_on: str | None
    granted: asyncio.Future[Place]
    place: Place | None = None
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


class Admission:
    """Grants tickets first come, first served: a large run at the head of the queue is not overtaken for
    ever.

    `enter` refuses or queues and never waits; `wait` waits and never refuses, except when the pool closes or
    fails.
    """

    def __init__(self, places: list[Place], max_waiting: int) -> None:
        self._places = places
        self._max_waiting = max_waiting
        self._queue: deque[Ticket] = deque()
        self._closed = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def open(self) -> int:
        return sum(len(place.tickets) for place in self._places)

    @property
    def seconds_pending(self) -> float:
        """Device seconds of everything open and waiting, divided by the devices that are up."""
        seconds = sum(place.seconds_left for place in self._places) + sum(
            each.seconds_left for each in self._queue
        )
        return seconds / max(1, sum(place.up for place in self._places))

    def position(self, ticket: Ticket) -> int:
        """0 once granted, 1 for the next in the queue."""
        return 0 if ticket.place is not None or ticket not in self._queue else self._queue.index(ticket) + 1

    def seconds_ahead(self, ticket: Ticket) -> float:
        """An estimate of how long the ticket will still wait."""
        if ticket.place is not None:
            return 0.0
        ahead = sum(place.seconds_left for place in self._places)
        for each in self._queue:
            if each is ticket:
                break
            ahead += each.seconds_left
        return ahead / max(1, sum(place.up for place in self._places))

    def enter(
        self, *, state_bytes: int, working_bytes: int, seconds: float, only_on: str | None = None
    ) -> Ticket:
        """Take a ticket. Raises `LimitExceeded` for a run that no device could ever hold, `Overloaded`,
        `Unavailable`.
        """
        if self._closed:
            raise _stopping()
        largest = max((each.budget_bytes for each in self._places if only_on in (None, each.name)), default=0)
        if state_bytes + working_bytes > largest:
            raise LimitExceeded(
                "plan",
                "the run needs more memory than a device has for it",
                limit=largest,
                actual=state_bytes + working_bytes,
                unit="bytes",
            )
        granted: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        ticket = Ticket(state_bytes, working_bytes, seconds, only_on, granted)
        self._queue.append(ticket)
        self.idle.clear()
        self.advance()
        if ticket.place is None and len(self._queue) > self._max_waiting:
            self.leave(ticket)
            raise Overloaded(
                "the queue is full",
                # Not the time until all is done, but until the queue has moved on by a share of itself.
                retry_after_seconds=max(1.0, self.seconds_pending / (len(self._queue) + self.open + 1)),
                queued=len(self._queue),
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
        if ticket in self._queue:
            self._queue.remove(ticket)
        if not ticket.granted.cancel() and not ticket.granted.cancelled():
            ticket.granted.exception()  # seen: a waiter that was cancelled in the same moment did not take it
        if ticket.place is not None:
            ticket.place.tickets.discard(ticket)
        self.advance()
        if not self._queue and not self.open:
            self.idle.set()

    def advance(self) -> None:
        """Grant what can be granted now; to be called when a device comes up."""
        now = time.monotonic()
        while self._queue:
            ticket = self._queue[0]
            fitting = [
                each
                for each in self._places
                if ticket.only_on in (None, each.name) and each.has_room(ticket, now)
            ]
            if not fitting:
                return
            self._queue.popleft()
            ticket.place = min(fitting, key=lambda each: each.seconds_left)
            ticket.place.tickets.add(ticket)
            if not ticket.granted.done():
                ticket.granted.set_result(ticket.place)

    def refuse_waiting(self, error: Callable[[], DomainError]) -> None:
        """Fail everything that waits, each with an error of its own."""
        waiting, self._queue = list(self._queue), deque()
        for ticket in waiting:
            if not ticket.granted.done():
                ticket.granted.set_exception(error())

    def close(self) -> None:
        """Refuse from now on, and fail what waits."""
        self._closed = True
        self.refuse_waiting(_stopping)


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping")
