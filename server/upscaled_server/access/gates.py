"""How much of the server one caller may have at once, and how often it may ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.access.pace import next_slot
from upscaled_server.errors import CallerLimited

# Requests are counted on average over this long, so as many may come at once.
_WINDOW_SECONDS = 10.0
# When one's own work is done is not known; this is about as long as a small image takes.
_RETRY_SECONDS = 1.0


class Gates:
    """Counts what each caller has going on. Callers without a key share no limit but the server's own."""

    def __init__(self, default_concurrent: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._default_concurrent = default_concurrent
        self._clock = clock
        self._running: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def limit_of(self, caller: Caller) -> int:
        """Pieces of work it may have at once; 0 means no limit of its own."""
        return 0 if caller is ANONYMOUS else caller.max_concurrent or self._default_concurrent

    def check_rate(self, caller: Caller) -> None:
        """Count a request. Raises `CallerLimited` when it comes too early, and then does not count it."""
        rate = caller.max_requests_per_second
        if not rate:
            return
        now = self._clock()
        burst = max(1.0, rate * _WINDOW_SECONDS)
        due, early = next_slot(self._due.get(caller.name, 0.0), now, rate=rate, burst=burst)
        if early:
            raise CallerLimited(
                f"caller {caller.name} is above its {rate:g} requests per second",
                retry_after_seconds=early,
                limit_per_second=rate,
            )
        self._due[caller.name] = due

    @contextmanager
    def working(self, caller: Caller) -> Iterator[None]:
        """Around a piece of work. Raises `CallerLimited` at once when the caller has its share going on."""
        limit = self.limit_of(caller)
        running = self._running.get(caller.name, 0)
        if limit and running >= limit:
            raise CallerLimited(
                f"caller {caller.name} has {running} calls going on, which is its limit; wait for one to end",
                retry_after_seconds=_RETRY_SECONDS,
                limit=limit,
                actual=running + 1,
            )
        self._running[caller.name] = running + 1
        try:
            yield
        finally:
            left = self._running[caller.name] - 1
            if left:
                self._running[caller.name] = left
            else:
                del self._running[caller.name]

    def forget(self, name: str) -> None:
        """The caller is gone."""
        self._due.pop(name, None)
