"""Several cores on one image: each takes a band through the network's segments, close behind the band before.

A segment of a band can run when the same segment of the band before has (it carries that one's rows on) and
the band's own segment before has. So all cores are busy but for a segment's time at the image's beginning and
end, nothing is computed twice, and the result does not depend on who computed what.

One band more than there are threads is in flight: when a thread is held up, by whatever else the cores have
to do, the one behind it does not wait for it but begins that band.

Segments of a network that are at the result's size take most of a band's memory and little of its time. Few
bands are let into them at once: left to chance, more of them meet there the longer an image is.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from upscaled_server.engine.bands.network import Band
from upscaled_server.errors import OutOfMemory

# For each band in flight, how many may be in the large segments; these are at most a quarter of the work, so
# bands that have once waited there keep out of each other's way.
_LARGE_SHARE = 1 / 3


@dataclass(eq=False, slots=True)
class Flight:
    """A band on its way; `segment` is the next one to run. `alone`: no other is computed meanwhile."""

    band: Band
    segment: int = 0
    busy: bool = False
    alone: bool = False


class Wavefront:
    """The bands in flight. `run` does work up to a given amount with several threads and returns.

    The next `run` may begin, in another thread, before the one before has returned: threads go on from the
    work of the one to that of the other without waiting for each other.
    """

    def __init__(
        self,
        segments: int,
        compute: Callable[[Flight], None],
        begin: Callable[[], Band | None],
        *,
        large_from: int,
    ) -> None:
        """`compute` runs the next segment of a band. `begin` gives the next band, None if there is none yet;
        it is called by one thread at a time. `large_from`: the first of the segments that take most of the
        memory; `segments` where none does."""
        self._segments = segments
        self._large_from = large_from
        self._compute = compute
        self._begin = begin
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        # For callers, who are not to be woken by every segment.
        self._stopped = threading.Condition(lock)
        self._wanted = 0
        self._taken = 0
        self._done = 0
        # Those that were submitted and have not stopped; some may not have begun.
        self._threads = 0
        self._most_threads = 0
        self._exhausted = False
        self._callers: list[int] = []
        self._leaving: Callable[[], None] | None = None
        self._failure: BaseException | None = None
        self.flights: deque[Flight] = deque()

    def run(
        self, until: int, threads: int, executor: Executor, leaving: Callable[[], None] | None = None
    ) -> None:
        """Return when so many segments have been run, counted from the image's beginning, or all there are.
        At most so many bands are computed at a time. `leaving` is called when the first thread finds no more
        to do.

        Raises what `compute`, `begin` and `leaving` raise, when nothing is computed any more. Where `compute`
        raises `OutOfMemory` with others at work, it is tried again alone.
        """
        with self._changed:
            if not self._callers:
                self._failure = None
            self._exhausted = False
            self._callers.append(until)
            self._wanted = max(self._wanted, until)
            self._leaving = leaving
            self._most_threads = min(threads, self._most_threads or threads)
            more = max(0, self._most_threads - self._threads)
            self._threads += more
        try:
            # One thread too: callers are several, and what each thread used stays with it for the next time.
            self._start(more, executor)
            with self._changed:
                # No time limit of its own: a step that hangs is ended together with its process.
                self._stopped.wait_for(lambda: self._has_stopped(until))
                if self._failure is not None:
                    raise self._failure
        finally:
            with self._changed:
                self._callers.remove(until)

    def still(self) -> threading.Condition:
        """To be entered for a look at the flights: no band begins, goes on or ends meanwhile."""
        return self._changed

    def _start(self, count: int, executor: Executor) -> None:
        for number in range(count):
            try:
                executor.submit(self._work)
            except BaseException as error:  # `run` raises it, when those that did start have stopped
                with self._changed:
                    self._threads -= count - number
                    self._fail(error)
                return

    def _has_stopped(self, until: int) -> bool:
        if self._failure is None and self._done >= until:
            return True
        # Threads that have not begun, since others' work is before them in the executor, will find nothing.
        nothing_runs = self._taken == self._done
        return nothing_runs and (self._failure is not None or self._exhausted)

    def _fail(self, error: BaseException) -> None:
        """`run` raises it, in the thread that called."""
        self._failure = self._failure or error
        self._changed.notify_all()
        self._stopped.notify_all()

    def _work(self) -> None:
        while (flight := self._take()) is not None:
            try:
                self._compute(flight)
            except BaseException as error:
                with self._changed:
                    flight.busy = False
                    self._taken -= 1
                    if isinstance(error, OutOfMemory) and not flight.alone:
                        self._most_threads = 1
                        self._changed.notify_all()
                    else:
                        self._fail(error)
                continue
            with self._changed:
                flight.busy = False
                flight.segment += 1
                self._done += 1
                if flight.segment == self._segments:
                    self.flights.remove(flight)
                self._changed.notify_all()
                if self._done in self._callers:
                    self._stopped.notify_all()

    def _take(self) -> Flight | None:
        """The next work of the calling thread; None: it is to stop, and counts no more."""
        while True:
            with self._changed:
                flight = self._wait_for_work()
                if flight is not None:
                    return flight
                leaving, self._leaving = self._leaving, None
                if leaving is None or self._failure is not None:
                    self._threads -= 1
                    self._changed.notify_all()
                    self._stopped.notify_all()
                    return None
            # It may have more to do when this returns.
            try:
                leaving()
            except BaseException as error:
                with self._changed:
                    self._fail(error)

    def _wait_for_work(self) -> Flight | None:
        while True:
            nothing_left = self._taken >= self._wanted
            if nothing_left or self._failure is not None or self._threads > self._most_threads:
                return None
            try:
                flight = self._next()
            except BaseException as error:
                self._fail(error)
                return None
            if flight is not None:
                flight.busy, flight.alone = True, self._threads == 1
                self._taken += 1
                return flight
            if not any(flight.busy for flight in self.flights):
                self._exhausted = True
                return None
            self._changed.wait()

    def _next(self) -> Flight | None:
        large, most_large = self._large_from, math.ceil(self._most_threads * _LARGE_SHARE)
        inside = sum(each.segment > large or (each.segment == large and each.busy) for each in self.flights)
        before = self._segments
        for flight in self.flights:
            waits = flight.segment == large and inside >= most_large
            if not flight.busy and flight.segment < before and not waits:
                return flight
            before = flight.segment
        spare = self._most_threads > 1
        if len(self.flights) < self._most_threads + spare and before > 0:
            band = self._begin()
            if band is not None:
                self.flights.append(Flight(band))
                return self.flights[-1]
        return None
