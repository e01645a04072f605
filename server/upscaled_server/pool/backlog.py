"""The work that is open and that waits, in device seconds: what bounds and estimates rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from upscaled_server.pool.forecast import Outlook, Work, look_out
from upscaled_server.pool.places import Place, Ticket
from upscaled_server.pool.scheduler.shares import Shares


class Backlog:
    """`waiting` holds who waits in the order of arrival; interactive work goes before batch work, callers by
    their shares.
    """

    def __init__(self, places: Sequence[Place], shares: Shares) -> None:
        self._places = places
        self._shares = shares
        self._waiting: tuple[dict[Ticket, None], dict[Ticket, None]] = ({}, {})

    def __len__(self) -> int:
        return sum(map(len, self._waiting))

    def __iter__(self) -> Iterator[Ticket]:
        for waiting in self._waiting:
            yield from waiting

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._waiting[ticket.batch]

    def add(self, ticket: Ticket) -> None:
        self._waiting[ticket.batch][ticket] = None

    def discard(self, ticket: Ticket) -> None:
        self._waiting[ticket.batch].pop(ticket, None)

    def clear(self) -> None:
        for waiting in self._waiting:
            waiting.clear()

    def position(self, ticket: Ticket) -> int:
        """See `Admission.position`."""
        if ticket not in self:
            return 0
        before = len(self._waiting[0]) if ticket.batch else 0
        return before + 1 + next(n for n, each in enumerate(self._waiting[ticket.batch]) if each is ticket)

    def seconds(self, now: float) -> float:
        """Device seconds of everything, by the devices that are up."""
        everything = self._at_work(now, batch=True) + list(self)
        return sum(each.seconds_left for each in everything) / self._up

    @property
    def devices(self) -> int:
        """How many share the work: those that are up, or the one that all wait for."""
        return self._up

    def of_class(self, now: float, *, batch: bool) -> tuple[list[Ticket], list[Ticket]]:
        """Who has a place and does not leave it alone, and who waits."""
        at_work = [each for each in self._at_work(now, batch=batch) if each.batch == batch]
        return at_work, list(self._waiting[batch])

    def seconds_beside(self, ticket: Ticket, now: float) -> float:
        """How much of others' work is done before the ticket's is, when all have their steps in turn."""
        own = ticket.needs.seconds
        others = [*self._at_work(now, batch=ticket.batch), *self._waiting[0]]
        if ticket.batch:
            others += self._waiting[1]
        return sum(min(own, each.seconds_left) for each in others) / self._up

    def outlook(self, ticket: Ticket, now: float) -> Outlook:
        """For a ticket that has no place yet, be it in the queue or not."""
        first = 0.0
        if ticket.batch:  # interactive work is done before
            urgent = [*self._at_work(now, batch=False), *self._waiting[0]]
            first = sum(each.seconds_left for each in urgent) / self._up
        at_work = [each for each in self._at_work(now, batch=ticket.batch) if each.batch == ticket.batch]
        if any(place.has_room(ticket, now) for place in self._places):
            queue, places = [ticket, *self._in_turn(ticket)], len(at_work) + 1
        else:
            # Interactive work that finds batch work everywhere waits for that, though it would go first.
            at_work = at_work or self._at_work(now, batch=True)
            queue, places = self._in_turn(ticket, included=True), len(at_work)
        works = {each: _work(each) for each in (*at_work, *queue)}
        found = look_out(
            works[ticket],
            [works[each] for each in at_work],
            [works[each] for each in queue],
            places=places,
            devices=self._up,
        )
        return Outlook(first + found.begins_in_seconds, first + found.ends_in_seconds)

    def _in_turn(self, ticket: Ticket, *, included: bool = False) -> list[Ticket]:
        """Who waits in the ticket's class, by when their turns are due on the callers' common clock; with the
        ticket itself if `included`, or else without it.
        """
        waiting = self._waiting[ticket.batch]
        queue = [each for each in waiting if included or each is not ticket]
        if included and ticket not in waiting:
            queue.append(ticket)
        due, order = dict[str, float](), list[tuple[float, int, Ticket]]()
        for number, each in enumerate(queue):
            at = due.get(each.caller)
            if at is None:
                at = self._shares.start(each.caller, each.floor if each in waiting else self._shares.now)
            order.append((at, number, each))
            due[each.caller] = at + each.cost / each.weight
        return [each for _, _, each in sorted(order)]

    def _at_work(self, now: float, *, batch: bool) -> list[Ticket]:
        """Who has a place and does not leave it alone, oldest first; batch work only if asked for."""
        found = [
            each
            for place in self._places
            for each in place.tickets
            if (batch or not each.batch) and not each.left_alone(now)
        ]
        return sorted(found, key=lambda each: each.number)

    @property
    def _up(self) -> int:
        return max(1, sum(place.up for place in self._places))


def _work(ticket: Ticket) -> Work:
    return Work(ticket.seconds_left, ticket.needs.turn_seconds)
