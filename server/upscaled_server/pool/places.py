"""What devices offer to runs, and the tickets that hold some of it or wait for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from upscaled_server.pool.claim import Claim, Needs
from upscaled_server.pool.scheduler.entry import Entry

LEFT_ALONE_SECONDS = 1.0

BATCH_SHARE = 0.75
"""Of places, memory and the queue, batch runs leave the rest to interactive ones."""


@dataclass(eq=False, slots=True, kw_only=True)
class Ticket(Entry):
    """One image's claim. `place` is None while it waits, `seconds_left` what it still needs of a device."""

    needs: Needs
    deadline: float | None = None
    granted: asyncio.Future[Place]
    seconds_left: float = 0.0
    place: Place | None = None
    overtaken: int = 0
    calls: int = 0
    """Calls of the caller that are waiting for its runs now."""
    last_call: float = math.inf
    """When the last one ended, or the place was granted."""

    @classmethod
    def of(cls, needs: Needs, claim: Claim) -> Ticket:
        """A ticket that waits nowhere yet. Needs a running event loop."""
        late = math.inf if claim.deadline is None else claim.deadline - 2 * needs.seconds
        return cls(
            needs=needs,
            deadline=claim.deadline,
            granted=asyncio.get_running_loop().create_future(),
            seconds_left=needs.seconds,
            cost=needs.seconds,
            caller=claim.caller,
            weight=claim.weight,
            batch=claim.batch,
            latest_start=late,
        )

    def left_alone(self, now: float) -> bool:
        """Whether its caller has had rows to take, or to bring, for a while; or it has a place and is still
        waiting for something else, such as the download of its model.
        """
        return not self.calls and now - self.last_call > LEFT_ALONE_SECONDS

    @property
    def pixels_left(self) -> float:
        return self.needs.pixels * self.seconds_left / self.needs.seconds if self.needs.seconds else 0.0

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
        """The state of all runs, and the working memory of the hungriest: no more pieces than those of one
        step are computed at a time.
        """
        return _bytes(self.tickets)

    @property
    def seconds_left(self) -> float:
        return sum(ticket.seconds_left for ticket in self.tickets)

    def could_hold(self, needs: Needs) -> bool:
        """Whether it fits here when nothing else is open, be the worker there or not."""
        return needs.only_on in (None, self.name) and (
            needs.state_bytes + needs.working_bytes <= self.budget_bytes
        )

    def free(self, now: float) -> int:
        """How many more runs would have room here, if they needed no memory."""
        return max(0, self.max_open - len(self._at_work(now))) if self.up else 0

    def _at_work(self, now: float) -> list[Ticket]:
        """A run whose caller does not take its rows uses memory, but no device: it keeps nobody out."""
        return [each for each in self.tickets if not each.left_alone(now)]

    def has_room(self, ticket: Ticket, now: float) -> bool:
        if not self.up or ticket.needs.only_on not in (None, self.name):
            return False
        if _bytes({*self.tickets, ticket}) > self.budget_bytes or not self.free(now):
            return False
        at_work = self._at_work(now)
        batch = [each for each in self.tickets if each.batch]
        if not ticket.batch or not batch:
            return True
        at_work = [each for each in at_work if each.batch]
        return (
            len(at_work) < self.max_open * BATCH_SHARE
            and _bytes({*batch, ticket}) <= self.budget_bytes * BATCH_SHARE
        )


def _bytes(tickets: Iterable[Ticket]) -> int:
    needs = [each.needs for each in tickets]
    return sum(each.state_bytes for each in needs) + max((each.working_bytes for each in needs), default=0)
