"""When a receiver is told again: ten tries over three days, as Standard Webhooks advises."""

from __future__ import annotations

import random
from email.utils import parsedate_to_datetime

_HOUR = 3600.0
WAITS_SECONDS = (
    5.0,
    300.0,
    0.5 * _HOUR,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    18 * _HOUR,
    20 * _HOUR,
)
"""Between the ten tries: 69 hours and 35 minutes together, each a tenth longer or shorter at most, so that
receivers that came back are not met by everybody at once."""

TRIES = len(WAITS_SECONDS) + 1
LONGEST_RETRY_AFTER_SECONDS = 24 * _HOUR
_JITTER = 0.1


def next_wait(tries: int, retry_after: float | None, chance: random.Random) -> float | None:
    """Seconds until the next try after so many, None if that was the last. A receiver may ask for more time,
    within a day, not for less."""
    if tries >= TRIES:
        return None
    wait = WAITS_SECONDS[tries - 1] * chance.uniform(1 - _JITTER, 1 + _JITTER)
    return max(wait, min(retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS))


def read_retry_after(header: str, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for; None if it cannot be read."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
