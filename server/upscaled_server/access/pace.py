"""A rate with a burst, kept in one number: the virtual scheduling of the generic cell rate algorithm (GCRA,
ITU-T I.371), a token bucket without the bucket."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from upscaled_server.errors import KeysThrottled


def next_slot(due: float, now: float, *, rate: float, burst: float) -> tuple[float, float]:
    """(`due` after one more event, seconds for which it comes too early).

    `due` is when the events so far would all have fitted the rate (0 at first); times in seconds; `burst` is
    the number of events that may come at once.
    """
    following = max(due, now) + 1 / rate
    return following, max(0.0, following - now - burst / rate)


class Throttle:
    """How long to hold back the answer to a wrong key, by the address it came from.

    An address gets `rate` answers a second after a burst of `burst`; each further one waits its turn for up
    to `longest` seconds, so that at most `rate * longest` wait. Beyond that they are refused at once.
    Addresses are forgotten in the order of their last wrong key when there are more than `max_addresses`.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float],
        *,
        burst: float,
        longest: float = 2.0,
        max_addresses: int = 4096,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._burst = burst
        self._longest = longest
        self._max_addresses = max_addresses
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def delay(self, address: str) -> float:
        """Seconds to wait before the answer. Raises `KeysThrottled` where too many wait already."""
        now = self._clock()
        due, delay = next_slot(self._due.get(address, 0.0), now, rate=self._rate, burst=self._burst)
        if delay > self._longest:
            raise KeysThrottled(
                "too many calls without a valid key from this address; give a valid key",
                retry_after_seconds=delay,
                limit_per_second=self._rate,
            )
        self._due[address] = due
        self._due.move_to_end(address)
        if len(self._due) > self._max_addresses:
            self._due.popitem(last=False)
        return delay
