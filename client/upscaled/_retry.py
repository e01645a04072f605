"""When a call is tried again, and after how long."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass
from typing import Final

from upscaled._errors import DeadlineExceededError, InvalidOptionError, UpscaledError


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a call is tried again.

    Tried again are UNAVAILABLE, and RESOURCE_EXHAUSTED where the server names a delay; never what a second
    attempt cannot change. Before attempt n+1 the SDK waits a random time up to `initial_seconds * 2**(n-1)`,
    at most `max_seconds`, and never less than the delay the server asked for. A wait that would pass the
    deadline, or a delay above `max_asked_seconds`, is not begun: the error is raised at once.
    """

    max_retries: int = 4
    initial_seconds: float = 0.25
    max_seconds: float = 10.0
    max_asked_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.max_retries < 0 or not 0 < self.initial_seconds <= self.max_seconds < math.inf:
            raise InvalidOptionError(
                f"retries: max_retries must be 0 or more and 0 < initial_seconds <= max_seconds; got {self}"
            )

    @classmethod
    def of(cls, value: Retries | int) -> Retries:
        """Accepts a plain number of retries."""
        if isinstance(value, bool) or not isinstance(value, Retries | int):
            raise InvalidOptionError(f"retries: a number or Retries(…) is expected; got {value!r}")
        return cls(max_retries=value) if isinstance(value, int) else value


class Deadline:
    """A point in time that all attempts of one call share."""

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InvalidOptionError(f"timeout: seconds above 0, or None for no deadline; got {timeout!r}")
        endless = timeout is None or math.isinf(timeout)
        self._at: Final = None if endless or timeout is None else asyncio.get_running_loop().time() + timeout

    def left(self) -> float | None:
        """Seconds left, `None` without a deadline. Raises DeadlineExceededError when none are."""
        if self._at is None:
            return None
        left = self._at - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceededError("the timeout passed before the call could be made")
        return left

    def allows(self, seconds: float) -> bool:
        return self._at is None or asyncio.get_running_loop().time() + seconds < self._at


class Attempts:
    """Counts the attempts of one call.

    What can be taken up where it broke says so with `progressed`, and failures are counted anew. From the
    first progress on such calls have patience: for `patience_seconds` after the last one they go on trying,
    however often, so that they survive a restart of the server. `Retries` of 0 ends that too.
    """

    def __init__(self, retries: Retries, deadline: Deadline, *, patience_seconds: float = 0.0) -> None:
        self._retries = retries
        self._deadline = deadline
        self._failed = 0
        self._patience_seconds = patience_seconds
        self._patient_until: float | None = None
        self._begun = False

    def progressed(self) -> None:
        """Something arrived for good."""
        self._failed = 0
        self._patient_until = None
        self._begun = True

    async def pause(self, error: UpscaledError, *, retryable: bool = False) -> None:
        """Waits until the next attempt is due, or raises `error` when there is to be none. `retryable` says
        that another attempt can help where the error itself does not.
        """
        try:
            delay = self._next_delay(error, retryable=retryable)
            if delay is None:
                raise error
        finally:
            # The error refers to this frame: referring back, it would go only by garbage collection, and with
            # it the connection of its call.
            del error
        await asyncio.sleep(delay)

    def _next_delay(self, error: UpscaledError, *, retryable: bool) -> float | None:
        """Seconds until the next attempt; `None` when there is to be none."""
        self._failed += 1
        if not (error.retryable or retryable) or not self._allowed():
            return None
        if (error.retry_after or 0.0) > self._retries.max_asked_seconds:
            return None
        delay = self._delay(error.retry_after)
        return delay if self._deadline.allows(delay) else None

    def _allowed(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._patient_until is None:
            self._patient_until = now + self._patience_seconds
        patient = self._begun and self._retries.max_retries > 0 and now < self._patient_until
        return patient or self._failed <= self._retries.max_retries

    def _delay(self, asked: float | None) -> float:
        doubled = self._retries.initial_seconds * 2 ** min(self._failed - 1, 30)
        ceiling = min(self._retries.max_seconds, doubled)
        backoff = random.uniform(0, ceiling)
        # Callers that were refused together must not come back together: up to a tenth more than was asked.
        return max(backoff, asked * random.uniform(1.0, 1.1)) if asked is not None else backoff
