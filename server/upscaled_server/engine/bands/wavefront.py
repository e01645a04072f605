"""Several cores on one image: each takes a band through the network's segments, close behind the band before.

A segment of a band can run when the same segment of the band before has (it carries that one's rows on) and
the band's own segment before has. So all cores are busy but for a segment's time at the image's beginning and
end, nothing is computed twice, and the result does not depend on who computed what.

Segments of a network that are at the result's size take most of a band's memory and little of its time. Few
bands are let into them at once: left to chance, more of them meet there the longer an image is.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, wait
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
    """The bands in flight. `run` does a given amount of work with several threads and returns."""

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
        self._changed = threading.Condition()
        self._left = 0
        self._threads = 0
        self._most_threads = 0
        self._failure: BaseException | None = None
        self.flights: deque[Flight] = deque()

    def run(self, units: int, threads: int, executor: Executor) -> int:
        """Run this many segments, or all there are, on at most so many bands at a time; how many were left.

        Raises what `compute` and `begin` raise, after every thread has stopped. Where `compute` raises
        `OutOfMemory` with others at work, it is tried again alone.
        """
        self._left, self._failure = units, None
        self._most_threads = min(threads, self._most_threads or threads)
        self._threads = self._most_threads
        if self._threads == 1:
            self._work()
        else:
            # No time limit of its own: a step that hangs is ended together with its process.
            wait([executor.submit(self._work) for _ in range(self._threads)])
        if self._failure is not None:
            raise self._failure
        return self._left

    def _work(self) -> None:
        while (flight := self._take()) is not None:
            try:
                self._compute(flight)
            except BaseException as error:  # `run` raises it, in the thread that called
                with self._changed:
                    flight.busy = False
                    self._left += 1
                    if isinstance(error, OutOfMemory) and not flight.alone:
                        self._most_threads = 1
                    else:
                        self._failure = self._failure or error
                    self._changed.notify_all()
                continue
            with self._changed:
                flight.busy = False
                flight.segment += 1
                if flight.segment == self._segments:
                    self.flights.remove(flight)
                self._changed.notify_all()

    def _take(self) -> Flight | None:
        with self._changed:
            while True:
                if self._left == 0 or self._failure is not None or self._threads > self._most_threads:
                    break
                try:
                    flight = self._next()
                except BaseException as error:  # as above
                    self._failure = error
                    break
                if flight is not None:
                    flight.busy, flight.alone = True, self._threads == 1
                    self._left -= 1
                    return flight
                if not any(flight.busy for flight in self.flights):
                    break
                self._changed.wait()
            self._threads -= 1
            self._changed.notify_all()
            return None

    def _next(self) -> Flight | None:
        large, most_large = self._large_from, math.ceil(self._most_threads * _LARGE_SHARE)
        inside = sum(each.segment > large or (each.segment == large and each.busy) for each in self.flights)
        before = self._segments
        for flight in self.flights:
            waits = flight.segment == large and inside >= most_large
            if not flight.busy and flight.segment < before and not waits:
                return flight
            before = flight.segment
        if len(self.flights) < self._most_threads and before > 0:
            band = self._begin()
            if band is not None:
                self.flights.append(Flight(band))
                return self.flights[-1]
        return None
